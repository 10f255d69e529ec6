"""Corners of boxes in numpy arrays, without torch, whose import takes seconds; `detector.box` has them for tensors."""

import numpy as np

__all__ = ["crop_corners", "is_large", "to_corners"]


def to_corners(boxes: np.ndarray, dtype: np.typing.DTypeLike = np.float64) -> np.ndarray:
    """Returns (M, 4) x1, y1, x2, y2 of structured boxes with the fields x, y, w, h, computed in `dtype`."""
    x, y, w, h = (boxes[name].astype(dtype) for name in "xywh")
    return np.stack([x, y, x + w, y + h], axis=1)


def crop_corners(rows: np.ndarray, height: float, width: float) -> np.ndarray:
    """Crops (M, >= 4) rows x1, y1, x2, y2, ... of an array to a frame, as `box_clamp` does for tensors."""
    cropped = rows.copy()
    cropped[:, :4] = rows[:, :4].clip(0, [width, height, width, height])
    return cropped


def is_large(w: np.ndarray, h: np.ndarray, min_diag: float, min_side: float) -> np.ndarray:
    """Returns (M,) bool: diagonal, width and height of boxes are at least the limits."""
    return (np.hypot(w, h) >= min_diag) & (np.minimum(w, h) >= min_side)
