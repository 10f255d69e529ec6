"""Which labelled times are evaluated, and which detections answer them."""

import numpy as np

__all__ = ["nearest_detections", "thin"]


def nearest_detections(frame_times: np.ndarray, times: np.ndarray, time_tol: int) -> tuple[np.ndarray, np.ndarray]:
    """For every frame the rows of the detection time nearest to it, within the tolerance.

    Args:
        frame_times: (F,) increasing.
        times: (D,) times of the detections in any order.
        time_tol: largest distance, itself allowed.

    Returns:
        rows (R,) of the detections and the frame (R,) each stands in.
    """
    nothing = np.zeros(0, np.int64)
    if not len(times) or not len(frame_times):
        return nothing, nothing
    order = np.argsort(times, kind="stable")
    moments, starts, counts = np.unique(times[order], return_index=True, return_counts=True)
    later = np.searchsorted(moments, frame_times).clip(max=len(moments) - 1)
    earlier = (later - 1).clip(min=0)
    nearest = np.where(np.abs(moments[later] - frame_times) <= np.abs(moments[earlier] - frame_times), later, earlier)
    counts = np.where(np.abs(moments[nearest] - frame_times) <= time_tol, counts[nearest], 0)
    frames = np.repeat(np.arange(len(frame_times)), counts)
    within = np.arange(len(frames)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[starts[nearest][frames] + within], frames


def thin(times: np.ndarray, rate: float) -> np.ndarray:
    """Of increasing times those nearest to the instants first + k / rate, at most one an instant; all if rate is -1.

    Times are rounded to the grid, because labels of "60 Hz" lie 16,666 or 16,667 us apart: waiting for a full period
    since the last one would skip more and more.
    """
    if rate == -1 or not len(times):
        return times
    period = 1e6 / rate
    instant = np.rint((times - times[0]) / period)
    distance = np.abs(times - times[0] - instant * period)
    order = np.lexsort((distance, instant))
    _, best = np.unique(instant[order], return_index=True)
    return times[order[best]]
