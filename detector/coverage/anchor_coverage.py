"""Measure, before training, how well anchors cover labelled boxes: the IoU of each box with the anchors of all cells.

The overlap of a box with an anchor of a given shape decreases with the distance of their centres in x and in y. So the
best anchor of this shape is in the cell nearest to the box. The anchors of this shape that reach an IoU threshold are
in a contiguous group of cells, which is counted column by column. A box of size (w, h) and an anchor of size (W, H)
reach an IoU of t if they share an area of at least t (wh + WH) / (1 + t).

Boxes are independent: an anchor that overlaps two boxes counts for both. Low-quality matches,
which give each box at least one anchor in training, are not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detector.anchors import ANCHOR_LISTS, AnchorLayer
from detector.utils.compiled import compiled

__all__ = ["SIZES", "THRESHOLDS", "AnchorPyramid", "Coverage", "LabelBoxes", "measure_coverage"]

SIZES = ("small", "medium", "big")
"""Size groups of COCO by area in network pixels: below 32^2, up to 96^2, and above."""
THRESHOLDS = tuple(step / 20 for step in range(1, 21))
"""The IoU thresholds at which recall is counted."""

COUNTED_BOXES = 100_000
"""Approximate number of boxes for which positive and ignored anchors are counted.

If there are more boxes, an evenly spread sample of this size is used.
"""

_BINS = len(THRESHOLDS)
_SLACK = 1e-9  # tolerance for rounding errors when an IoU is compared with a threshold
_COVERED, _IOU, _COUNTED, _POSITIVES, _IGNORED = range(5)


@dataclass(frozen=True, eq=False)
class LabelBoxes:
    """Labelled boxes with their classes, and the size of the frames.

    Args:
        boxes: (n, 4) float64 cx, cy, w, h in network pixels; w and h above 0
        groups: (n,) int64 class and size of each box: `(label - 1) * 3 + size`, where `size` is an index into `SIZES`
        num_classes: number of classes K
        height: rows of a frame in network pixels
        width: columns of a frame in network pixels
    """

    boxes: np.ndarray
    groups: np.ndarray
    num_classes: int
    height: int
    width: int

    @classmethod
    def from_corners(
        cls, xyxy: np.ndarray, labels: np.ndarray, num_classes: int, height: int, width: int
    ) -> "LabelBoxes":
        """Create from the corners of boxes, as in training targets.

        Args:
            xyxy: (n, 4) x1, y1, x2, y2 in network pixels, inside the frame
            labels: (n,) classes 1..K
            num_classes: number of classes K
            height: rows of a frame in network pixels
            width: columns of a frame in network pixels

        Raises:
            ValueError: a box has no area, is outside the frame or is not finite, or a label is outside 1..K.
        """
        corners, labels = np.asarray(xyxy, np.float64).reshape(-1, 4), np.asarray(labels).astype(np.int64)
        first, last = corners[:, :2], corners[:, 2:]
        ok = (first >= 0).all(1) & (last > first).all(1) & (last <= (width, height)).all(1)
        if not ok.all():
            raise ValueError(f"xyxy: got {corners[~ok][0].tolist()}, allowed: boxes inside {width}x{height} pixels")
        if len(labels) and not 1 <= labels.min() <= labels.max() <= num_classes:
            raise ValueError(f"labels: got {labels.min()} to {labels.max()}, allowed: 1 to {num_classes}")
        sides = last - first
        area = sides.prod(axis=1)
        size = (area >= 32**2).astype(np.int64) + (area > 96**2)
        boxes = np.concatenate([(first + last) / 2, sides], axis=1)
        return cls(boxes, (labels - 1) * len(SIZES) + size, num_classes, height, width)

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: np.ndarray) -> "LabelBoxes":
        """Select the boxes with the given indices."""
        return LabelBoxes(self.boxes[index], self.groups[index], self.num_classes, self.height, self.width)


@dataclass(frozen=True)
class AnchorPyramid:
    """Anchors of all pyramid levels, equal to the anchors that `detector.anchors.Anchors` makes.

    Args:
        anchor_list: a name in `ANCHOR_LISTS`, or (ratio, scale) pairs with ratio = height / width
        base_size: side in pixels of the first level's anchor of ratio 1 and scale 1
        first_stride: distance in pixels between neighbouring cells of the first level
        num_levels: number of levels; anchor size and stride double from each level to the next
    """

    anchor_list: str | Sequence[tuple[float, float]]
    base_size: float
    first_stride: int
    num_levels: int

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """The (ratio, scale) pairs of the anchor list."""
        return list(ANCHOR_LISTS[self.anchor_list] if isinstance(self.anchor_list, str) else self.anchor_list)

    @property
    def shapes(self) -> np.ndarray:
        """(a, 2) widths and heights in pixels of the anchors of one cell at the first level."""
        return AnchorLayer.generate_anchors(self.base_size, self.pairs).numpy().astype(np.float64)

    def cells(self, height: int, width: int) -> np.ndarray:
        """Compute (L, 2) number of grid columns and number of grid rows of each level, for a frame size in pixels."""
        strides = [self.first_stride * 2**level for level in range(self.num_levels)]
        return np.array([[-(-width // stride), -(-height // stride)] for stride in strides], np.float64)


class Coverage(NamedTuple):
    """Coverage of boxes by anchors, for each of K classes and each of the three `SIZES`.

    Attributes:
        counts: (K, 3, 21) histogram: entry i of the last axis is the number of boxes whose best IoU with an anchor is
            in [i / 20, (i + 1) / 20)
        sums: (K, 3, 5) sums over boxes. Entries 0 and 1: number of boxes with a positive anchor, sum of the best IoUs.
            Entries 2 to 4 are for a sample of the boxes: number of boxes, of positive anchors, of ignored anchors
    """

    counts: np.ndarray
    sums: np.ndarray

    def part(self, label: int | None = None, size: str | None = None) -> "Coverage":
        """Select one class (1..K), one size (a name in `SIZES`), or both; None selects all classes or all sizes."""
        rows = slice(None) if label is None else slice(label - 1, label)
        columns = slice(None) if size is None else slice(SIZES.index(size), SIZES.index(size) + 1)
        return Coverage(self.counts[rows, columns], self.sums[rows, columns])

    @property
    def num_boxes(self) -> int:
        """Number of boxes. If it is 0, `recall`, `covered`, `mean_iou` and the other properties are NaN."""
        return int(self.counts.sum())

    @property
    def recall(self) -> np.ndarray:
        """(20,) for each IoU in `THRESHOLDS`, the share of the boxes whose best IoU is at least this threshold."""
        reached = self.counts.sum(axis=(0, 1))[::-1].cumsum()[::-1]
        return reached[1:] / self.num_boxes if self.num_boxes else np.full(_BINS, np.nan)

    @property
    def covered(self) -> float:
        """Share of boxes with at least one positive anchor, which is the recall at the foreground threshold."""
        return self._ratio(_COVERED, self.num_boxes)

    @property
    def mean_iou(self) -> float:
        """IoU of a box with its best anchor, averaged over all boxes."""
        return self._ratio(_IOU, self.num_boxes)

    @property
    def positives(self) -> float:
        """Mean number of positive anchors per box."""
        return self._ratio(_POSITIVES, self.sums[..., _COUNTED].sum())

    @property
    def ignored_share(self) -> float:
        """Share of ignored anchors among all ignored and positive anchors; NaN if there are no such anchors."""
        return self._ratio(_IGNORED, self.sums[..., (_POSITIVES, _IGNORED)].sum())

    def _ratio(self, column: int, total: float) -> float:
        return float(self.sums[..., column].sum() / total) if total else float("nan")


def measure_coverage(
    labels: LabelBoxes, pyramid: AnchorPyramid, fg_iou_threshold: float = 0.5, bg_iou_threshold: float = 0.3
) -> Coverage:
    """Measure the coverage of boxes by anchors. With compiled loops this takes 0.1 s per million boxes.

    Args:
        labels: the boxes.
        pyramid: the anchors.
        fg_iou_threshold: an anchor is positive if its IoU with a box is at least this threshold.
        bg_iou_threshold: an anchor that is not positive is ignored if its IoU with a box is at least this threshold.
    """
    counts = np.zeros((labels.num_classes * len(SIZES), _BINS + 1), np.int64)
    sums = np.zeros((len(counts), 5))
    stride, thresholds = float(pyramid.first_stride), (float(fg_iou_threshold), float(bg_iou_threshold))
    cells = pyramid.cells(labels.height, labels.width)
    share = min(1.0, COUNTED_BOXES / max(len(labels), 1))
    _survey(labels.boxes, labels.groups, pyramid.shapes / stride, cells, stride, *thresholds, share, counts, sums)
    groups = labels.num_classes, len(SIZES)
    return Coverage(counts.reshape(*groups, -1), sums.reshape(*groups, -1))


@compiled
def _survey(
    boxes: np.ndarray,
    groups: np.ndarray,
    shapes: np.ndarray,
    cells: np.ndarray,
    first_stride: float,
    fg: float,
    bg: float,
    share: float,
    counts: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Add the values of `Coverage` for all boxes to `counts` (G, 21) and `sums` (G, 5).

    Each of the G rows is for one class and size. The last three sums are computed for only a `share` of the boxes.
    Lengths are in cells of the current level. In this unit, the (a, 2) `shapes` are the same at all levels, and a box
    has half the size at each following level.
    """
    widths, heights = shapes[:, 0].copy(), shapes[:, 1].copy()
    areas, ious = widths * heights, np.zeros(len(shapes))
    least, most = areas.min(), areas.max()
    for index in range(len(boxes)):
        x, y = boxes[index, 0] / first_stride, boxes[index, 1] / first_stride
        width, height = boxes[index, 2] / first_stride, boxes[index, 3] / first_stride
        # Step 1: choose evenly spread boxes by multiples of the golden ratio, which match no period of the labels.
        phase = index * 0.6180339887498949
        counted = phase - np.floor(phase) < share
        best, positive, seen = 0.0, 0.0, 0.0
        for level in range(len(cells)):
            area = width * height
            # Step 2: skip levels whose anchors are too large or too small: an IoU is at most the ratio of the areas.
            if (area >= least * bg and area * bg <= most) or (area > least * best and area * best < most):
                columns, rows = cells[level, 0], cells[level, 1]
                away_x, away_y = _to_nearest(x), _to_nearest(y)
                for shape in range(len(widths)):  # Step 3: IoU with the nearest anchor of each shape, vectorised
                    shared = _shared(width, widths[shape], away_x) * _shared(height, heights[shape], away_y)
                    ious[shape] = shared / (area + areas[shape] - shared)
                for shape in range(len(widths)):  # Step 4: best IoU, and numbers of anchors above thresholds
                    iou = ious[shape]
                    best = iou if iou > best else best
                    if counted and iou >= bg - _SLACK:
                        w, h = widths[shape], heights[shape]
                        seen += _patch(x, y, width, height, w, h, columns, rows, bg)
                        if iou >= fg - _SLACK:
                            positive += _patch(x, y, width, height, w, h, columns, rows, fg)
            x, y, width, height = x / 2, y / 2, width / 2, height / 2
        # Step 5: add the values of this box to the results of its class and size.
        group = groups[index]
        counts[group, int(best * _BINS + _SLACK)] += 1
        sums[group, _COVERED] += 1.0 if best >= fg - _SLACK else 0.0
        sums[group, _IOU] += best
        if counted:
            sums[group, _COUNTED] += 1.0
            sums[group, _POSITIVES] += positive
            sums[group, _IGNORED] += seen - positive


