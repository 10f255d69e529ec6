"""Which boxes count: filters by time and size, for labels and detections alike."""

import numpy as np

__all__ = ["filter_boxes", "is_marker"]


def filter_boxes(
    boxes: np.ndarray, first_t: int, skip_us: float, min_box_diag: float, min_box_side: float
) -> np.ndarray:
    """The boxes that count: not at the start of a recording and not too small. For labels and detections alike.

    A row with w = h = 0 is no box: it marks a frame that was looked at and holds none. Such rows stay, but for those at
    the start.

    Args:
        boxes: (M,) structured boxes.
        first_t: time in microseconds at which the recording's first frame starts.
        skip_us: boxes with `t - first_t <= skip_us` are dropped; 0 drops none.
        min_box_diag: smallest diagonal in pixels that stays.
        min_box_side: smallest width and smallest height in pixels that stay.

    Returns:
        The rows that stay, in their order.
    """
    width, height = boxes["w"].astype(np.float64), boxes["h"].astype(np.float64)
    large = (width**2 + height**2 >= min_box_diag**2) & (width >= min_box_side) & (height >= min_box_side)
    late = boxes["t"] - first_t > skip_us if skip_us > 0 else np.ones(len(boxes), bool)
    return boxes[late & (large | is_marker(boxes))]


def is_marker(rows: np.ndarray) -> np.ndarray:
    """Rows that mark a frame without boxes."""
    return (rows["w"] == 0) & (rows["h"] == 0)
