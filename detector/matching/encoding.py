"""Targets of the anchors of a batch, computed by compiled loops on the CPU and in torch on GPUs.

Both give the same results.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from detector.box import bbox_to_deltas
from detector.matching.assignment import AnchorGrid, BatchBoxes, assign_boxes
from detector.matching.kernels import fill_targets
from detector.utils.compiled import HAS_COMPILER

__all__ = ["EncodeRule", "encode_boxes", "encode_compiled", "encode_in_torch"]


class EncodeRule(NamedTuple):
    """Parameters of the assignment of boxes to anchors and of the encoding of boxes.

    Attributes:
        fg_iou_threshold: an anchor is positive if its IoU with a box is at least this
        bg_iou_threshold: an anchor is background if its IoU with every box is below this
        allow_low_quality_matches: whether every box gets at least one anchor, regardless of the IoU
        variances: scale of the centre offsets and scale of the size offsets
    """

    fg_iou_threshold: float
    bg_iou_threshold: float
    allow_low_quality_matches: bool
    variances: Sequence[float]


def encode_boxes(grid: AnchorGrid, boxes: BatchBoxes, rule: EncodeRule, loc: Tensor, cls: Tensor) -> None:
    """Assign boxes to anchors, and write the training targets of all anchors to `loc` and `cls`.

    The assignment follows `assign_priors`, and the offsets are those of `bbox_to_deltas`.

    Args:
        grid: the anchors of a frame
        boxes: the boxes of all frames, on the device of the anchors
        rule: parameters of the assignment and encoding
        loc: (N, A, 4) float32 tensor, overwritten by the box offsets of positive anchors, and 0 for other anchors
        cls: (N, A) int64 tensor, overwritten by the labels: -1 ignored, 0 background, otherwise the label of the box
    """
    form = encode_compiled if HAS_COMPILER and cls.device.type == "cpu" else encode_in_torch
    form(grid, boxes, rule, loc, cls)


def encode_compiled(grid: AnchorGrid, boxes: BatchBoxes, rule: EncodeRule, loc: Tensor, cls: Tensor) -> None:
    """Implementation of `encode_boxes` on the CPU with compiled loops, frame by frame."""
    columns = [column.numpy() for column in (grid.sizes, grid.strides)]
    cells = [grid.cells.numpy(), grid.first.numpy()[:, None], np.full((len(grid.first), 1), grid.per_cell)]
    fill_targets(
        np.ascontiguousarray(boxes.xyxy.numpy()),
        boxes.labels.numpy(),
        np.searchsorted(boxes.frames.numpy(), np.arange(boxes.num_frames + 1)),
        grid.anchors.numpy(),
        np.concatenate(columns, axis=1),
        np.concatenate(cells, axis=1),
        np.array([rule.fg_iou_threshold, rule.bg_iou_threshold, *rule.variances], np.float32),
        rule.allow_low_quality_matches,
        loc.numpy(),
        cls.numpy(),
    )


def encode_in_torch(grid: AnchorGrid, boxes: BatchBoxes, rule: EncodeRule, loc: Tensor, cls: Tensor) -> None:
    """Implementation of `encode_boxes` on any device in torch, for all frames at once."""
    labels, anchor, box = assign_boxes(
        grid, boxes, rule.fg_iou_threshold, rule.bg_iou_threshold, rule.allow_low_quality_matches
    )
    cls.copy_(labels.view(cls.shape))
    matched = grid.anchors[anchor % len(grid.anchors)]
    loc.zero_().view(-1, 4)[anchor] = bbox_to_deltas(boxes.xyxy[box], matched, rule.variances)
