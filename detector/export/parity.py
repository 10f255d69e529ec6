"""How far the answers of an exported detector are from those of the detector itself."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from detector.box import pairwise_iou

__all__ = ["CONFIDENT", "NEAR_IOU", "Agreement", "compare_rows"]

CONFIDENT = 0.3
"""Rows of at least this score count as detections."""
NEAR_IOU = 0.95
NEAR_SCORE = 0.05
"""A detection is matched by a box that overlaps it this much and has about its score."""


class Agreement(NamedTuple):
    """How two detectors answered the same frames.

    Args:
        score: largest difference of scores
        box: largest difference of corners or sides of detections, in pixels
        detections: boxes of the first detector with scores from `CONFIDENT`
        matched: how many of them the second has, too
    """

    score: float
    box: float
    detections: int
    matched: int

    def fault(self, exact: bool) -> str:
        """What is too far apart, and what is allowed; empty if nothing is.

        Args:
            exact: whether the second detector computes in float32 throughout, as the first does.
        """
        if exact:
            if self.score <= 1e-3 and self.box <= 0.1:  # NaN fails, too
                return ""
            return f"scores by {self.score:.2g}, boxes by {self.box:.2g} px, allowed: 0.001 and 0.1 px"
        if self.matched >= 0.99 * self.detections and self.score <= 0.1:
            return ""
        return (
            f"{self.matched} of {self.detections} boxes matched, scores by {self.score:.2g}, "
            "allowed: at least 99 % and at most 0.1"
        )


def compare_rows(wanted: Iterable[Iterable[Tensor]], found: Iterable[Iterable[Tensor]]) -> Agreement:
    """Compare every anchor and class of two detectors.

    Args:
        wanted: rows of one, with all scores: `forward(x, -1.0)` of `detector.jitting.SSD`, time steps of streams of
            (M, 6) x1, y1, w, h, score, class_id.
        found: the other's rows.
    """
    ours = torch.cat([rows for step in wanted for rows in step])
    theirs = torch.cat([rows for step in found for rows in step])
    scores = (ours[:, 4] - theirs[:, 4]).abs()
    sure = ours[:, 4] >= CONFIDENT
    boxes, others = ours[sure, :4], theirs[sure, :4]
    near = (_overlap(boxes, others) >= NEAR_IOU) & (scores[sure] <= NEAR_SCORE)
    box = float((boxes - others).abs().max()) if len(boxes) else 0.0
    return Agreement(float(scores.max()), box, len(boxes), int(near.sum()))


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """IoU of each pair of (M, 4) x1, y1, w, h boxes; 1 for two equal boxes without area."""
    corners = [torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:]], dim=1) for rows in (a, b)]
    return torch.where((a == b).all(dim=1), 1.0, pairwise_iou(*corners))
