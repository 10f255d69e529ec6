"""Findings about boxes that do not fit the events of their file."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.data.check.alignment.activity import Activity
from detector.data.check.alignment.displacement import Displacement, find_constant, find_edge
from detector.data.check.alignment.fit import find_without_events
from detector.data.check.alignment.image_rate import interval_text, nearest_rate
from detector.data.check.alignment.layouts import STORED, all_layouts
from detector.data.check.alignment.score import MAX_BOXES, BoxSet, box_scores, choose_boxes, is_large
from detector.data.check.alignment.search import LAYOUT_NEIGHBOURHOOD, LayoutFit, ShiftFit, find_layout, find_shift
from detector.data.check.alignment.time_scale import ScaleFit, find_scale, is_scale_fault
from detector.data.check.evidence import Bars, Curves, PixelMap
from detector.data.check.finding import Finding, Severity

__all__ = [
    "SCALED",
    "SHIFTED",
    "Alignment",
    "check_alignment",
    "is_displaced",
    "is_edge",
    "is_layout_fault",
    "is_shift_fault",
]

SHIFTED, SCALED = "labels shifted in time", "label times scaled"
"""Kinds of the findings about an offset and about a factor of the label times."""

SAME_SCALE = 0.005
"""Relative difference between an estimated rate of images and a usual one, up to which the usual one is reported."""

ONE_SIDED = (
    "but most events have one polarity, so that the offset may be that of an edge of the objects: see the figure"
)

ONE_EDGE = "but the events fit boxes of the stored times as well, if one edge of the moving objects sends most of them"

MIN_EDGE_SHARE, MIN_EDGE_RATIO = 0.4, -2.0
"""Displacement of boxes along their motion, relative to their size, from which an offset may be that of an edge.

The second value is the smallest significance of its score above the score at the offset.
"""

MIN_MOVE_PX, MIN_LEAD = 2.0, 0.1
"""Smallest constant displacement that is reported, in pixels.

The second value is the share by which its score is above the scores of a time offset and of a displacement along the
motion.
"""

MIN_SHIFT_US = 50_000
"""Smallest time offset that is reported.

