"""Non-maximum suppression for a batch of frames, and for one frame in plain torch for exported models.

`non_max_suppression` does not use torchvision, so that programs can run an exported model without torchvision.
"""

import torch
from torch import Tensor
from torchvision.ops import nms

from detector.box import pairwise_iou

__all__ = ["best_scores", "has_area", "non_max_suppression", "suppress"]


def best_scores(
    scores: Tensor, score_thresh: float, topk: int, max_decode: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Select the highest scores of each frame.

    Of equal scores, the first anchor and label are selected. The result for a frame does not depend on other frames.

    Args:
        scores: (N, A, K) scores without background; NaN is skipped
        score_thresh: scores up to this are dropped
        topk: largest number of selected scores per frame
        max_decode: whether only the highest score of each anchor can be selected

    Returns:
        Four (M,) tensors: frame, anchor, float32 score and label (1..K) of each selected score, ordered by frame and
        descending score.
    """
    labels = None
    if max_decode:
        best, labels = scores.masked_fill(scores.isnan(), -torch.inf).max(dim=2)
        scores = best[..., None]
    chosen = scores > score_thresh
    if 0 < topk < scores.shape[1] and int(chosen.count_nonzero()) > 2 * topk * len(scores):
        # The k highest scores are at least as high as the best score of the k-th best anchor, which is faster to find.
        floor = scores.masked_fill(~chosen, -torch.inf).amax(dim=2).topk(topk, dim=1).values[:, -1]
        chosen &= scores >= floor[:, None, None]
    frame, anchor, label = chosen.nonzero(as_tuple=True)
    score = scores[frame, anchor, label].float()
    order = score.argsort(descending=True, stable=True)
    order = order[frame[order].argsort(stable=True)]
    counts = frame.bincount(minlength=len(scores))
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[frame]
    order = order[rank < topk]
    frame, anchor, label = frame[order], anchor[order], label[order]
    return frame, anchor, score[order], (label if labels is None else labels[frame, anchor]) + 1


def suppress(
    frame: Tensor, boxes: Tensor, scores: Tensor, labels: Tensor, nms_thresh: float, num_frames: int
) -> list[dict[str, Tensor]]:
    """Drop each box whose IoU with a kept box of the same frame, same class and higher score is above `nms_thresh`.

    Boxes without area and boxes with NaN are dropped first. The IoU is computed in float64, so the result depends
    neither on rounding nor on the size of the batch. Frames and classes are suppressed one after another. To suppress
    all at once, boxes of different classes would have to be shifted apart, and large coordinates lose precision.

    Args:
        frame: (M,) index of the frame of each box. Boxes are ordered by frame and descending score
        boxes: (M, 4) corners x1, y1, x2, y2
        scores: (M,) score of each box
        labels: (M,) label 1..K of each box
        nms_thresh: largest IoU of two kept boxes of the same frame and class
        num_frames: number of frames N

    Returns:
        List of N dicts with the keys "boxes", "scores" and "labels", ordered by descending score.
    """
    seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & ~scores.isnan()
    frame, boxes, scores, labels = frame[seen], boxes[seen], scores[seen], labels[seen]
    group = frame * (labels.max() + 1 if len(labels) else 1) + labels
    order = group.argsort(stable=True)
    sizes = group[order].unique_consecutive(return_counts=True)[1].tolist()
    precise = boxes[order].double().split(sizes), scores[order].double().split(sizes)
    groups = zip(order.split(sizes), *precise, strict=True)
    kept = [rows[nms(group_boxes, group_scores, nms_thresh)] for rows, group_boxes, group_scores in groups]
    keep = torch.cat(kept).sort().values if kept else order
    counts = frame[keep].bincount(minlength=num_frames).tolist()
    columns = zip(boxes[keep].split(counts), scores[keep].split(counts), labels[keep].split(counts), strict=True)
    return [{"boxes": box, "scores": score, "labels": label} for box, score, label in columns]


def has_area(rows: Tensor) -> Tensor:
    """Return (M,) bool for rows (M, >= 4) x1, y1, w, h, ...: True if w and h are above 0 and no value is NaN."""
    return (rows[:, 2] > 0) & (rows[:, 3] > 0) & rows.isnan().any(dim=1).logical_not()


def non_max_suppression(rows: Tensor, nms_thresh: float, max_boxes: int) -> Tensor:
    """Suppress the boxes of one frame in plain torch. The result equals `best_scores` followed by `suppress`.

    Rows with NaN are dropped first. Then the highest scores are selected, and boxes without area are dropped.

    Args:
        rows: (M, 6) x1, y1, w, h, score, class_id.
        nms_thresh: of two boxes of the same class with an IoU above this, the one with the lower score is dropped.
        max_boxes: largest number of rows that are used; the rows with the highest scores are selected.

    Returns:
        The rows that are kept, by descending score.
    """
    rows = rows[rows.isnan().any(dim=1).logical_not()]
    order = rows[:, 4].argsort(descending=True, stable=True)
    rows = rows[order[:max_boxes]]
    rows = rows[has_area(rows)]
    boxes = rows[:, :4].double()
    corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
    same_class = rows[:, 5].unsqueeze(1) == rows[:, 5]
    covers = (pairwise_iou(corners.unsqueeze(1), corners) > nms_thresh) & same_class
    covers = covers.triu(diagonal=1).cpu()
    keep = torch.ones(rows.size(0), dtype=torch.bool)
    for i in range(rows.size(0)):
        if bool(keep[i]):
            keep.logical_and_(covers[i].logical_not())
    return rows[keep.to(rows.device)]
