"""Assignment of ground-truth boxes to a grid of anchors, for a whole batch at once and without dense overlaps.

Only the cells whose anchors can reach the required IoU with a box are searched. An anchor of size (w, h) and a box of
size (W, H) reach an IoU of t only if their intersection has an area I >= t (wh + WH) / (1 + t). The intersection has a
height of at most min(h, H), so its width is at least I / min(h, H). Hence the distance of the centres in x is at most
(w + W) / 2 - I / min(h, H). The same holds in y.

The result equals the result of `assign_priors` for each frame, with one exception: for a box with several best anchors,
only the nearest cells are searched.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detector.box import FORCED_IOU, contested_claims, pairwise_iou, to_box_tensor, xywh2xyxy, xyxy2xywh

__all__ = ["AnchorGrid", "BatchBoxes", "assign_boxes", "pack_frames"]

_SLACK = 1e-3  # in cells; larger than the rounding errors of the bounds of a cell
_LOW_BITS = (1 << 32) - 1


class AnchorGrid(NamedTuple):
    """The anchors of a feature pyramid. Each level has a grid of cells and several anchor shapes, S over all levels.

    A shape has one anchor in each cell of its level.

    Attributes:
        anchors: (A, 4) cx, cy, w, h, ordered by level, row, column and shape
        sizes: (S, 2) width and height of each shape
        strides: (S, 1) distance of neighbouring cells of each shape in pixels
        cells: (S, 2) number of columns and number of rows in the grid of each shape
        first: (S,) index of the first anchor of each shape
        per_cell: number of anchors in each cell
    """

    anchors: Tensor
    sizes: Tensor
    strides: Tensor
    cells: Tensor
    first: Tensor
    per_cell: int


class BatchBoxes(NamedTuple):
    """The boxes of a batch, frame after frame.

    Attributes:
        xyxy: (M, 4) corners x1, y1, x2, y2
        labels: (M,) int64 label of each box
        frames: (M,) int64 index of the frame of each box, increasing
        num_frames: number of frames of the batch
    """

    xyxy: Tensor
    labels: Tensor
    frames: Tensor
    num_frames: int


class _Pairs(NamedTuple):
    """P pairs of a box and an anchor, ordered by box: (P,) index of the box, index of the anchor, and IoU."""

    box: Tensor
    anchor: Tensor
    iou: Tensor


def pack_frames(
    targets: Sequence[Tensor | np.ndarray],
    num_frames: int,
    device: torch.device,
    num_classes: int | None = None,
    numbers: Sequence[int] | None = None,
) -> BatchBoxes:
    """Concatenate the boxes of all frames. Boxes on the CPU are checked.

    Args:
        targets: for each frame, (M, >= 5) rows x1, y1, x2, y2, label, or an array with fields x, y, w, h, class_id
        num_frames: number of frames of the batch
        device: device of the result
        num_classes: highest allowed label; unlimited if None
        numbers: frame numbers for error messages; 0 to `num_frames` - 1 if None

    Raises:
        ValueError: the number of targets is not `num_frames`; a coordinate is not finite, or is too large; x2 < x1 or
            y2 < y1; or a label is not a whole number from 1 to `num_classes`.
    """
    if len(targets) != num_frames:
        raise ValueError(f"targets: got {len(targets)} frames, allowed: one for each of the {num_frames} frames")
    frames = [to_box_tensor(target) for target in targets]
    rows = torch.cat(frames) if frames else torch.zeros(0, 5)
    counts = torch.tensor([len(frame) for frame in frames], dtype=torch.int64)
    frame_of_row = torch.repeat_interleave(torch.arange(num_frames), counts)
    if rows.device.type == "cpu":
        _check_rows(rows.detach().numpy(), frame_of_row.numpy(), num_classes, numbers)
    rows = rows.to(device)
    return BatchBoxes(rows[:, :4], rows[:, 4].long(), frame_of_row.to(device), num_frames)


FARTHEST = 1e9
"""Largest allowed absolute coordinate of a corner in pixels."""


def _check_rows(rows: np.ndarray, frames: np.ndarray, num_classes: int | None, numbers: Sequence[int] | None) -> None:
    low, high, label = rows[:, :2], rows[:, 2:4], rows[:, 4]
    # Comparisons with NaN are false. Corners above `FARTHEST` could overflow float32 in the sums for offsets.
    box_ok = np.all((low >= -FARTHEST) & (high <= FARTHEST) & (low <= high), axis=1)
    label_ok = (label >= 1) & (label <= (num_classes or np.finfo(np.float32).max)) & (label == np.floor(label))
    if (box_ok & label_ok).all():
        return
    row = int(np.argmin(box_ok & label_ok))
    frame = frames[row] if numbers is None else numbers[frames[row]]
    if not box_ok[row]:
        found, allowed = f"box {rows[row, :4].tolist()}", "finite x1, y1, x2, y2 with x1 <= x2 and y1 <= y2"
    else:
        found = f"label {label[row]:g}"
        allowed = "whole numbers from 1" + ("" if num_classes is None else f" to {num_classes}")
    raise ValueError(f"targets: frame {frame} holds {found}, allowed: {allowed}")


def assign_boxes(
    grid: AnchorGrid,
    boxes: BatchBoxes,
    fg_iou_threshold: float,
    bg_iou_threshold: float,
    allow_low_quality_matches: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Assign the boxes of a batch to anchors, by the rule that `assign_priors` defines for one frame.

    Args:
        grid: the anchors of a frame
        boxes: the boxes of all frames
        fg_iou_threshold: an anchor with at least this IoU is positive. Must be above 0
        bg_iou_threshold: an anchor with a lower IoU is background. Anchors between the two thresholds are ignored
        allow_low_quality_matches: whether every box gets at least one anchor, regardless of the IoU

    Returns:
        Three tensors. First, (N * A,) int64 labels of the anchors of all frames: -1 ignored, 0 background, otherwise
        the label of the assigned box. Second, (P,) indices of the P positive anchors in the first tensor. Third, (P,)
        index of the box of each positive anchor.
    """
    num_anchors = len(grid.anchors)
    labels = boxes.labels.new_zeros((boxes.num_frames, num_anchors))
    if bg_iou_threshold == 0:  # no IoU is below 0, so frames with boxes have no background
        labels[boxes.frames] = -1
    labels = labels.flatten()
    # Step 1: pairs of boxes and anchors that overlap enough.
    threshold = bg_iou_threshold or fg_iou_threshold
    pairs = _candidates(grid, boxes.xyxy, threshold)
    sufficient = (pairs.iou >= threshold).nonzero()[:, 0]
    box, anchor, iou = (column.index_select(0, sufficient) for column in pairs)
    # Step 2: add one anchor for each box, with an IoU value above both thresholds.
    if allow_low_quality_matches:
        held = _match_boxes(grid, boxes, pairs, threshold)
        forced = (held >= 0).nonzero()[:, 0]
        box, anchor = torch.cat([box, forced]), torch.cat([anchor, held[forced]])
        iou = torch.cat([iou, iou.new_full(forced.shape, FORCED_IOU)])
    target = boxes.frames[box] * num_anchors + anchor
    # Step 3: one scatter finds the box with the highest IoU for each anchor, and the first box if several are equal.
    # `labels` first stores the keys, then the labels of the best boxes replace the keys.
    key = _sort_key(iou, box)
    labels.scatter_reduce_(0, target, key, "amax")
    won = (labels[target] == key).nonzero()[:, 0]
    box, target, positive = box[won], target[won], iou[won] >= fg_iou_threshold
    labels[target] = torch.where(positive, boxes.labels[box], -1)
    return labels, target[positive], box[positive]


