import numpy as np
import torch

from detector.box import box_clamp
from detector.events import BBOX_dtype
from detector.utils.corners import crop_corners, is_large, to_corners


def labels_array(*rows: tuple[float, float, float, float, int]) -> np.ndarray:
    array = np.zeros(len(rows), BBOX_dtype)
    for row, (x, y, w, h, class_id) in zip(array, rows, strict=True):
        row["x"], row["y"], row["w"], row["h"], row["class_id"] = x, y, w, h, class_id
    return array


def test_corners_of_structured_boxes_in_the_wanted_type():
    array = labels_array((1.5, 2, 10, 20, 3), (0, 0, 0, 5, 1))
    corners = to_corners(array)
    assert corners.dtype == np.float64
    assert corners.tolist() == [[1.5, 2, 11.5, 22], [0, 0, 0, 5]]
    assert to_corners(array, np.float32).dtype == np.float32


def test_rows_are_cropped_as_tensors_are():
    rows = np.array([[-5.0, 2, 20, 9, 7], [30, 30, 40, 40, -1]], np.float32)
    cropped = crop_corners(rows, height=8, width=10)
    assert cropped.dtype == np.float32
    assert cropped.tolist() == [[0, 2, 10, 8, 7], [10, 8, 10, 8, -1]]
    assert cropped[:, :4].tolist() == box_clamp(torch.tensor(rows[:, :4]), 0, 0, 10, 8).tolist()
    assert rows[0].tolist() == [-5, 2, 20, 9, 7]


def test_limits_of_size_are_inclusive():
    w, h = np.array([[18, 24], [18, 23], [10, 40], [9.9, 40], [40, 9.9]]).T
    assert is_large(w, h, min_diag=30, min_side=10).tolist() == [True, False, True, False, False]
    assert is_large(np.zeros(1), np.zeros(1), 0, 0).all()
