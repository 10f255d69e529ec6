"""Inference with an exported detector: `Predictor`, detection in whole recordings, and files of boxes.

Does not belong here: detection in training and evaluation (`evaluation/detect.py`).
"""

from detector.inference.predictor import Predictor

__all__ = ["Predictor"]
