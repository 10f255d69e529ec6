"""Rules for which boxes count, the same for labels and detections: boxes are cropped and must be finite."""

import numpy as np

__all__ = ["crop_boxes", "require_finite"]


def crop_boxes(rows: np.ndarray, height: float, width: float) -> np.ndarray:
    """Crop boxes to the frame, without rounding of their sides.

    Args:
        rows: (M,) structured boxes.
        height, width: of the frame.

    Returns:
        (M, 4) float64 x, y, w, h; a box outside the frame has w <= 0 or h <= 0.
    """
    x, y, w, h = (rows[name].astype(np.float64) for name in ("x", "y", "w", "h"))
    # Sides are shortened, not recomputed from corners as in `crop_corners`: x + w - x does not always equal w.
    cut_w = w - np.maximum(-x, 0) - np.maximum(x + w - width, 0)
    cut_h = h - np.maximum(-y, 0) - np.maximum(y + h - height, 0)
    return np.stack([x.clip(0, width), y.clip(0, height), cut_w, cut_h], axis=1)


def require_finite(argument: str, rows: np.ndarray, fields: tuple[str, ...]) -> None:
    """Raise an error if a field of a box is NaN or infinite.

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
