import numpy as np
from measured_boxes import boxes

from detector.evaluation.box_filters import filter_boxes


def test_filter_drops_early_and_small_boxes():
    rows = boxes(
        (1_500_000, 0, 0, 40, 40, 0, 1),  # at first_t + skip_us: too early
        (1_500_001, 0, 0, 40, 40, 0, 1),
        (2_000_000, 0, 0, 18, 24, 0, 1),  # diagonal 30: stays
        (2_000_000, 0, 0, 18, 23, 0, 1),  # diagonal 29.2
        (2_000_000, 0, 0, 10, 40, 0, 1),  # side 10: stays
        (2_000_000, 0, 0, 9.9, 40, 0, 1),
        (2_000_000, 0, 0, 0, 0, 0, 1),  # marks an empty frame: stays
    )
    kept = filter_boxes(rows, first_t=1_000_000, skip_us=500_000, min_box_diag=30, min_box_side=10)
    np.testing.assert_array_equal(kept, rows[[1, 2, 4, 6]])


def test_filter_without_a_skip_keeps_the_first_moment():
    rows = boxes((1_000_000, 0, 0, 3, 3, 0, 1))
    assert len(filter_boxes(rows, first_t=1_000_000, skip_us=0, min_box_diag=0, min_box_side=0)) == 1