def _sort_key(iou: Tensor, index: Tensor) -> Tensor:
    """Compute integer keys that increase with the IoU. Of two pairs with equal IoU, the lower index has the larger key.

    The bits of non-negative floats, read as integers, have the same order as the floats.
    """
    return (iou.view(torch.int32).long() << 32) | (_LOW_BITS - index)


def _candidates(grid: AnchorGrid, boxes: Tensor, threshold: float, margin: int = 0) -> _Pairs:
    """Find the pairs of box and anchor whose IoU can reach the threshold, and compute the IoU of each pair.

    Each box is also paired with the anchors in the nearest cells.

    The IoU with a shape decreases with the distance in x and in y. Therefore the best anchor of a box is in the nearest
    cells, and its best k + 1 anchors are in the nearest k + 1 columns and rows. A margin of k includes these cells.
    """
    low, span = _cell_ranges(grid, boxes, threshold, margin)
    columns = grid.cells[:, 0]
    corner = grid.first + (low[..., 1] * columns + low[..., 0]) * grid.per_cell
    counts = (span[..., 0] * span[..., 1]).flatten()
    row = torch.repeat_interleave(torch.arange(len(counts), device=boxes.device), counts)
    rank = torch.arange(len(row), device=boxes.device) - (counts.cumsum(0) - counts)[row]
    width = span[..., 0].flatten().index_select(0, row)
    line = torch.div(rank, width, rounding_mode="floor")
    # Number of cells from the end of a row of the range to the start of the range in the next row.
    skip = (columns - span[..., 0]).flatten().index_select(0, row)
    anchor = corner.flatten().index_select(0, row) + (rank + line * skip) * grid.per_cell
    box = torch.repeat_interleave(
        torch.arange(len(boxes), device=boxes.device), counts.view(len(boxes), len(columns)).sum(1)
    )
    corners = xywh2xyxy(grid.anchors).index_select(0, anchor)
    return _Pairs(box, anchor, pairwise_iou(corners, boxes.index_select(0, box)))


