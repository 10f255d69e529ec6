"""Conversion of predictions to rows of boxes, in plain torch that TorchScript supports."""

import torch
from torch import Tensor

from detector.box import box_clamp, decode_offsets
from detector.matching.nms import has_area

__all__ = ["best_class", "class_scores", "decode_boxes", "select_rows"]


def class_scores(logits: Tensor) -> Tensor:
    """Compute float32 class scores (N, A, K) as the softmax of logits (N, A, K + 1), without the background (index 0).

    The head stores its logits class by class, so a softmax over the last dimension would copy the logits.
    """
    return logits.transpose(1, 2).float().softmax(dim=1)[:, 1:].transpose(1, 2)


def best_class(scores: Tensor) -> Tensor:
    """Keep only the highest score of each anchor in (N, A, K), the first of equal scores. Return NaN for all others."""
    best = scores.masked_fill(scores.isnan(), -torch.inf).max(dim=2, keepdim=True).indices
    return torch.full_like(scores, torch.nan).scatter(2, best, scores.gather(2, best))


def decode_boxes(
    anchors: Tensor, loc_preds: Tensor, varx: float, vary: float, height: int | None = None, width: int | None = None
) -> Tensor:
    """Compute boxes from anchors and offsets, as in `Anchors.decode`.

    Args:
        anchors: (N, A, 4) cx, cy, w, h.
        loc_preds: (N, A, 4) offsets.
        varx, vary: scale of the centre offsets and scale of the size offsets.
        height, width: size of the frame in pixels. If both are given, boxes are cropped to the frame.

    Returns:
        (N, A, 4) x1, y1, w, h, float32.
    """
    corners = decode_offsets(loc_preds.float(), anchors, varx, vary)
    if height is not None and width is not None:
        corners = box_clamp(corners, 0.0, 0.0, float(width), float(height))
    return torch.cat([corners[..., :2], corners[..., 2:] - corners[..., :2]], dim=2)


def select_rows(
    boxes: Tensor, scores: Tensor, score_thresh: float, batch_size: int, keep_empty: bool = False
) -> list[list[Tensor]]:
    """Create one row for each score above a threshold.

    Args:
        boxes: (N, A, 4) x1, y1, w, h.
        scores: (N, A, K) scores without background.
        score_thresh: only scores above this threshold are used.
        batch_size: number B of streams; N = T * B.
        keep_empty: whether to keep the rows of boxes without area or with NaN.

    Returns:
        List of T lists of B tensors (M, 6): x1, y1, w, h, score, class_id (1..K), ordered by anchor and class.
    """
    steps: list[list[Tensor]] = []
    for t in range(scores.size(0) // batch_size):
        streams: list[Tensor] = []
        for b in range(batch_size):
            n = t * batch_size + b
            index = (scores[n] > score_thresh).nonzero()
            anchor, label = index[:, 0], index[:, 1]
            score = scores[n][anchor, label].unsqueeze(1)
            rows = torch.cat([boxes[n][anchor], score, (label + 1).unsqueeze(1).float()], dim=1)
            streams.append(rows if keep_empty else rows[has_area(rows)])
        steps.append(streams)
    return steps
