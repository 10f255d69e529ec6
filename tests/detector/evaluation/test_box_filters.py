import numpy as np
import pytest
from measured_boxes import boxes

from detector.evaluation.box_filters import crop_boxes, require_finite


def test_boxes_are_cut_at_all_four_sides():
    rows = boxes(
        (0, -5, -7, 20, 30, 0, 1),  # 15 x 23 remain
        (0, 90, 70, 20, 30, 0, 1),  # 10 x 10 remain of 100 x 80
        (0, 0.1, 0.1, 10, 10, 0, 1),  # untouched: exactly 10
        (0, -10, -20, 200, 200, 0, 1),  # the whole frame
        (0, 120, 10, 20, 20, 0, 1),  # outside
    )
    cropped = crop_boxes(rows, height=80, width=100)
    np.testing.assert_allclose(cropped[[0, 1, 3]], [[0, 0, 15, 23], [90, 70, 10, 10], [0, 0, 100, 80]])
    assert cropped[2, 2:].tolist() == [10.0, 10.0]
    assert cropped[4, 2] <= 0


def test_the_first_field_that_is_not_finite_is_named():
    rows = boxes((5, 0, 0, 1, 1, 0, 1), (7, 0, np.nan, 1, 1, 0, 1))
    require_finite("labels", rows, ("t", "x", "w", "h"))
    with pytest.raises(ValueError, match=r"^labels: got nan for y in row 1 \(t = 7\), allowed: finite numbers$"):
        require_finite("labels", rows, ("t", "x", "y"))