def _cell_ranges(grid: AnchorGrid, boxes: Tensor, threshold: float, margin: int) -> tuple[Tensor, Tensor]:
    """Compute a range of cells for each pair of a box and an anchor shape. Anchors outside the range are not compared.

    The range includes each cell whose anchor of this shape can have an IoU with the box of at least `threshold`. It
    also includes at least the nearest `margin` + 1 columns and rows.

    Returns:
        Two (M, S, 2) int64 tensors: the first column and row, and the number of columns and rows.
    """
    centre_size = xyxy2xywh(boxes)[:, None]
    size = centre_size[..., 2:]
    area = size[..., 0] * size[..., 1] + grid.sizes[:, 0] * grid.sizes[:, 1]
    shared = (area * (threshold / (1 + threshold)))[..., None]
    most = torch.minimum(size, grid.sizes)
    reach = (size + grid.sizes) / 2 - shared / most.flip(-1)
    reach = torch.where(shared <= most[..., :1] * most[..., 1:] * (1 + _SLACK), reach, 0)
    # A centre inside the grid is at most half a cell away from the nearest cell.
    radius = (reach / grid.strides).clamp(min=0.5 + margin) + _SLACK
    last = grid.cells - 1
    centre = torch.minimum((centre_size[..., :2] / grid.strides - 0.5).clamp(min=0), last)
    low = (centre - radius).ceil().clamp(min=0).long()
    high = torch.minimum((centre + radius).floor(), last).long()
    return low, high - low + 1


def _match_boxes(grid: AnchorGrid, boxes: BatchBoxes, pairs: _Pairs, threshold: float, margin: int = 0) -> Tensor:
    """Assign one anchor to each box, as `match_each_box` does. Return (M,) anchor indices, -1 for boxes without anchor.

    `pairs` contains every pair with an IoU of at least the threshold, and the best `margin + 1` pairs of each box. If a
    box loses more than `margin` anchors to other boxes and keeps only a pair below the threshold, it may have a better
    anchor that is not in `pairs`. In this case, all boxes of the frame are matched again with more pairs.
    """
    key = _sort_key(pairs.iou, pairs.anchor)
    frame_start = boxes.frames * len(grid.anchors)
    losses = torch.zeros_like(frame_start)
    while True:
        best = torch.full_like(losses, -1).scatter_reduce_(0, pairs.box, key, "amax")
        anchor, iou_bits = _LOW_BITS - (best & _LOW_BITS), best >> 32
        lost = contested_claims(frame_start + anchor, iou_bits)
        lost = lost[iou_bits[lost] >= 0]
        if len(lost) == 0:
            break
        losses[lost] += 1
        refused = torch.full_like(best, -1).scatter_(0, lost, best[lost])
        key = torch.where(key == refused[pairs.box], -1, key)
    found = best >= 0
    enough = found & (iou_bits.int().view(torch.float32) >= threshold)
    anchor = torch.where(found, anchor, -1)
    unsure = boxes.frames[(losses > margin) & ~enough]
    if len(unsure) > 0 and margin < grid.cells.max():
        again = torch.isin(boxes.frames, unsure).nonzero()[:, 0]
        frames = BatchBoxes(boxes.xyxy[again], boxes.labels[again], boxes.frames[again], boxes.num_frames)
        margin = 2 * margin + 1
        more = _candidates(grid, frames.xyxy, threshold, margin)
        anchor[again] = _match_boxes(grid, frames, more, threshold, margin)
    return anchor
