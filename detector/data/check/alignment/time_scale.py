"""Search for a factor of the label times, which a wrong rate of images or a wrong unit of time causes.

1. Multiply the times of some boxes by every candidate, about each anchor, and compute the mean score of the boxes.
2. Around the best factor, search in small steps together with a small offset.
3. Compare the scores of the boxes with those at the stored times and at the best constant offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.data.check.alignment.activity import Activity
from detector.data.check.alignment.image_rate import USUAL_RATES
from detector.data.check.alignment.score import BoxSet, Significance, box_scores, significance
from detector.data.check.alignment.search import SHIFT_NEIGHBOURHOOD

__all__ = ["ScaleFit", "find_scale", "is_scale_fault"]

COMMON_RATES = (8, 10, 12, 12.5, 15, 20, 24, 25, 30, 50, 60, 90, 100, 120)
"""Rates of images whose ratios are tried without a known rate."""

GRID = np.exp(np.arange(-0.7, 0.7, 0.004))
"""Factors from 0.5 to 2 that are tried in addition."""

FINE = 1 + np.arange(-12, 13) / 2000
"""Factors around the best candidate."""

OFFSETS_US = np.arange(-200_000, 200_001, 50_000)
"""Offsets in microseconds that are tried together with the factors around the best candidate."""

MAX_COARSE = 600
"""Number of boxes in the search."""

MIN_INSIDE = 0.5
"""Share of the boxes that a factor must keep inside the part of the recording, or of the part that they must cover."""

ELSEWHERE = 0.06
"""Scores at factors farther from the best one, in natural logarithms, show how high scores are by chance."""

MIN_CHANGE, MIN_SCORE, MIN_BLOCKS = 0.015, 0.15, 8
"""Smallest difference of a reported factor from 1, smallest score, and smallest number of independent groups."""


@dataclass(frozen=True)
class ScaleFit:
    """The factor of the label times with which boxes fit the events best.

    Args:
        scales: (S,) tried factors, sorted.
        scores: (S,) mean scores of the boxes; NaN where too few boxes are inside the recording.
        best: estimated factor, by which the label times must be multiplied.
        score: score at the best factor.
        gain: how much the score is above the score of the boxes as stored.
        lead: how much the score is above the score at the best constant offset.
    """

    scales: np.ndarray
    scores: np.ndarray
    best: float
    score: float
    gain: Significance
    lead: Significance


def find_scale(
    activity: Activity, boxes: BoxSet, window: int, shift: int, anchors: Sequence[int], fps: float | None = None
) -> ScaleFit | None:
    """Search for the best factor of the label times.

    Args:
        activity: counts of events.
        boxes: boxes, also outside the part of the recording that `activity` covers.
        window: duration in microseconds of the interval around each label time in which events count.
        shift: best constant offset in microseconds, with which the factor is compared.
        anchors: label times in microseconds that may remain as they are, such as the start of the recording.
        fps: images per second with which image numbers became label times, None if it is not known.

    Returns:
        None if no factor keeps enough boxes inside the recording.
    """
    some = boxes.take(np.arange(0, boxes.times.size, max(1, -(-boxes.times.size // MAX_COARSE))))
    scales = _candidates(fps)
    curves = np.array([[_score(activity, some, anchor, scale, 0, window) for scale in scales] for anchor in anchors])
    if np.isnan(curves).all():
        return None
    row, column = divmod(int(np.nanargmax(curves)), scales.size)
    anchor, near = anchors[row], float(scales[column])
    fine = [(near * step, int(offset)) for step in FINE for offset in OFFSETS_US]
    found = np.array([_score(activity, some, anchor, scale, offset, window) for scale, offset in fine])
    best, offset = fine[int(np.nanargmax(found))]
    values = _values(activity, boxes, _scaled(boxes, anchor, best) + offset, window)
    others = [_values(activity, boxes, boxes.times + moved, window) for moved in (0, shift)]
    both = [np.isfinite(values) & np.isfinite(other) for other in others]
    gain, lead = (
        significance((values - other)[rows], boxes.blocks[rows]) for other, rows in zip(others, both, strict=True)
    )
    return ScaleFit(scales, curves[row], best, float(np.nanmean(values)), gain, lead)


def is_scale_fault(fit: ScaleFit, shift_score: float) -> bool:
    """Return whether a factor is large, exact and unique enough to be reported.

    Args:
        fit: result of the search.
        shift_score: highest score at a constant offset.
    """
    distances = np.abs(np.log(fit.scales / fit.best))
    elsewhere = fit.scores[(distances > ELSEWHERE) & np.isfinite(fit.scores)]
    if abs(fit.best - 1) < MIN_CHANGE or elsewhere.size < 10:
        return False
    median = np.median(elsewhere)
    spread = 1.48 * np.median(np.abs(elsewhere - median))
    is_unique = fit.score >= max(1.5 * elsewhere.max(), median + 5 * max(spread, 0.01), 1.25 * shift_score)
    is_better = all(
        found.mean >= 0.2 * fit.score and found.ratio >= 4.0 and found.num_blocks >= MIN_BLOCKS
        for found in (fit.gain, fit.lead)
    )
    return bool(is_unique and is_better and fit.score >= MIN_SCORE)


def _candidates(fps: float | None) -> np.ndarray:
    """Return the factors to try: ratios of usual rates and a grid around 1, sorted."""
    ratios = [one / other for one in COMMON_RATES for other in COMMON_RATES]
    own = [] if fps is None else [fps / rate for rate in USUAL_RATES]
    return np.unique(np.round([*ratios, *own, *GRID], 6))


def _scaled(boxes: BoxSet, anchor: int, scale: float) -> np.ndarray:
    return anchor + (boxes.times - anchor) * scale


def _score(activity: Activity, boxes: BoxSet, anchor: int, scale: float, offset: int, window: int) -> float:
    """Return the mean score of the boxes; NaN if few are inside and these cover a small part of the recording."""
    times = _scaled(boxes, anchor, scale) + offset
    values = _values(activity, boxes, times, window)
    inside = np.isfinite(values)
    if not inside.any():
        return np.nan
    covered = np.ptp(times[inside]) / (activity.end - activity.start)
    return float(values[inside].mean()) if max(inside.mean(), covered) >= MIN_INSIDE else np.nan


def _values(activity: Activity, boxes: BoxSet, times: np.ndarray, window: int) -> np.ndarray:
    """Return (M,) scores; NaN for boxes whose times are outside the part of the recording."""
    inside = (times - window / 2 >= activity.start) & (times + window / 2 <= activity.end)
    values = np.full(times.size, np.nan)
    values[inside] = box_scores(activity, boxes.xywh[inside], times[inside], window, SHIFT_NEIGHBOURHOOD)
    return values
