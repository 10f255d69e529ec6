"""From predictions to rows of boxes, in plain torch that can be scripted."""

import torch
from torch import Tensor

__all__ = ["class_scores", "crop_boxes", "decode_boxes", "select_rows"]


def class_scores(logits: Tensor) -> Tensor:
    """Scores (N, A, K), float32, without background, of logits (N, A, K + 1).

    A head's logits lie class by class in memory: a softmax over the last of their dimensions would copy them.
    """
    return logits.transpose(1, 2).float().softmax(dim=1)[:, 1:].transpose(1, 2)


def decode_boxes(anchors: Tensor, loc_preds: Tensor, varx: float, vary: float) -> Tensor:
    """Boxes (N, A, 4) x1, y1, w, h, float32, of anchors and offsets; see `BoxDecoder.forward`."""
    loc = loc_preds.float()
    size = anchors[..., 2:] * torch.exp((loc[..., 2:] * vary).clamp(max=10.0))
    corner = anchors[..., :2] + loc[..., :2] * varx * anchors[..., 2:] - 0.5 * size
    return torch.cat([corner, size], dim=2)


def select_rows(boxes: Tensor, scores: Tensor, score_thresh: float, batch_size: int) -> list[list[Tensor]]:
    """Rows of the scores above a threshold.

    Args:
        boxes: (N, A, 4) x1, y1, w, h.
        scores: (N, A, K) scores without background.
        score_thresh: rows at or below this score are left out.
        batch_size: B.

    Returns:
        List T of list B of (M, 6) x1, y1, w, h, score, class_id (1..K), ordered by anchor and class.
    """
    steps: list[list[Tensor]] = []
    for t in range(scores.size(0) // batch_size):
        streams: list[Tensor] = []
        for b in range(batch_size):
            n = t * batch_size + b
            index = (scores[n] > score_thresh).nonzero()
            anchor, label = index[:, 0], index[:, 1]
            score = scores[n][anchor, label].unsqueeze(1)
            streams.append(torch.cat([boxes[n][anchor], score, (label + 1).unsqueeze(1).float()], dim=1))
        steps.append(streams)
    return steps


def crop_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (..., 4) x1, y1, w, h, cropped to the frame."""
    x1, y1 = boxes[..., 0].clamp(0, width), boxes[..., 1].clamp(0, height)
    x2 = (boxes[..., 0] + boxes[..., 2]).clamp(0, width)
    y2 = (boxes[..., 1] + boxes[..., 3]).clamp(0, height)
    return torch.stack([x1, y1, x2 - x1, y2 - y1], dim=-1)
