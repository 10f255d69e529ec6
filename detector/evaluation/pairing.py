"""Which labelled times are evaluated, and which detections answer them."""

from typing import NamedTuple

import numpy as np

from detector.events.frames import Frames

__all__ = ["SAME_TIME_US", "Pairing", "pair_by_frame", "pair_by_time", "thin", "whole_numbers"]

SAME_TIME_US = 1_000
"""Detections this close to a label, in microseconds, are those of its time where frames are not known."""


class Pairing(NamedTuple):
    """The evaluated frames F of a recording.

    Args:
        times: (F,) increasing label times in microseconds.
        labels: (M,) evaluated frame of each label; -1 for none.
        detections: (D,) likewise for the detections.
        outside: (M,) bool, labels outside of the recording.
        shared: label times that were left out because their detections answer a later one.
    """

    times: np.ndarray
    labels: np.ndarray
    detections: np.ndarray
    outside: np.ndarray
    shared: int


def pair_by_frame(label_times: np.ndarray, detection_times: np.ndarray, moments: np.ndarray, frames: Frames) -> Pairing:
    """Pair by frame: what was labelled last in a frame is answered by the detections of that frame.

    Args:
        label_times: (M,) of all labels.
        detection_times: (D,) of all detections.
        moments: increasing label times that are considered, see `thin`.
        frames: of the stream that the detections were made from.
    """
    numbers = frames.find(moments)
    last = (numbers >= 0) & np.append(numbers[1:] != numbers[:-1], True)[: len(numbers)]
    times, numbers = moments[last], numbers[last]
    outside = frames.find(label_times) < 0
    return Pairing(times, _find(label_times, times), _find(frames.find(detection_times), numbers), outside, 0)


def pair_by_time(label_times: np.ndarray, detection_times: np.ndarray, moments: np.ndarray, time_tol: int) -> Pairing:
    """Pair by time, for detections whose frames are not known.

    A label at t is answered by the detection time nearest to it within `SAME_TIME_US`, else by the first one in
    (t, t + time_tol], else by the last one in [t - time_tol, t). Of label times with one answer the last counts.

    Args:
        label_times: (M,) of all labels.
        detection_times: (D,) of all detections.
        moments: increasing label times that are considered, see `thin`.
        time_tol: largest distance in microseconds, itself allowed.
    """
    answers, far = np.unique(detection_times), np.iinfo(np.int64).max
    later = np.searchsorted(answers, moments)
    padded = np.concatenate([[0], answers, [0]])
    after = np.where(later < len(answers), padded[later + 1] - moments, far)
    before = np.where(later > 0, moments - padded[later], far)
    same = np.minimum(after, before) <= min(SAME_TIME_US, time_tol)
    take_later = np.where(same, after <= before, after <= time_tol)
    answered = same | (np.minimum(after, before) <= time_tol)
    answer = np.where(answered, np.where(take_later, later, later - 1), -1)
    last = ~answered
    last[len(answer) - 1 - np.unique(answer[::-1], return_index=True)[1]] = True
    times, answer = moments[last], answer[last]
    of_answer = np.full(len(answers) + 1, -1)
    of_answer[answer[answer >= 0]] = np.flatnonzero(answer >= 0)
    detections = of_answer[np.searchsorted(answers, detection_times)]
    return Pairing(
        times, _find(label_times, times), detections, np.zeros(len(label_times), bool), len(moments) - len(times)
    )


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


def whole_numbers(argument: str, rows: np.ndarray, name: str) -> np.ndarray:
    """(M,) int64 values of a field of boxes, such as times.

    Raises:
        ValueError: a value is no whole number, or too large for int64.
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
    """Index of each value among increasing keys, -1 where it is not one of them."""
    if not len(keys):
        return np.full(len(values), -1)
    place = np.searchsorted(keys, values).clip(max=len(keys) - 1)
    return np.where(keys[place] == values, place, -1)