Correct labels can be off by half the time in which their events are collected.
"""

MAX_ERRORS_US, MAX_ERROR_SHARE = (20_000, 60_000), 0.1
"""Largest standard error of a reported offset: a share of the offset, but within these limits in microseconds."""

LARGE_SHIFT_US, MIN_RATIOS = 500_000, (2.0, 3.0)
"""Offset from which a higher significance is required, because there are more of such offsets, and both values."""

MIN_SCORE = 0.1
"""Smallest score at the reported offset or layout. Boxes without a relation to the events score -0.1 to 0.05."""

MIN_BLOCKS, MIN_BLOCKS_OF_SIZE = 8, 30
"""Smallest number of independent groups of boxes, in general and for a statement about the sizes of boxes."""

FIGURE_WINDOW_US = 100_000
ELSEWHERE_US = 500_000
"""Scores at offsets farther from the best one than this show how high scores are by chance."""


class Alignment(NamedTuple):
    """Result of the comparison of boxes with events.

    Args:
        findings: faults of the times and positions of the boxes.
        fits: whether the boxes fit the events at the stored times, and much worse at other times. False if this could
            not be determined.
    """

    findings: list[Finding]
    fits: bool


def check_alignment(
    path: Path,
    labels: np.ndarray,
    activity: Activity,
    offset: int = 0,
    *,
    one_sided: bool = False,
    start: int | None = None,
    fps: float | None = None,
) -> Alignment:
    """Find a factor or an offset of the times, a layout such as mirrored or swapped axes, or a constant displacement.

    If there is none of these, moving boxes without events are a warning. Nothing is found where it cannot be known: in
    static scenes, with few labels, or if no factor, offset or layout is much better than all others.

    Args:
        path: path of the label file.
        labels: `BBOX_dtype` without frame labels of class "empty", in sensor pixels.
        activity: counts of the events of the file.
        offset: microseconds that were already added to the times of `labels`, with --label_offset.
        one_sided: whether most events have one polarity. An offset is then only a warning.
        start: start of the file in microseconds; by default, the start of `activity`.
        fps: images per second with which image numbers became label times; None for labels with times.
    """
    window = max(FIGURE_WINDOW_US, 2 * activity.step)
    boxes = choose_boxes(labels, activity)
    enough = np.unique(boxes.blocks).size >= MIN_BLOCKS
    shift = find_shift(activity, boxes, window) if enough else None
    fits = shift is not None and _is_unique(shift) and abs(shift.best) <= max(MIN_SHIFT_US, 1.5 * activity.step)
    if not fits:
        scaled = _find_scale(labels, activity, shift, (activity.start if start is None else start) + offset, fps)
        if scaled is not None:
            return Alignment([_scale_finding(path, scaled, shift, fps)], fits=False)
    if not enough:
        return Alignment([], fits=False)
    found = next(_check_places(path, boxes, activity, shift, offset, one_sided=one_sided, fps=fps), None)
    if found is None and not fits:
        found = find_without_events(path, labels, activity, window, shift)
    return Alignment([] if found is None else [found], fits and found is None)


def _find_scale(
    labels: np.ndarray, activity: Activity, shift: ShiftFit | None, start: int, fps: float | None
) -> ScaleFit | None:
    """Return the best factor of the label times if it is a fault.

    The start of the file keeps its time. For a part of a recording, it may be the start of the recording, at 0.
    """
    large = np.flatnonzero(is_large(labels, activity))
    boxes = BoxSet.of(labels).take(large[:: -(-large.size // MAX_BOXES) or 1])
    if np.unique(boxes.blocks).size < MIN_BLOCKS:
        return None
    window = max(FIGURE_WINDOW_US, 2 * activity.step)
    found = find_scale(activity, boxes, window, 0 if shift is None else shift.best, sorted({0, start}), fps)
    is_fault = found is not None and is_scale_fault(found, 0.0 if shift is None else shift.score)
    return found if is_fault else None


def _check_places(
    path: Path,
    boxes: BoxSet,
    activity: Activity,
    shift: ShiftFit | None,
    offset: int,
    *,
    one_sided: bool,
    fps: float | None,
) -> Iterator[Finding]:
    """Yield the finding about an offset, a displacement or a layout. Arguments: see `check_alignment`."""
    window = max(FIGURE_WINDOW_US, 2 * activity.step)
    inside = boxes.take((boxes.times - window / 2 >= activity.start) & (boxes.times + window / 2 <= activity.end))
    is_known = np.unique(inside.blocks).size >= MIN_BLOCKS
    offset_us = shift.best if shift is not None else 0
    moved = find_constant(activity, inside, window, offset_us) if is_known else None
    displaced = moved is not None and is_displaced(moved)
    if shift is not None and is_shift_fault(shift, activity.step) and not displaced:
        found = _shift_finding(path, shift, boxes, activity, offset, fps)
        yield _with_doubts(found, one_sided, inside, shift, activity)
        return
    if moved is None:
        return
    layout = find_layout(activity, inside, window)
    if displaced:
        corrected = inside.xywh + (*moved.move, 0, 0)
        score = box_scores(activity, corrected, inside.times, window, LAYOUT_NEIGHBOURHOOD).mean()
        edge = find_edge(activity, inside, window, offset_us)
        if score > layout.scores[layout.best] and edge.score <= (1 - MIN_LEAD) * moved.score:
            yield _displacement_finding(path, moved, inside, activity)
            return
    if is_layout_fault(layout):
        yield _layout_finding(path, layout, inside, activity)


def is_displaced(found: Displacement) -> bool:
    """Return whether a constant displacement explains the events much better than a time offset does."""
    return (
        float(np.hypot(*found.move)) >= MIN_MOVE_PX
        and found.score >= MIN_SCORE
        and found.gain.mean >= 0.3 * found.score
        and found.lead.mean >= MIN_LEAD * found.score
        and found.gain.ratio >= 4.0
        and found.lead.ratio >= 3.0
        and found.gain.num_blocks >= MIN_BLOCKS
    )


def is_edge(found: Displacement) -> bool:
    """Return whether events at one edge of the moving objects explain the events as well as a time offset does."""
    return abs(found.move[0]) >= MIN_EDGE_SHARE and found.lead.ratio >= MIN_EDGE_RATIO and found.lead.num_blocks > 1


def is_shift_fault(fit: ShiftFit, step: int) -> bool:
    """Return whether an offset is large, exact and unique enough to be reported.

    Args:
        fit: result of the search.
        step: duration in microseconds of a time step of the counts. Offsets below 1.5 steps of frames are not reported.
    """
    size = abs(fit.best)
    if size < max(MIN_SHIFT_US, 1.5 * step) or not _is_unique(fit):
        return False
    is_exact = fit.error <= np.clip(MAX_ERROR_SHARE * size, *MAX_ERRORS_US) and size >= 5 * fit.error
    is_large = size - 3 * fit.error >= 0.9 * MIN_SHIFT_US
    is_better = fit.gain.mean >= 0.025 * fit.score and fit.gain.num_blocks >= MIN_BLOCKS
    is_better = is_better and fit.gain.ratio >= MIN_RATIOS[size >= LARGE_SHIFT_US]
    return bool(is_exact and is_large and is_better)


def _is_unique(fit: ShiftFit) -> bool:
    """Return whether boxes enclose events at the best offset, and clearly less at all offsets far from it."""
    elsewhere = fit.scores[(np.abs(fit.shifts - fit.best) > ELSEWHERE_US) & np.isfinite(fit.scores)]
    if elsewhere.size < 10:
        return False
    median = np.median(elsewhere)
    spread = 1.48 * np.median(np.abs(elsewhere - median))
    return bool(fit.score >= max(1.5 * elsewhere.max(), median + 5 * max(spread, 0.01), MIN_SCORE))


def is_layout_fault(fit: LayoutFit) -> bool:
    """Return whether another layout is so much better than the boxes as stored that it is reported."""
    if fit.best == STORED:
        return False
    score, gain = fit.scores[fit.best], fit.gain
    # Loose boxes are no fault, and boxes at a wrong time seem too small: a wrong size needs more evidence.
    is_size = fit.best.startswith("w, h")
    least_gain, least_ratio, least_lead = (0.2, 4.5, 0.25) if is_size else (0.3, 4.0, 0.2)
    is_better = gain.mean >= least_gain * score and gain.ratio >= least_ratio and fit.lead >= least_lead * score
    return is_better and score >= 1.5 * MIN_SCORE and gain.num_blocks >= (MIN_BLOCKS_OF_SIZE if is_size else MIN_BLOCKS)


def _scale_finding(path: Path, fit: ScaleFit, shift: ShiftFit | None, fps: float | None) -> Finding:
    side, factor = ("short", fit.best) if fit.best > 1 else ("long", 1 / fit.best)
    offset = "" if shift is None else f", at the best constant offset {shift.score:.2f}"
    found = (
        f"label times are too {side} by a factor of {factor:.3g} (score of the boxes {fit.score:.2f} with corrected "
        f"times, as stored {fit.score - fit.gain.mean:.2f}{offset})"
    )
    if fps is None:
        rate = f"the right number of images per second is {1 / fit.best:.3g} times the one that was given"
        remedy = f"check with which rate or unit the label times were computed: {rate}"
    else:
        right = fps / fit.best
        usual = nearest_rate(right, SAME_SCALE)
        remedy = f"give `build` --label_fps {right if usual is None else usual:.4g} instead of {fps:g}"
    curve = Curves(
        "How well the boxes enclose the events, if the label times are multiplied",
        "factor of the label times",
        "score",
        {"score of the boxes": (fit.scales, fit.scores)},
        {"as stored": 1.0, f"best: {fit.best:.3g}": fit.best},
    )
    return Finding("error", path, SCALED, found, "label times that fit the events", remedy, (curve,))


def _shift_finding(
    path: Path, fit: ShiftFit, boxes: BoxSet, activity: Activity, offset: int, fps: float | None
) -> Finding:
    side = "earlier" if fit.best > 0 else "later"
    found = (
        f"labels are {abs(fit.best) / 1e3:.0f} ms (standard error {fit.error / 1e3:.0f} ms) {side} than the events in "
        "their boxes"
    )
    curve = Curves(
        "How well the boxes enclose the events, if the labels are shifted in time",
        "time added to the labels (s)",
        "score",
        {"score of the boxes": (fit.shifts / 1e6, fit.scores)},
        {"as stored": 0.0, f"best: {fit.best / 1e6:+.3f} s": fit.best / 1e6},
    )
    figure = _shift_figure(fit.best, boxes, activity)
    remedy = f"give `build` --label_offset {offset + round(fit.best, -4)}, which is added to the label times (us)"
    intervals = "" if fps is None else interval_text(fit.best, fit.error, fps)
    remedy += f"; this is {intervals}" if intervals else ""
    allowed = f"less than {MIN_SHIFT_US / 1e3:.0f} ms"
    return Finding("error", path, SHIFTED, found, allowed, remedy, (curve, figure))


def _with_doubts(finding: Finding, one_sided: bool, boxes: BoxSet, fit: ShiftFit, activity: Activity) -> Finding:
    """Make an offset a warning if it may be that of an edge of the objects."""
    doubt = ONE_SIDED if one_sided else ""
    if not doubt and boxes.times.size:
        window = max(FIGURE_WINDOW_US, 2 * activity.step)
        doubt = ONE_EDGE if is_edge(find_edge(activity, boxes, window, fit.best)) else ""
    return replace(finding, severity="warning", cause=f"{finding.cause}; {doubt}") if doubt else finding


def _displacement_finding(path: Path, found: Displacement, boxes: BoxSet, activity: Activity) -> Finding:
    x, y = found.move
    shown = _example(boxes, activity, boxes.xywh + (x, y, 0, 0))
    given, at = boxes.xywh[shown], int(boxes.times[shown[0]])
    sets = {STORED: given, f"x {x:+g} px, y {y:+g} px": given + (x, y, 0, 0)}
    image = activity.image(at, FIGURE_WINDOW_US)
    figure = PixelMap(f"Events and boxes at {at / 1e6:.2f} s", image, activity.sensor_size, sets)
    return Finding(
        "warning",
        path,
        "boxes displaced",
        f"the boxes fit the events after a change: x {x:+g} px and y {y:+g} px (score {found.score:.2f}, as stored "
        f"{found.score - found.gain.mean:.2f})",
        "boxes that fit the events",
        "check whether the boxes refer to another camera or to a cropped image, and change the label file",
        (figure,),
    )


def _shift_figure(shift: int, boxes: BoxSet, activity: Activity) -> PixelMap:
    """Show the boxes that are stored for a time, and the boxes for the same time after the correction."""
    known = np.unique(boxes.times)
    slack = float(np.median(np.diff(known))) / 2 if known.size > 1 else 0.0
    both = np.abs(_nearest(known, boxes.times + shift) - (boxes.times + shift)) <= slack
    right = boxes.take(both) if both.any() else boxes
    at = right.times[_example(right._replace(times=right.times + shift), activity)[0]]
    given = (boxes.times == _nearest(known, np.array([at + shift]))) & both.any()
    sets = {"as stored": boxes.xywh[given], "label times corrected": boxes.xywh[boxes.times == at]}
    image = activity.image(int(at + shift), FIGURE_WINDOW_US)
    return PixelMap(f"Events and boxes at {(at + shift) / 1e6:.2f} s", image, activity.sensor_size, sets)


def _layout_finding(path: Path, fit: LayoutFit, boxes: BoxSet, activity: Activity) -> Finding:
    is_size, change = fit.best.startswith("w, h"), all_layouts(activity.sensor_size)[fit.best]
    found = (
        f"the boxes fit the events after a change: {fit.best} (score {fit.scores[fit.best]:.2f}, as stored "
        f"{fit.scores[STORED]:.2f}, next best {fit.scores[fit.best] - fit.lead:.2f})"
    )
    names = sorted(fit.scores, key=lambda name: -fit.scores[name])[:8]
    names += [] if STORED in names else [STORED]
    bars = Bars(
        "How well the boxes enclose the events, if they are changed",
        "score",
        {name: fit.scores[name] for name in names},
        (fit.best,),
    )
    shown = _example(boxes, activity, change(boxes.xywh))
    given = boxes.xywh[shown]
    sets = {STORED: given, fit.best: change(given)}
    at = int(boxes.times[shown[0]])
    figure = PixelMap(
        f"Events and boxes at {at / 1e6:.2f} s", activity.image(at, FIGURE_WINDOW_US), activity.sensor_size, sets
    )
    remedy = f"apply this change to the label file or to the events, whichever is wrong: {fit.best}"
    severity: Severity = "warning" if is_size else "error"
    return Finding(
        severity, path, "boxes in another layout", found, "boxes that fit the events", remedy, (bars, figure)
    )


def _example(boxes: BoxSet, activity: Activity, corrected: np.ndarray | None = None) -> np.ndarray:
    """Return the rows of the boxes at the labelled time with the most events in its (corrected) boxes."""
    xywh = boxes.xywh if corrected is None else corrected
    height, width = activity.sensor_size
    corners = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]).clip(0, (width, height, width, height))
    counts = activity.count(corners, boxes.times, FIGURE_WINDOW_US)
    times, place = np.unique(boxes.times, return_inverse=True)
    best = times[np.argmax(np.bincount(place, counts))]
    return np.flatnonzero(boxes.times == best)


def _nearest(known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the nearest element of the sorted array `known` for each value."""
    after = np.clip(np.searchsorted(known, values), 1, max(known.size - 1, 1))
    before, after = known[after - 1], known[np.minimum(after, known.size - 1)]
    return np.where(values - before <= after - values, before, after)
