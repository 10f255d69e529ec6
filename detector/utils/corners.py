"""Corners of boxes in numpy arrays. Does not import torch, which takes seconds. See `detector.box` for tensors."""

import numpy as np

__all__ = ["crop_corners", "is_large", "to_corners"]


def to_corners(boxes: np.ndarray, dtype: np.typing.DTypeLike = np.float64) -> np.ndarray:
    """Converts structured boxes with the fields x, y, w, h to (M, 4) rows x1, y1, x2, y2, computed in `dtype`."""
    x, y, w, h = (boxes[name].astype(dtype) for name in "xywh")
    return np.stack([x, y, x + w, y + h], axis=1)


def crop_corners(rows: np.ndarray, height: float, width: float) -> np.ndarray:
    """Returns a copy of (M, >= 4) rows x1, y1, x2, y2, ... with the boxes cropped to a frame, like `box_clamp`."""
    cropped = rows.copy()
    cropped[:, :4] = rows[:, :4].clip(0, [width, height, width, height])
    return cropped


def is_large(w: np.ndarray, h: np.ndarray, min_diag: float, min_side: float) -> np.ndarray:
    """Returns an (M,) mask of the boxes with a diagonal >= `min_diag` and with width and height >= `min_side`."""
    return (np.hypot(w, h) >= min_diag) & (np.minimum(w, h) >= min_side)
