"""Matching of labels with detections, and what follows from it: confusion matrix, calibration, best score threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detector.evaluation.coco_backend import EvaluatedBoxes
from detector.utils.compiled import compiled

__all__ = [
    "Calibration",
    "Confusion",
    "Matches",
    "OperatingPoint",
    "ThresholdCurve",
    "calibrate",
    "confusion_matrix",
    "found_labels",
    "match_boxes",
    "threshold_curve",
]

BINS = 10
CALIBRATION_FLOOR = 0.05
"""Lowest score in the calibration. The many detections with lower scores would make any detector look calibrated."""


class Matches(NamedTuple):
    """Matches between labels and detections. Unmatched boxes have the index -1.

    Args:
        label: (M,) index of the detection that matches each label.
        detection: (D,) index of the label that matches each detection.
    """

    label: np.ndarray
    detection: np.ndarray


class OperatingPoint(NamedTuple):
    """A score threshold, and the F1, precision and recall of the detections with at least this score.

    Without labels, all four fields are None. Without detections, score and precision are None, F1 and recall are 0.
    """

    score: float | None
    f1: float | None
    precision: float | None
    recall: float | None


class ThresholdCurve(NamedTuple):
    """F1, precision and recall for all score thresholds. A detection counts if its score is at least the threshold.

    Args:
        labels: number of labels.
        best: threshold with the highest F1; the highest of these thresholds if there are several.
        scores: (S,) thresholds, which are all different scores of detections, decreasing.
        f1: (S,) F1.
        precision: (S,) precision.
        recall: (S,) recall; 0 without labels.
    """

    labels: int
    best: OperatingPoint
    scores: np.ndarray
    f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of labelled and detected classes.

    Args:
        names: names of the K classes, followed by "(background)", a name that no class has.
        counts: K + 1 rows of K + 1 counts. Row i, column j counts the labels of class i that are matched with a
            detection of class j. The last row counts unmatched detections, the last column unmatched labels.
    """

    names: list[str]
    counts: list[list[int]]


@dataclass(frozen=True)
class Calibration:
    """Mean score and precision of the detections in bins of the score. The bins have equal width, from 0 to 1.

    Args:
        floor: lowest score of the detections that are counted.
        error: expected calibration error: the absolute difference between mean score and precision, averaged over the
            bins with the number of detections as weight; None without detections.
        detections: number of detections in each bin.
        scores: mean score of the detections in each bin; None for empty bins.
        precisions: share of the detections in each bin that match a label; None for empty bins.
    """

    floor: float
    error: float | None
    detections: list[int]
    scores: list[float | None]
    precisions: list[float | None]


def match_boxes(boxes: EvaluatedBoxes, iou: float = 0.5, *, same_class: bool = True, min_score: float = 0.0) -> Matches:
    """Match detections with labels, in the order of descending scores.

    Each detection is matched with the label that has the highest IoU among the unmatched labels of the same frame.

    Args:
        boxes: labels and detections.
        iou: lowest IoU of a match.
        same_class: match only labels and detections of the same class.
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
    """Write the matches to `label_match` and `detection_match`, see `Matches`.

    `order` contains the indices of the detections in the order in which they are matched. `boxes`, `classes` and
    `frames` describe the detections. `labels[starts[f]:starts[f + 1]]` are the indices of the labels of frame f.
    """
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
    """Compute the IoU of two boxes x, y, w, h. This is `pairwise_iou` for compiled loops."""
    w = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    h = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (first[2] * first[3] + second[2] * second[3] - w * h)


def found_labels(boxes: EvaluatedBoxes, matches: Matches, score: float | None) -> np.ndarray:
    """Return (M,) bool, whether each label is matched by a detection with at least this score.

    If the score is None, all values are False.
    """
    found = (matches.label >= 0) & (score is not None)
    found[found] = boxes.score[matches.label[found]] >= score
    return found


def threshold_curve(parts: Sequence[tuple[EvaluatedBoxes, Matches]], class_id: int | None = None) -> ThresholdCurve:
    """Compute F1, precision and recall for all score thresholds.

    Args:
        parts: for each recording, its boxes and the matches between boxes of the same class.
        class_id: class of the boxes that are counted; all classes together if None.
    """
    scores = np.concatenate([boxes.score for boxes, _ in parts])
    right = np.concatenate([matches.detection >= 0 for _, matches in parts])
    labels = sum(len(boxes.labels.frame) for boxes, _ in parts)
    if class_id is not None:
        inside = np.concatenate([boxes.detections.class_id for boxes, _ in parts]) == class_id
        scores, right = scores[inside], right[inside]
        labels = sum(int((boxes.labels.class_id == class_id).sum()) for boxes, _ in parts)
    order = np.argsort(-scores, kind="stable")
    scores, shown, hits = scores[order], np.arange(1, len(order) + 1), np.cumsum(right[order])
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # all detections of equal score are included
    scores, shown, hits = scores[last], shown[last], hits[last]
    f1, precision, recall = 2 * hits / (shown + labels), hits / shown, hits / max(labels, 1)
    if not labels:
        best = OperatingPoint(None, None, None, None)
    elif not len(scores):
        best = OperatingPoint(None, 0.0, None, 0.0)
    else:
        top = int(np.argmax(f1))
        best = OperatingPoint(float(scores[top]), float(f1[top]), float(precision[top]), float(recall[top]))
    return ThresholdCurve(labels, best, scores, f1, precision, recall)


def confusion_matrix(parts: Sequence[EvaluatedBoxes], classes: Mapping[int, str], score: float | None) -> Confusion:
    """Match labels and detections of any class at IoU 0.5, and count the matches by pair of classes.

    Args:
        parts: labels and detections of each recording.
        classes: names of the evaluated classes, by class id in the label map.
        score: lowest score of the detections that are counted; None to count all.
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


def calibrate(parts: Sequence[tuple[EvaluatedBoxes, Matches]]) -> Calibration:
    """Compare the scores of detections with their precision (share that matches a label), in bins of the score.

    Args:
        parts: for each recording, its boxes and the matches between boxes of the same class.
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
