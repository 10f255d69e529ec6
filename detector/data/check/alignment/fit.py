"""Find labels that do not belong to their recording: the moving boxes hold no more events than their surroundings.

1. Choose the boxes that move. A moving object produces events, a parked one need not.
2. Compute their scores at the stored times. Boxes without a relation to the events score about 0.
3. Report them if the mean is significantly low, and not above the scores at other times.
"""

from pathlib import Path

import numpy as np

from detector.data.check.alignment.activity import Activity
from detector.data.check.alignment.score import Significance, box_scores, choose_boxes, significance
from detector.data.check.alignment.search import SHIFT_NEIGHBOURHOOD, ShiftFit
from detector.data.check.evidence import Curves
from detector.data.check.finding import Finding

__all__ = ["WITHOUT_EVENTS", "find_moving", "find_without_events"]

WITHOUT_EVENTS = "labels without events"
"""Kind of the finding about labels that do not belong to the recording."""

MAX_SCORE = 0.1
"""The mean score plus two standard errors is below this value in labels that do not belong to the recording.

Measured: -0.05 to 0.05 with labels of other recordings, reversed times or random positions, 0.22 to 0.8 with correct
labels, noise and moving cameras included.
"""

MIN_BLOCKS = 8
"""Smallest number of independent groups of moving boxes."""

MIN_EVENTS = 10.0
"""Smallest number of events of the recording for each box in the interval in which events count.

Below, an object may be invisible in this interval.
"""

ELSEWHERE_US, MIN_ELSEWHERE = 500_000, 10
"""Scores at offsets larger than this one show how high scores are by chance; and the smallest number of them."""

NEXT_US = (900_000, 2_000_000)
"""Shortest and longest time between two labelled times whose boxes are compared, in microseconds."""

MIN_STEP_PX, MIN_STEP = 4.0, 0.5
"""Smallest step in x or y of a moving box between these times: in pixels, and relative to the size of the box."""

MIN_MOVING = 0.25
"""Smallest share of moving boxes. A few parked objects may seem to move because their boxes are inexact."""


def find_without_events(
    path: Path, labels: np.ndarray, activity: Activity, window: int, shift: ShiftFit | None
) -> Finding | None:
    """Return a warning if the moving boxes hold no more events than their surroundings at the stored times.

    Args:
        path: path of the label file.
        labels: `BBOX_dtype`, sorted by t.
        activity: counts of the events of the file.
        window: duration in microseconds of the interval around each label time in which events count.
        shift: result of the search for an offset, None if there is none.
    """
    if shift is None or not _is_chance(shift):
        return None
    begin, end = activity.start + window / 2, activity.end - window / 2
    known = labels[(labels["t"] >= begin) & (labels["t"] <= end)]
    moving = find_moving(known)
    if moving.sum() < MIN_MOVING * known.size or not _has_events(known, activity, window):
        return None
    boxes = choose_boxes(known[moving], activity)
    score = significance(box_scores(activity, boxes.xywh, boxes.times, window, SHIFT_NEIGHBOURHOOD), boxes.blocks)
    error = abs(score.mean / score.ratio) if score.ratio else 0.0
    if score.num_blocks < MIN_BLOCKS or score.mean + 2 * error >= MAX_SCORE:
        return None
    return _finding(path, score, error, shift)


def find_moving(labels: np.ndarray) -> np.ndarray:
    """Return (M,) bool, True for boxes that move, without regard to their track ids.

    A box moves if no box is near its position at the first labelled time at least 0.9 s later.

    Args:
        labels: `BBOX_dtype` sorted by t.
    """
    x, y, w, h = (labels[name].astype(np.float64) for name in "xywh")
    centres = np.column_stack([x + w / 2, y + h / 2])
    least = np.maximum(MIN_STEP_PX, MIN_STEP * np.sqrt(np.abs(w * h)))
    times, first = np.unique(labels["t"], return_index=True)
    bounds = np.append(first, labels.size)
    moving = np.zeros(labels.size, bool)
    for index, later in enumerate(np.searchsorted(times, times + NEXT_US[0])):
        if later == times.size or times[later] - times[index] > NEXT_US[1]:
            continue
        own, others = (slice(bounds[step], bounds[step + 1]) for step in (index, later))
        steps = np.abs(centres[own, None] - centres[None, others]).max(axis=2)
        moving[own] = steps.min(axis=1) >= least[own]
    return moving


def _is_chance(shift: ShiftFit) -> bool:
    """Return whether the score at the stored times is not above all scores at other times."""
    known = np.isfinite(shift.scores)
    elsewhere = shift.scores[known & (np.abs(shift.shifts) > ELSEWHERE_US)]
    stored = shift.scores[known & (shift.shifts == 0)]
    return bool(stored.size and elsewhere.size >= MIN_ELSEWHERE and stored[0] <= elsewhere.max())


def _has_events(labels: np.ndarray, activity: Activity, window: int) -> bool:
    """Return whether the recording has enough events for each box of a labelled time."""
    num_events = float(activity.sums[-1, -1, -1]) * window / (activity.end - activity.start)
    return bool(labels.size) and num_events >= MIN_EVENTS * labels.size / np.unique(labels["t"]).size


def _finding(path: Path, score: Significance, error: float, shift: ShiftFit) -> Finding:
    curve = Curves(
        "How well the boxes enclose the events, if the labels are shifted in time",
        "time added to the labels (s)",
        "score",
        {"score of the boxes": (shift.shifts / 1e6, shift.scores)},
        {"as stored": 0.0},
    )
    return Finding(
        "warning",
        path,
        WITHOUT_EVENTS,
        f"moving boxes have a score of {score.mean:.2f} (standard error {error:.2f}), not more than at other times",
        "boxes that hold more events than their surroundings",
        "check that the label file belongs to this recording, its rate and its image size",
        (curve,),
    )
