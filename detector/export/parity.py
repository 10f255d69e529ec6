"""Comparison of the outputs of an exported detector with the outputs of the detector itself."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from detector.box import pairwise_iou

__all__ = ["CONFIDENT", "MATCH_IOU", "Agreement", "compare_rows"]

CONFIDENT = 0.3
"""Lowest score of the rows that count as detections."""
MATCH_IOU = 0.95
MATCH_SCORE = 0.05
"""Two boxes match if their IoU is at least `MATCH_IOU` and their scores differ by at most `MATCH_SCORE`."""


class Agreement(NamedTuple):
    """Differences between the outputs of two detectors for the same frames.

    Args:
        score: largest difference between the scores of the same anchor and class
        box: largest difference between x1, y1, w or h of the counted `detections`, in pixels
        detections: number of boxes of the first detector with a score of at least `CONFIDENT`
        matched: number of these boxes for which the second detector has nearly the same box and score
    """

    score: float
    box: float
    detections: int
    matched: int

    def fault(self, exact: bool) -> str:
        """Return a text with the differences and the allowed limits; "" if all differences are within the limits.

        Args:
            exact: True if both detectors compute everything in float32. The limits are then lower.
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
    """Compare the boxes and scores of two detectors for every anchor and class.

    Args:
        wanted: result of `forward(x, -1.0)` of the first detector (`detector.jitting.SSD`): T lists of B tensors of
            (M, 6) rows x1, y1, w, h, score, class_id. The score threshold -1 keeps all rows.
        found: result of `forward(x, -1.0)` of the second detector for the same frames.
    """
    ours = torch.cat([rows for step in wanted for rows in step])
    theirs = torch.cat([rows for step in found for rows in step])
    scores = (ours[:, 4] - theirs[:, 4]).abs()
    sure = ours[:, 4] >= CONFIDENT
    boxes, others = ours[sure, :4], theirs[sure, :4]
    matched = (_overlap(boxes, others) >= MATCH_IOU) & (scores[sure] <= MATCH_SCORE)
    box = float((boxes - others).abs().max()) if len(boxes) else 0.0
    return Agreement(float(scores.max()), box, len(boxes), int(matched.sum()))


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """Compute the (M,) IoU of M pairs of x1, y1, w, h boxes; 1 for two equal boxes without area."""
    corners = [torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:]], dim=1) for rows in (a, b)]
    return torch.where((a == b).all(dim=1), 1.0, pairwise_iou(*corners))
