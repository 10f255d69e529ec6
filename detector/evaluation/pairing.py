"""Selection of the label times that are evaluated, and assignment of labels and detections to these times."""

from typing import NamedTuple

import numpy as np

from detector.events.frames import Frames

__all__ = ["SAME_TIME_US", "Pairing", "pair_by_frame", "pair_by_time", "thin", "whole_numbers"]

SAME_TIME_US = 1_000
"""Largest difference in microseconds at which the times of a label and a detection count as the same.

Used only if frames are not known.
"""


class Pairing(NamedTuple):
    """The F evaluated frames of a recording, and the frame of each label and detection.

    Args:
        times: (F,) time of the labels of each evaluated frame in microseconds, increasing.
        labels: (M,) index of the evaluated frame of each label; -1 for labels in no evaluated frame.
        detections: (D,) index of the evaluated frame of each detection; -1 for detections in no evaluated frame.
        outside: (M,) bool, whether the time of each label is outside of the recording.
        shared: number of label times that were left out because a later label time has the same detections.
    """

    times: np.ndarray
    labels: np.ndarray
    detections: np.ndarray
    outside: np.ndarray
    shared: int


def pair_by_frame(
    label_times: np.ndarray, detection_times: np.ndarray, candidates: np.ndarray, frames: Frames
) -> Pairing:
    """Pair labels with the detections in the same frame.

    If a frame has several label times, only the last one is evaluated.

    Args:
        label_times: (M,) times of all labels in microseconds.
        detection_times: (D,) times of all detections in microseconds.
        candidates: increasing label times. Only these may be evaluated; `thin` selects them.
        frames: frames of the stream in which the detections were made.
    """
    numbers = frames.find(candidates)
    last = (numbers >= 0) & np.append(numbers[1:] != numbers[:-1], True)[: len(numbers)]
    times, numbers = candidates[last], numbers[last]
    outside = frames.find(label_times) < 0
    return Pairing(times, _find(label_times, times), _find(frames.find(detection_times), numbers), outside, 0)


def pair_by_time(
    label_times: np.ndarray, detection_times: np.ndarray, candidates: np.ndarray, time_tol: int
) -> Pairing:
    """Pair labels with detections by time, for detections whose frames are not known.

    A label time t is paired with one detection time, by the first rule that finds one:

    1. the nearest detection time, if it differs by at most `SAME_TIME_US` (1 ms)
    2. the first detection time in (t, t + time_tol]
    3. the last detection time in [t - time_tol, t)

    If several label times are paired with the same detection time, only the last of them is evaluated. A label time
    without a detection time is evaluated, too.

    Args:
        label_times: (M,) times of all labels in microseconds.
        detection_times: (D,) times of all detections in microseconds.
        candidates: increasing label times. Only these may be evaluated; `thin` selects them.
        time_tol: largest time between a label and its detections in microseconds, inclusive.
    """
    answers, far = np.unique(detection_times), np.iinfo(np.int64).max
    later = np.searchsorted(answers, candidates)
    padded = np.concatenate([[0], answers, [0]])
    after = np.where(later < len(answers), padded[later + 1] - candidates, far)
    before = np.where(later > 0, candidates - padded[later], far)
    same = np.minimum(after, before) <= min(SAME_TIME_US, time_tol)
    take_later = np.where(same, after <= before, after <= time_tol)
    answered = same | (np.minimum(after, before) <= time_tol)
    answer = np.where(answered, np.where(take_later, later, later - 1), -1)
    last = ~answered
    last[len(answer) - 1 - np.unique(answer[::-1], return_index=True)[1]] = True
    times, answer = candidates[last], answer[last]
    of_answer = np.full(len(answers) + 1, -1)
    of_answer[answer[answer >= 0]] = np.flatnonzero(answer >= 0)
    detections = of_answer[np.searchsorted(answers, detection_times)]
    return Pairing(
        times, _find(label_times, times), detections, np.zeros(len(label_times), bool), len(candidates) - len(times)
    )


def thin(times: np.ndarray, rate: float) -> np.ndarray:
    """Select times at a rate: for each point of a regular grid, the time that is nearest to this point.

    The grid starts at the first time. A point is skipped if all times are nearer to other points. A minimum distance
    between selected times would not work: labels at 60 Hz are 16,666 or 16,667 us apart.

    Args:
        times: increasing times in microseconds.
        rate: grid points per second; -1 to select all times.
    """
    if rate == -1 or not len(times):
        return times
    period = 1e6 / rate
    instant = np.rint((times - times[0]) / period)
    distance = np.abs(times - times[0] - instant * period)
    order = np.lexsort((distance, instant))
    _, best = np.unique(instant[order], return_index=True)
    return times[order[best]]


def whole_numbers(argument: str, rows: np.ndarray, name: str) -> np.ndarray:
    """Convert a field of boxes, such as times, to (M,) int64 values.

    Args:
        argument: name of the checked argument, for the error message.
        rows: (M,) structured boxes.
        name: name of the field.

    Raises:
        ValueError: a value is not a whole number, or is too large for int64.
    """
    values = rows[name]
    if values.dtype.kind == "f":
        wrong = ~((values == np.floor(values)) & (np.abs(values) < 2.0**63))
    else:
        wrong = values > np.iinfo(np.int64).max
    if wrong.any():
        row = int(np.argmax(wrong))
        unit = " of microseconds; multiply seconds by 1e6 and round" if name == "t" else ""
        raise ValueError(f"{argument}: got {name} = {values[row]} in row {row}, allowed: whole numbers{unit}")
    return values.astype(np.int64)


def _find(values: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the index of each value in the increasing `keys`; -1 for values that are not in `keys`."""
    if not len(keys):
        return np.full(len(values), -1)
    index = np.searchsorted(keys, values).clip(max=len(keys) - 1)
    return np.where(keys[index] == values, index, -1)
