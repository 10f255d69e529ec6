"""Functions for boxes: formats, overlap, selection, regression offsets, and assignment to anchors.

Boxes are tensors of any real dtype. The last dimension holds x1, y1, x2, y2 in pixels ("xyxy") or cx, cy, w, h
("xywh"). Integers and half precision are converted to float32 for the computation. Labels and detections in files are
structured arrays with the fields of `BBOX_dtype`. Only `force_matches` changes its arguments.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.lib.recfunctions import structured_to_unstructured
from torch import Tensor
from torchvision.ops import nms

from detector.utils.corners import to_corners

__all__ = [
    "FORCED_IOU",
    "assign_priors",
    "batch_box_iou",
    "bboxes_to_box_vectors",
    "bbox_to_deltas",
    "box_clamp",
    "box_iou",
    "box_nms",
    "box_select",
    "contested_claims",
    "decode_offsets",
    "deltas_to_bbox",
    "force_matches",
    "match_each_box",
    "pack_boxes_list",
    "pairwise_iou",
    "to_box_tensor",
    "xywh2xyxy",
    "xyxy2xywh",
]

FORCED_IOU = 2.0
"""Overlap stored for an anchor that is assigned to a box regardless of the true overlap. It exceeds every threshold."""

_MIN_SIDE = 1e-3  # pixels; shorter sides are raised to this value to keep their logarithm finite


def _real(boxes: Tensor) -> Tensor:
    """Converts boxes to float32, because integers overflow and half precision is too coarse. Float64 is unchanged."""
    return boxes if boxes.dtype == torch.float64 else boxes.float()


def xywh2xyxy(boxes: Tensor) -> Tensor:
    """Converts (..., 4) boxes from cx, cy, w, h to x1, y1, x2, y2."""
    boxes = _real(boxes)
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def xyxy2xywh(boxes: Tensor) -> Tensor:
    """Converts (..., 4) boxes from x1, y1, x2, y2 to cx, cy, w, h."""
    boxes = _real(boxes)
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def box_clamp(boxes: Tensor, xmin: float, ymin: float, xmax: float, ymax: float) -> Tensor:
    """Crops (..., 4) xyxy boxes to a frame.

    Args:
        boxes: xyxy boxes
        xmin: smallest x
        ymin: smallest y
        xmax: largest x
        ymax: largest y

    Returns:
        the cropped boxes. A box outside the frame becomes a box of area 0.
    """
    boxes = _real(boxes)
    x = boxes[..., 0::2].clamp(xmin, xmax)
    y = boxes[..., 1::2].clamp(ymin, ymax)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def box_select(boxes: Tensor, xmin: float, ymin: float, xmax: float, ymax: float) -> tuple[Tensor, Tensor]:
    """Selects the boxes that are completely inside a frame. Boxes may touch the border of the frame.

    Args:
        boxes: (N, 4) xyxy boxes
        xmin: smallest x
        ymin: smallest y
        xmax: largest x
        ymax: largest y

    Returns:
        the selected (M, 4) boxes and the (N,) boolean mask that selects them.
    """
    x1, y1, x2, y2 = _real(boxes).unbind(1)
    mask = (x1 >= xmin) & (y1 >= ymin) & (x2 <= xmax) & (y2 <= ymax)
    return boxes[mask], mask


def pairwise_iou(box1: Tensor, box2: Tensor) -> Tensor:
    """Computes the IoU of xyxy boxes. The leading dimensions of `box1` and `box2` are broadcast.

    The area of a box is w * h. The IoU of two boxes of area 0 is 0.
    """
    box1, box2 = _real(box1), _real(box2)
    width = torch.minimum(box1[..., 2], box2[..., 2]) - torch.maximum(box1[..., 0], box2[..., 0])
    height = torch.minimum(box1[..., 3], box2[..., 3]) - torch.maximum(box1[..., 1], box2[..., 1])
    intersection = width.clamp(min=0) * height.clamp(min=0)
    area1 = (box1[..., 2] - box1[..., 0]) * (box1[..., 3] - box1[..., 1])
    area2 = (box2[..., 2] - box2[..., 0]) * (box2[..., 3] - box2[..., 1])
    return intersection / (area1 + area2 - intersection).clamp(min=1e-12)


def box_iou(box1: Tensor, box2: Tensor) -> Tensor:
    """Computes the IoU of every box in `box1` with every box in `box2`.

    Args:
        box1: (N, 4) xyxy boxes
        box2: (M, 4) xyxy boxes

    Returns:
        (N, M) IoU
    """
    return pairwise_iou(box1[:, None], box2[None])


def batch_box_iou(box1: Tensor, box2: Tensor) -> Tensor:
    """Computes the IoU of one set of boxes with each set of boxes in a batch.

    Args:
        box1: (N, 4) xyxy boxes
        box2: (B, M, 4) xyxy boxes

    Returns:
        (B, N, M) IoU
    """
    return pairwise_iou(box1[None, :, None], box2[:, None])


def box_nms(bboxes: Tensor, scores: Tensor, threshold: float = 0.5) -> Tensor:
    """Runs torchvision's non-maximum suppression on boxes of one class.

    Args:
        bboxes: (N, 4) xyxy boxes
        scores: (N,) scores
        threshold: if the IoU of two boxes exceeds this, the box with the lower score is dropped

    Returns:
        (M,) indices of the kept boxes, by descending score. Boxes with a NaN coordinate or score are dropped.
    """
    known = ~(bboxes.isnan().any(dim=1) | scores.isnan())
    index = known.nonzero()[:, 0]
    return index[nms(bboxes[index].double(), scores[index].double(), threshold)]


def bbox_to_deltas(
    boxes: Tensor,
    default_boxes: Tensor,
    variances: Sequence[float] = [0.1, 0.2],
    max_width: float = 10000,
) -> Tensor:
    """Encodes boxes as offsets to anchors (SSD, Liu et al. 2016, equation 2), divided by `variances`.

    Args:
        boxes: (..., 4) xyxy boxes
        default_boxes: (..., 4) cx, cy, w, h anchors
        variances: two divisors, the first of the centre offsets, the second of the size offsets
        max_width: upper limit of the widths and heights of boxes in pixels

    Returns:
        (..., 4) offsets dx, dy, dw, dh. `deltas_to_bbox` is the inverse function.
    """
    boxes, default_boxes = _real(boxes), _real(default_boxes)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=_MIN_SIDE, max=max_width)
    offset = (centre - default_boxes[..., :2]) / (variances[0] * default_boxes[..., 2:])
    return torch.cat([offset, torch.log(size / default_boxes[..., 2:]) / variances[1]], dim=-1)


def deltas_to_bbox(
    loc_preds: Tensor,
    default_boxes: Tensor,
    variances: Sequence[float] = [0.1, 0.2],
) -> Tensor:
    """Decodes offsets to anchors into boxes. This is the inverse of `bbox_to_deltas`.

    Args:
        loc_preds: (..., 4) offsets dx, dy, dw, dh
        default_boxes: (..., 4) cx, cy, w, h anchors
        variances: two factors, the first of the centre offsets, the second of the size offsets

    Returns:
        (..., 4) xyxy boxes in pixels.
    """
    return decode_offsets(loc_preds, default_boxes, variances[0], variances[1])


def decode_offsets(loc_preds: Tensor, default_boxes: Tensor, varx: float, vary: float) -> Tensor:
    """Scriptable form of `deltas_to_bbox`: `varx` scales the centre offsets, `vary` the size offsets.

    The decoded width and height are at most 1000 / 16 times those of the anchor, as in torchvision and Detectron2. This
    limit prevents an overflow with the offsets of an untrained network.
    """
    loc_preds, default_boxes = _real(loc_preds), _real(default_boxes)
    centre = default_boxes[..., :2] + loc_preds[..., :2] * varx * default_boxes[..., 2:]
    size = default_boxes[..., 2:] * torch.exp((loc_preds[..., 2:] * vary).clamp(max=math.log(1000 / 16)))
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def bboxes_to_box_vectors(bbox: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """Converts boxes to rows x1, y1, x2, y2, class_id, track_id.

    Args:
        bbox: structured array with the fields of `BBOX_dtype`, or an array or tensor of (M, 5) rows x1, y1, x2, y2,
            class_id or (M, 6) rows with an additional track_id.

    Returns:
        (M, 6) rows, as a tensor if `bbox` is a tensor, otherwise as an array. A missing track_id becomes 0.
    """
    if isinstance(bbox, np.ndarray) and bbox.dtype.names:
        vectors = structured_to_unstructured(bbox[["x", "y", "w", "h", "class_id", "track_id"]], dtype=np.float32)
        vectors[:, 2:4] += vectors[:, :2]
        return vectors
    if bbox.ndim != 2 or bbox.shape[1] not in (5, 6):
        raise ValueError(f"bbox: got shape {tuple(bbox.shape)}, allowed: (M, 5), (M, 6) or a structured array")
    if bbox.shape[1] == 6:
        return bbox
    if isinstance(bbox, Tensor):
        return torch.cat([bbox, torch.zeros_like(bbox[:, :1])], dim=1)
    return np.concatenate([bbox, np.zeros_like(bbox[:, :1])], axis=1)


def to_box_tensor(target: Tensor | np.ndarray) -> Tensor:
    """Converts the boxes of one frame to a float32 tensor of rows x1, y1, x2, y2, label.

    Args:
        target: structured array with the fields x, y, w, h, class_id, or (M, >= 5) rows x1, y1, x2, y2, label

    Returns:
        (M, 5) rows x1, y1, x2, y2, label. If `target` already is such a tensor, it is returned without a copy.

    Raises:
        ValueError: the target lacks a field or has another shape.
    """
    if isinstance(target, np.ndarray) and target.dtype.names is not None:
        missing = {"x", "y", "w", "h", "class_id"} - set(target.dtype.names)
        if missing:
            raise ValueError(f"targets: fields {target.dtype.names} lack {sorted(missing)}")
        return torch.from_numpy(np.column_stack([to_corners(target), target["class_id"]]).astype(np.float32))
    rows = torch.as_tensor(target)
    if rows.dtype == torch.float32 and rows.ndim == 2 and rows.shape[1] == 5:
        return rows
    if rows.numel() == 0:
        return rows.new_zeros((0, 5), dtype=torch.float32)
    if rows.ndim != 2 or rows.shape[1] < 5:
        raise ValueError(f"targets: got shape {tuple(rows.shape)}, allowed: (M, >= 5) rows x1, y1, x2, y2, label")
    return rows[:, :5].float()


def pack_boxes_list(targets: Sequence[Tensor | np.ndarray]) -> tuple[Tensor, list[int]]:
    """Packs the boxes of several frames into one padded tensor.

    Args:
        targets: the boxes of each of F frames, in a form that `to_box_tensor` accepts

    Returns:
        the (F, M, 5) rows x1, y1, x2, y2, label, padded with rows of zeros to the largest number of boxes M, and a list
        of the number of boxes of each frame.
    """
    frames = [to_box_tensor(target) for target in targets]
    counts = [len(frame) for frame in frames]
    packed = torch.zeros((len(frames), max(counts, default=0), 5))
    for row, frame in zip(packed, frames, strict=True):
        row[: len(frame)] = frame
    return packed, counts


def assign_priors(
    gt_boxes: Tensor,
    gt_labels: Tensor,
    corner_form_priors: Tensor,
    fg_iou_threshold: float,
    bg_iou_threshold: float,
    allow_low_quality_matches: bool = True,
) -> tuple[Tensor, Tensor]:
    """Assigns the ground-truth boxes of one frame to anchors. `Anchors.encode` assigns boxes in the same way.

    Each anchor is assigned the box with the highest IoU; of boxes with equal IoU, the first. With
    `allow_low_quality_matches`, each box is also assigned one anchor regardless of the IoU, see `match_each_box`.

    Args:
        gt_boxes: (M, 4) xyxy boxes
        gt_labels: (M,) labels, 1..K
        corner_form_priors: (A, 4) xyxy anchors
        fg_iou_threshold: an anchor is positive if its IoU with the assigned box is at least this
        bg_iou_threshold: an anchor is background if this IoU is lower; between the thresholds, it is ignored
        allow_low_quality_matches: assign at least one anchor to every box

    Returns:
        the (A, 4) xyxy boxes assigned to the anchors (zeros for a frame without boxes), and the (A,) int64 labels of
        the anchors: -1 ignored, 0 background, otherwise the label of the assigned box.
    """
    num_priors = len(corner_form_priors)
    if len(gt_boxes) == 0:
        return corner_form_priors.new_zeros((num_priors, 4)), gt_labels.new_zeros(num_priors, dtype=torch.int64)
    ious = box_iou(corner_form_priors, gt_boxes)
    best_iou, best_box = ious.max(dim=1)
    if allow_low_quality_matches:
        force_matches(ious, best_box, best_iou)
    labels = gt_labels.long()[best_box]
    labels[best_iou < fg_iou_threshold] = -1
    labels[best_iou < bg_iou_threshold] = 0
    return gt_boxes[best_box], labels


def force_matches(ious: Tensor, best_box: Tensor, best_iou: Tensor) -> None:
    """Assigns to each box of a frame the anchor that `match_each_box` finds. Changes `best_box` and `best_iou`.

    Args:
        ious: (A, M) IoU of each anchor with each box
        best_box: (A,) index of the box assigned to each anchor, overwritten for the anchors that are found
        best_iou: (A,) IoU of each anchor with its box, set to 2 (`FORCED_IOU`) for the anchors that are found
    """
    anchor = match_each_box(ious.T)
    held = anchor >= 0
    best_box[anchor[held]] = held.nonzero()[:, 0]
    best_iou[anchor[held]] = FORCED_IOU


def match_each_box(ious: Tensor) -> Tensor:
    """Finds one anchor for every box by deferred acceptance (Gale and Shapley 1962).

    Each box asks for its best anchor. If several boxes ask for the same anchor, the box with the highest IoU gets the
    anchor, and the other boxes ask for their next best anchor. No two boxes share an anchor.

    Args:
        ious: (M, A) IoU of each box with each anchor

    Returns:
        (M,) index of the anchor of each box. If there are fewer anchors than boxes, the remaining boxes get -1.
    """
    free = ious.clone()  # set to -1 for pairs in which the anchor has refused the box
    while True:
        iou, anchor = free.max(dim=1)
        lost = contested_claims(anchor, iou)
        lost = lost[iou[lost] >= 0]
        if len(lost) == 0:
            return torch.where(iou >= 0, anchor, -1)
        free[lost, anchor[lost]] = -1


def contested_claims(claim: Tensor, strength: Tensor) -> Tensor:
    """Finds the claims that are refused, if several claims ask for the same item.

    The strongest claim to an item is accepted; of equally strong claims, the first. In `match_each_box`, boxes claim
    anchors, and the strength is the IoU.

    Args:
        claim: (M,) index of the item that each claim asks for
        strength: (M,) strength of each claim

    Returns:
        (L,) indices of the L refused claims.
    """
    order = strength.argsort(descending=True, stable=True)
    order = order[claim[order].argsort(stable=True)]
    wanted = claim[order]
    return order[1:][wanted[1:] == wanted[:-1]]
