"""Search for the time offset and the layout with which boxes fit the events best."""

from dataclasses import dataclass

import numpy as np

from detector.data.check.alignment.activity import Activity
from detector.data.check.alignment.layouts import STORED, all_layouts
from detector.data.check.alignment.score import BoxSet, Significance, box_scores, significance

__all__ = ["LAYOUT_NEIGHBOURHOOD", "SHIFT_NEIGHBOURHOOD", "LayoutFit", "ShiftFit", "find_layout", "find_shift"]

FARTHEST_US, COARSE_US, FINE_US = 5_000_000, 50_000, 10_000
"""Largest offset, and the steps of the coarse and the fine search, in microseconds."""

NEAR_US = 200_000
"""Half the width in microseconds of the part of the curve to which a parabola is fitted."""

SHIFT_NEIGHBOURHOOD, LAYOUT_NEIGHBOURHOOD = 2.0, 4.0
"""Sizes of the neighbourhood relative to the box.

A narrow one gives the more exact offset. A wide one also contains the events of objects for which a box is too small.
"""

SIMILAR = 0.4
"""Mean overlap (IoU) of the boxes from which two layouts count as nearly the same."""

MAX_COARSE = 1000
"""Number of boxes in the coarse search."""

NUM_BOOTSTRAPS = 50

MIN_INSIDE = 0.5
"""Share of the boxes that must remain inside the recording at an offset."""


@dataclass(frozen=True)
class ShiftFit:
    """The time offset with which boxes fit the events best.

    Args:
        shifts: (S,) tried offsets in microseconds, added to the label times; NaN scores where too few boxes remain.
        scores: (S,) mean scores of the boxes.
        best: estimated offset in microseconds.
        score: score at the best offset.
        gain: how much the score is above the score without offset.
        error: standard error of `best` in microseconds, from a bootstrap over blocks of boxes.
    """

    shifts: np.ndarray
    scores: np.ndarray
    best: int
    score: float
    gain: Significance
    error: float


@dataclass(frozen=True)
class LayoutFit:
    """The layout in which boxes fit the events best.

    Args:
        scores: mean score of the boxes by name of the layout.
        best: name of the best layout.
        gain: how much its score is above the score of the boxes as stored.
        lead: how much its score is above the score of the second-best layout, without layouts that are nearly the same
            and without the boxes as stored.
    """

    scores: dict[str, float]
    best: str
    gain: Significance
    lead: float


def find_layout(activity: Activity, boxes: BoxSet, window: int) -> LayoutFit:
    """Compute the scores of all layouts.

    Args:
        activity: counts of events.
        boxes: boxes inside the part of the recording that `activity` covers.
        window: duration in microseconds of the interval around each label time in which events count.
    """
    changed = {name: change(boxes.xywh) for name, change in all_layouts(activity.sensor_size).items()}
    values = {
        name: box_scores(activity, xywh, boxes.times, window, LAYOUT_NEIGHBOURHOOD) for name, xywh in changed.items()
    }
    scores = {name: float(value.mean()) for name, value in values.items()}
    best = max(scores, key=scores.__getitem__)
    others = [
        score
        for name, score in scores.items()
        if name not in (best, STORED) and _mean_overlap(changed[name], changed[best]) < SIMILAR
    ]
    gain = significance(values[best] - values[STORED], boxes.blocks)
    return LayoutFit(scores, best, gain, scores[best] - max(others))


def _mean_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean IoU of each box of `one` with the same box of `other`."""
    low = np.maximum(one[:, :2], other[:, :2])
    high = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    common = np.maximum(high - low, 0).prod(axis=1)
    return float(np.mean(common / (one[:, 2:].prod(axis=1) + other[:, 2:].prod(axis=1) - common)))


def find_shift(activity: Activity, boxes: BoxSet, window: int) -> ShiftFit | None:
    """Search for the best time offset, in coarse steps over the whole range and in fine steps around the best of these.

    Args:
        activity: counts of events.
        boxes: boxes, also outside the part of the recording that `activity` covers.
        window: duration in microseconds of the interval around each label time in which events count.

    Returns:
        None if the recording is too short for any offset.
    """
    some = boxes.take(np.arange(0, boxes.times.size, -(-boxes.times.size // MAX_COARSE)))
    coarse = np.arange(-FARTHEST_US, FARTHEST_US + 1, COARSE_US)
    scores = _mean(_values(activity, some, coarse, window))
    if np.isnan(scores).all():
        return None
    near = coarse[np.nanargmax(scores)]
    fine = near + np.arange(-2 * NEAR_US, 2 * NEAR_US + 1, FINE_US)
    values = _values(activity, boxes, fine, window)
    best = _peak(fine, _mean(values))
    pair = _values(activity, boxes, np.array([0.0, best]), window)
    both = np.isfinite(pair).all(axis=1)
    gain = significance(pair[both, 1] - pair[both, 0], boxes.blocks[both])
    score = float(np.nanmean(pair[:, 1])) if np.isfinite(pair[:, 1]).any() else 0.0
    return ShiftFit(coarse, scores, round(best), score, gain, _peak_error(fine, values, boxes.blocks))


def _values(activity: Activity, boxes: BoxSet, shifts: np.ndarray, window: int) -> np.ndarray:
    """Return (M, S) scores; NaN for boxes outside the recording after the shift."""
    values = np.full((boxes.times.size, shifts.size), np.nan)
    for index, shift in enumerate(shifts):
        times = boxes.times + shift
        inside = (times - window / 2 >= activity.start) & (times + window / 2 <= activity.end)
        values[inside, index] = box_scores(activity, boxes.xywh[inside], times[inside], window, SHIFT_NEIGHBOURHOOD)
    return values


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the (S,) mean scores; NaN where too few boxes are inside the recording."""
    counts = np.isfinite(values).sum(axis=0)
    means = np.nansum(values, axis=0) / np.maximum(counts, 1)
    return np.where(counts >= max(1, MIN_INSIDE * len(values)), means, np.nan)


def _peak_error(shifts: np.ndarray, values: np.ndarray, blocks: np.ndarray) -> float:
    """Return the standard deviation of the position of the maximum over random choices of blocks, with repetition."""
    _, group = np.unique(blocks, return_inverse=True)
    num_blocks = int(group.max()) + 1
    sums, counts = np.zeros((num_blocks, shifts.size)), np.zeros((num_blocks, shifts.size))
    np.add.at(sums, group, np.nan_to_num(values))
    np.add.at(counts, group, np.isfinite(values))
    chosen = np.random.default_rng(0).multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), NUM_BOOTSTRAPS)
    means = (chosen @ sums) / np.maximum(chosen @ counts, 1)
    return float(np.std([_peak(shifts, row) for row in means]))


def _peak(shifts: np.ndarray, scores: np.ndarray) -> float:
    """Return the position of the maximum: the vertex of a parabola through the values near the highest one."""
    if np.isnan(scores).all():
        return float(shifts[shifts.size // 2])
    top = float(shifts[np.nanargmax(scores)])
    near = (np.abs(shifts - top) <= NEAR_US) & np.isfinite(scores)
    if near.sum() < 3:
        return top
    a, b, _ = np.polyfit((shifts[near] - top) / NEAR_US, scores[near], 2)
    return top + NEAR_US * float(np.clip(-b / (2 * a), -0.5, 0.5)) if a < 0 else top
