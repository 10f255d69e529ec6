"""Labelled boxes, and their mAP by `CocoEvaluator`."""

import numpy as np

from detector.evaluation.coco_backend import EvaluatedBoxes, FrameRows
from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.events import BBOX_dtype

HALF = 51 / 101  # precision 1 at the recalls 0, 0.01, ..., 0.50 of 101


def boxes(*rows, dtype=BBOX_dtype):
    """Rows (t, x, y, w, h, class_id, score)."""
    array = np.zeros(len(rows), dtype)
    for index, name in enumerate(("t", "x", "y", "w", "h", "class_id", "class_confidence")):
        array[name] = [row[index] for row in rows]
    return array


def frame_boxes(labels, detections, num_frames=2):
    """Labels (frame, x, class) and detections (frame, x, class, score) of 10 x 10 boxes at y = 0."""

    def columns(rows, width):
        table = np.array(rows, np.float64).reshape(-1, width)
        corners = np.stack([table[:, 1], 0 * table[:, 1], 0 * table[:, 1] + 10, 0 * table[:, 1] + 10], axis=1)
        return FrameRows(table[:, 0].astype(int), corners, table[:, 2].astype(int), np.arange(len(table)))

    scores = np.array([row[3] for row in detections], np.float64)
    return EvaluatedBoxes(num_frames, columns(labels, 3), columns(detections, 4), scores)


def measure(labels, detections, classes=("pedestrian", "car"), **options):
    evaluator = CocoEvaluator(classes, 240, 304, **options)
    evaluator.partial_eval([labels], [detections])
    return evaluator.accumulate()


TWO = boxes((100_000, 10, 10, 40, 40, 1, 1), (100_000, 100, 100, 40, 40, 1, 1))
