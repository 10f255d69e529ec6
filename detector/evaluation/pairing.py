"""Select the labelled times that are evaluated, and assign detections to them."""

from typing import NamedTuple

import numpy as np

from detector.events.frames import Frames

__all__ = ["SAME_TIME_US", "Pairing", "pair_by_frame", "pair_by_time", "thin", "whole_numbers"]

SAME_TIME_US = 1_000
"""Largest distance in microseconds at which a detection has the time of a label, if frames are not known."""


class Pairing(NamedTuple):
    """The evaluated frames F of a recording.

    Args:
        times: (F,) increasing label times in microseconds.
        labels: (M,) evaluated frame of each label; -1 for none.
        detections: (D,) evaluated frame of each detection; -1 for none.
        outside: (M,) bool, whether each label is outside of the recording.
        shared: number of label times that were left out because their detections are assigned to a later one.
    """

    times: np.ndarray
    labels: np.ndarray
    detections: np.ndarray
    outside: np.ndarray
    shared: int


def pair_by_frame(label_times: np.ndarray, detection_times: np.ndarray, moments: np.ndarray, frames: Frames) -> Pairing:
    """Pair by frame: the last labelled time of a frame gets the detections of that frame.

    Args:
        label_times: (M,) times of all labels.
        detection_times: (D,) times of all detections.
        moments: increasing label times that are considered, see `thin`.
        frames: frames of the stream in which the detections were made.
    """
    numbers = frames.find(moments)
    last = (numbers >= 0) & np.append(numbers[1:] != numbers[:-1], True)[: len(numbers)]
    times, numbers = moments[last], numbers[last]
    outside = frames.find(label_times) < 0
    return Pairing(times, _find(label_times, times), _find(frames.find(detection_times), numbers), outside, 0)


def pair_by_time(label_times: np.ndarray, detection_times: np.ndarray, moments: np.ndarray, time_tol: int) -> Pairing:
    """Pair by time, for detections whose frames are not known.

    A label at t gets the nearest detection time within `SAME_TIME_US`, otherwise the first one in (t, t + time_tol],
    otherwise the last one in [t - time_tol, t). Of label times with the same detection time the last counts.

    Args:
        label_times: (M,) times of all labels.
        detection_times: (D,) times of all detections.
        moments: increasing label times that are considered, see `thin`.
        time_tol: largest distance in microseconds, inclusive.
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
    """Select the increasing times nearest to the instants first + k / rate, one per instant; all if rate is -1.

    Times are rounded to a grid, because labels at 60 Hz are 16,666 or 16,667 us apart: waiting for a full period since
    the last time would skip more and more labels.
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

    Raises:
        ValueError: a value is not a whole number, or too large for int64.
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
    """Index of each value among increasing keys, -1 for values that are not among them."""
    if not len(keys):
        return np.full(len(values), -1)
    index = np.searchsorted(keys, values).clip(max=len(keys) - 1)
    return np.where(keys[index] == values, index, -1)
