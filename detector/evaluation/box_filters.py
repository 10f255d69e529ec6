"""Cropping of boxes, and a check for finite values. Both are used for labels and for detections."""

import numpy as np

__all__ = ["crop_boxes", "require_finite"]


def crop_boxes(rows: np.ndarray, height: float, width: float) -> np.ndarray:
    """Crop boxes to the frame. Boxes inside the frame keep the exact width and height.

    Args:
        rows: (M,) structured boxes.
        height, width: size of the frame in pixels.

    Returns:
        (M, 4) float64 x, y, w, h. A box outside the frame has w <= 0 or h <= 0.
    """
    x, y, w, h = (rows[name].astype(np.float64) for name in ("x", "y", "w", "h"))
    # Sides are not recomputed from corners as in `crop_corners`, because x + w - x does not always equal w.
    cropped_w = w - np.maximum(-x, 0) - np.maximum(x + w - width, 0)
    cropped_h = h - np.maximum(-y, 0) - np.maximum(y + h - height, 0)
    return np.stack([x.clip(0, width), y.clip(0, height), cropped_w, cropped_h], axis=1)


def require_finite(argument: str, rows: np.ndarray, fields: tuple[str, ...]) -> None:
    """Raise an error if a field of a box is NaN or infinite.

    Args:
        argument: name of the checked argument, for the error message.
        rows: (M,) structured boxes.
        fields: names of the fields to check.

    Raises:
        ValueError: a value is not finite. The message names its field, its row and the time of the box.
    """
    for name in fields:
        wrong = np.flatnonzero(~np.isfinite(rows[name]))
        if len(wrong):
            row = wrong[0]
            raise ValueError(
                f"{argument}: got {rows[name][row]} for {name} in row {row} (t = {rows['t'][row]}), "
                "allowed: finite numbers"
            )