@compiled
def _to_nearest(centre: float) -> float:
    """Compute the distance from `centre` to the centre of the nearest cell along one axis, in cells."""
    return abs(centre - np.floor(centre) - 0.5)  # boxes have their centres inside the frame, and so in one of its cells


@compiled
def _shared(box: float, anchor: float, away: float) -> float:
    """Compute the length that a box and an anchor share along one axis, given the distance `away` of their centres."""
    length = (box + anchor) / 2 - away
    length = box if length > box else length
    length = anchor if length > anchor else length
    return length if length > 0 else 0.0


@compiled
def _patch(
    x: float, y: float, width: float, height: float, w: float, h: float, columns: float, rows: float, threshold: float
) -> float:
    """Count the cells in which an anchor of size (w, h) reaches the IoU `threshold` with a box.

    The box has its centre at (x, y) and the size (width, height). The grid has `columns` x `rows` cells. Lengths are in
    cells.
    """
    if threshold <= 0:
        return columns * rows
    shared = (width * height + w * h) * (threshold / (1 + threshold)) * (1 - _SLACK)
    reach = (width + w) / 2 - shared / (h if h < height else height)
    half, count = (height + h) / 2, 0.0
    column = max(np.ceil(x - reach - 0.5), 0.0)
    last = min(np.floor(x + reach - 0.5), columns - 1)
    while column <= last:
        tall = half - shared / _shared(width, w, abs(x - column - 0.5))
        low = max(np.ceil(y - tall - 0.5), 0.0)
        high = min(np.floor(y + tall - 0.5), rows - 1)
        count += high - low + 1 if high >= low else 0.0
        column += 1.0
    return count
