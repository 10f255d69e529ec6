"""Which boxes count: cropped to the frame, with an area there, and not too small. For labels and detections alike."""

import numpy as np

__all__ = ["crop_boxes", "is_large", "require_finite"]


def crop_boxes(rows: np.ndarray, height: float, width: float) -> np.ndarray:
    """Boxes inside the frame.

    Args:
        rows: (M,) structured boxes.
        height, width: of the frame.

    Returns:
        (M, 4) float64 x, y, w, h; a box without a part inside the frame has w <= 0 or h <= 0.
    """
    x, y, w, h = (rows[name].astype(np.float64) for name in ("x", "y", "w", "h"))
    # Sides are cut, not recomputed from corners: x + w - x is not always w.
    cut_w = w - np.maximum(-x, 0) - np.maximum(x + w - width, 0)
    cut_h = h - np.maximum(-y, 0) - np.maximum(y + h - height, 0)
    return np.stack([x.clip(0, width), y.clip(0, height), cut_w, cut_h], axis=1)


def is_large(boxes: np.ndarray, min_diag: float, min_side: float) -> np.ndarray:
    """(M,) bool: diagonal, width and height of boxes (M, 4) x, y, w, h are at least these."""
    w, h = boxes[:, 2], boxes[:, 3]
    return (w**2 + h**2 >= min_diag**2) & (w >= min_side) & (h >= min_side)


def require_finite(argument: str, rows: np.ndarray, fields: tuple[str, ...]) -> None:
    """Refuse boxes with a field that is nan or infinite.

    Raises:
        ValueError: names the field, the row and its time.
    """
    for name in fields:
        wrong = np.flatnonzero(~np.isfinite(rows[name]))
        if len(wrong):
            row = wrong[0]
            raise ValueError(
                f"{argument}: got {rows[name][row]} for {name} in row {row} (t = {rows['t'][row]}), "
                "allowed: finite numbers"
            )
