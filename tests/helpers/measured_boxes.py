"""Labelled boxes, and their mAP by `CocoEvaluator`."""

import numpy as np

from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.events import BBOX_dtype

HALF = 51 / 101  # precision 1 at the recalls 0, 0.01, ..., 0.50 of 101


def boxes(*rows, dtype=BBOX_dtype):
    """Rows (t, x, y, w, h, class_id, score)."""
    array = np.zeros(len(rows), dtype)
    for index, name in enumerate(("t", "x", "y", "w", "h", "class_id", "class_confidence")):
        array[name] = [row[index] for row in rows]
    return array


def measure(labels, detections, classes=("pedestrian", "car"), **options):
    evaluator = CocoEvaluator(classes, 240, 304, **options)
    evaluator.partial_eval([labels], [detections])
    return evaluator.accumulate()


TWO = boxes((100_000, 10, 10, 40, 40, 1, 1), (100_000, 100, 100, 40, 40, 1, 1))
