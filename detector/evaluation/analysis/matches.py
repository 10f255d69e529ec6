"""Matches of labels and detections, and the confusion, calibration and best score that follow from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detector.evaluation.coco_backend import FrameBoxes
from detector.utils.compiled import compiled

__all__ = [
    "Calibration",
    "Confusion",
    "Matches",
    "OperatingPoint",
    "best_operating_point",
    "calibrate",
    "confusion_matrix",
    "found_labels",
    "match_boxes",
]

BINS = 10
CALIBRATION_FLOOR = 0.05
"""Lowest score in the calibration: the many detections with lower scores would make any detector look calibrated."""


class Matches(NamedTuple):
    """Pairs of a label and a detection; -1 for unmatched boxes.

    Args:
        label: (M,) index of the detection that found each label.
        detection: (D,) index of the label that each detection found.
    """

    label: np.ndarray
    detection: np.ndarray


class OperatingPoint(NamedTuple):
    """The lowest score of the detections that are shown, and the F1, precision and recall of these detections.

    All are None without labels; score and precision are None without detections.
    """

    score: float | None
    f1: float | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of labelled and detected classes.

    Args:
        names: classes, then "(background)", which no class is named.
        counts: rows are the K classes of labels, then unmatched detections; columns are the K classes of detections,
            then unmatched labels.
    """

    names: list[str]
    counts: list[list[int]]


@dataclass(frozen=True)
class Calibration:
    """Precision of detections by score.

    Args:
        floor: lowest score that is counted.
        error: expected calibration error: mean distance of score and precision over all detections; None without any.
        detections: number of detections in each of the equal bins of scores from 0 to 1.
        scores: mean score of each bin; None without detections.
        precisions: share of each bin's detections that match a label; None without detections.
    """

    floor: float
    error: float | None
    detections: list[int]
    scores: list[float | None]
    precisions: list[float | None]


def match_boxes(boxes: FrameBoxes, iou: float = 0.5, *, same_class: bool = True, min_score: float = 0.0) -> Matches:
    """Match each detection, by descending score, with the unmatched label of its frame that it overlaps most.

    Args:
        boxes: labels and detections.
        iou: lowest overlap of a match.
        same_class: match labels of the detection's class only.
        min_score: detections with a lower score are not matched.
    """
    order = np.lexsort((-boxes.score, boxes.detections.frame))
    order = order[boxes.score[order] >= min_score]
    labels = np.argsort(boxes.labels.frame, kind="stable")
    starts = np.searchsorted(boxes.labels.frame[labels], np.arange(boxes.num_frames + 1))
    found = Matches(np.full(len(labels), -1), np.full(len(boxes.detections.frame), -1))
    detections = boxes.detections.boxes, boxes.detections.class_id, boxes.detections.frame
    truth = boxes.labels.boxes, boxes.labels.class_id
    _match(order, *detections, labels, starts, *truth, iou, same_class, found.label, found.detection)
    return found


@compiled
def _match(
    order: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    frames: np.ndarray,
    labels: np.ndarray,
    starts: np.ndarray,
    label_boxes: np.ndarray,
    label_classes: np.ndarray,
    min_iou: float,
    same_class: bool,
    label_match: np.ndarray,
    detection_match: np.ndarray,
) -> None:
    """Fill both matches. `order` lists the detections; `labels[starts[f]:starts[f + 1]]` are those of frame f."""
    for detection in order:
        frame, best, chosen = frames[detection], 0.0, -1
        for label in labels[starts[frame] : starts[frame + 1]]:
            if label_match[label] >= 0 or (same_class and label_classes[label] != classes[detection]):
                continue
            overlap = _iou(boxes[detection], label_boxes[label])
            if overlap >= min_iou and overlap > best:
                best, chosen = overlap, label
        if chosen >= 0:
            label_match[chosen], detection_match[detection] = detection, chosen


@compiled
def _iou(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of two boxes x, y, w, h: `pairwise_iou` for a compiled loop."""
    w = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    h = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (first[2] * first[3] + second[2] * second[3] - w * h)


def found_labels(boxes: FrameBoxes, matches: Matches, score: float | None) -> np.ndarray:
    """(M,) bool: whether each label was found by a detection of at least this score; all False if it is None."""
    found = (matches.label >= 0) & (score is not None)
    found[found] = boxes.score[matches.label[found]] >= score
    return found


def best_operating_point(parts: Sequence[tuple[FrameBoxes, Matches]]) -> OperatingPoint:
    """Find the score at which F1, computed over all classes together, is highest.

    Args:
        parts: boxes and their matches of the same class.
    """
    scores = np.concatenate([boxes.score for boxes, _ in parts])
    right = np.concatenate([matches.detection >= 0 for _, matches in parts])
    labels = sum(len(boxes.labels.frame) for boxes, _ in parts)
    if not labels:
        return OperatingPoint(None, None, None, None)
    if not len(scores):
        return OperatingPoint(None, 0.0, None, 0.0)
    order = np.argsort(-scores, kind="stable")
    shown, hits = np.arange(1, len(order) + 1), np.cumsum(right[order])
    f1 = 2 * hits / (shown + labels)
    last = np.append(scores[order][1:] != scores[order][:-1], True)  # detections of equal score are shown together
    best = int(np.argmax(np.where(last, f1, -1.0)))
    return OperatingPoint(
        float(scores[order][best]), float(f1[best]), float(hits[best] / shown[best]), float(hits[best] / labels)
    )


def confusion_matrix(parts: Sequence[FrameBoxes], classes: Mapping[int, str], score: float | None) -> Confusion:
    """Count pairs of boxes that overlap by 0.5, regardless of their classes.

    Args:
        parts: the boxes.
        classes: label map ids and names.
        score: lowest score of a detection; all count if None.
    """
    score = 0.0 if score is None else score
    count, index_of = len(classes), {key: index for index, key in enumerate(classes)}
    table = np.zeros((count + 1, count + 1), np.int64)
    for boxes in parts:
        matches = match_boxes(boxes, same_class=False, min_score=score)
        truth = np.array([index_of[key] for key in boxes.labels.class_id.tolist()], np.int64)
        detected = np.array([index_of[key] for key in boxes.detections.class_id.tolist()], np.int64)
        found = matches.label >= 0
        np.add.at(table, (truth, np.where(found, detected[matches.label] if len(detected) else count, count)), 1)
        wrong = (matches.detection < 0) & (boxes.score >= score)
        np.add.at(table[count], detected[wrong], 1)
    return Confusion([*classes.values(), "(background)"], table.tolist())


def calibrate(parts: Sequence[tuple[FrameBoxes, Matches]]) -> Calibration:
    """Compare scores with the share of detections that match a label.

    Args:
        parts: boxes and their matches of the same class.
    """
    scores = np.concatenate([boxes.score for boxes, _ in parts])
    right = np.concatenate([matches.detection >= 0 for _, matches in parts])[scores >= CALIBRATION_FLOOR]
    scores = scores[scores >= CALIBRATION_FLOOR]
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    mean, share = (np.bincount(bins, part, minlength=BINS) / np.maximum(count, 1) for part in (scores, right))
    error = float((np.abs(mean - share) * count).sum() / len(scores)) if len(scores) else None
    known = [
        [value if some else None for value, some in zip(part.tolist(), count, strict=True)] for part in (mean, share)
    ]
    return Calibration(CALIBRATION_FLOOR, error, count.tolist(), *known)
