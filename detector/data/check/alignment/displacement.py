"""Search for a displacement of the boxes that explains the events as well as a time offset.

The events of a moving object can come from one of its edges, for example if most events have one polarity, if only the
headlights of a car are visible, or if the leading edge has more contrast. The boxes then seem to be late or early,
although their times are correct. Boxes that are displaced in one direction of motion seem so too.
"""

from dataclasses import dataclass

import numpy as np

from detector.data.check.alignment.activity import Activity
from detector.data.check.alignment.score import BoxSet, Significance, box_scores, significance
from detector.data.check.alignment.search import SHIFT_NEIGHBOURHOOD

__all__ = ["Displacement", "find_constant", "find_edge"]

COARSE_PX, FINE_PX = (-32, -24, -16, -12, -8, -4, 0, 4, 8, 12, 16, 24, 32), (-3, -2, -1, 0, 1, 2, 3)
"""Tried displacements in x and in y, and steps around the best one, in pixels."""

EDGE_SHARES = (-0.6, -0.5, -0.4, -0.3, -0.2, -0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Tried displacements along the motion, relative to the width and height of a box."""

MAX_BOXES = 600


@dataclass(frozen=True)
class Displacement:
    """The best displacement of a kind.

    Args:
        move: (2,) displacement in x and y in pixels, or as a share of width and height along the motion.
        score: mean score of the displaced boxes.
        gain: how much it is above the score of the boxes as stored.
        lead: how much it is above the score of the boxes at the other time; negative if the time offset is better.
    """

    move: tuple[float, float]
    score: float
    gain: Significance
    lead: Significance


def find_constant(activity: Activity, boxes: BoxSet, window: int, shift: int) -> Displacement:
    """Search for the best displacement that is equal for all boxes.

    Args:
        activity: counts of events.
        boxes: boxes inside the part of the recording that `activity` covers.
        window: duration in microseconds of the interval around each label time in which events count.
        shift: time offset in microseconds with which the displacement is compared.
    """
    some = _some(boxes)
    coarse = [(float(dx), float(dy)) for dx in COARSE_PX for dy in COARSE_PX]
    x, y = max(coarse, key=lambda move: _score(activity, some, np.array(move), window))
    fine = [(x + dx, y + dy) for dx in FINE_PX for dy in FINE_PX]
    best = max(fine, key=lambda move: _score(activity, some, np.array(move), window))
    return _compare(activity, some, best, np.array(best), window, shift)


def find_edge(activity: Activity, boxes: BoxSet, window: int, shift: int) -> Displacement:
    """Search for the best displacement along the motion, in shares of the box size. Arguments: see `find_constant`."""
    some = _some(boxes)
    direction = some.motion * some.xywh[:, 2:]
    best = max(EDGE_SHARES, key=lambda share: _score(activity, some, share * direction, window))
    return _compare(activity, some, (best, best), best * direction, window, shift)


def _some(boxes: BoxSet) -> BoxSet:
    return boxes.take(np.arange(0, boxes.times.size, max(1, -(-boxes.times.size // MAX_BOXES))))


def _values(activity: Activity, boxes: BoxSet, moves: np.ndarray, times: np.ndarray, window: int) -> np.ndarray:
    moved = np.hstack([boxes.xywh[:, :2] + moves, boxes.xywh[:, 2:]])
    return box_scores(activity, moved, times, window, SHIFT_NEIGHBOURHOOD)


def _score(activity: Activity, boxes: BoxSet, moves: np.ndarray, window: int) -> float:
    return float(_values(activity, boxes, moves, boxes.times, window).mean())


def _compare(
    activity: Activity, boxes: BoxSet, move: tuple[float, float], moves: np.ndarray, window: int, shift: int
) -> Displacement:
    values = _values(activity, boxes, moves, boxes.times, window)
    stored = _values(activity, boxes, np.zeros(2), boxes.times, window)
    times = boxes.times + shift
    inside = (times - window / 2 >= activity.start) & (times + window / 2 <= activity.end)
    shifted = _values(activity, boxes, np.zeros(2), times, window)
    lead = significance((values - shifted)[inside], boxes.blocks[inside])
    return Displacement(move, float(values.mean()), significance(values - stored, boxes.blocks), lead)
