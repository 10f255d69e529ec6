import numpy as np

from detector.data.check.label_file import near_duplicates
from detector.events import BBOX_dtype


def boxes(*rows):
    """Rows of t, x, y, w, h, class_id, track_id."""
    return np.array([(*row, 1.0) for row in rows], BBOX_dtype)


def test_boxes_that_are_nearly_equal():
    found = near_duplicates(
        boxes(
            (5, 10, 20, 100, 50, 0, 1),
            (5, 61, 20, 100, 50, 0, 7),
            (5, 11, 20, 100, 50, 0, 2),  # an overlap of 99 / 101 with the first one
            (4, 10, 20, 100, 50, 0, 4),
            (4, 10, 20.5, 100, 50, 0, 9),  # 49.5 / 50.5
        )
    )
    assert found.tolist() == [[3, 4], [0, 2]]


def test_boxes_that_are_different_objects():
    assert near_duplicates(boxes()).tolist() == []
    pairs = [
        ((5, 10, 20, 100, 50, 0, 1), (5, 13, 20, 100, 50, 0, 2)),  # 97 / 103
        ((5, 10, 20, 100, 50, 0, 1), (6, 11, 20, 100, 50, 0, 2)),
        ((5, 10, 20, 100, 50, 0, 1), (5, 11, 20, 100, 50, 1, 2)),
        ((5, 10, 20, 100, 50, 0, 1), (5, 11, 20, 100, 50, 0, 1)),  # one track twice is another finding
        ((5, 10, 20, 100, 50, 0, 1), (5, 10, 20, 100, 50, 0, 2)),  # as are equal boxes
    ]
    assert [near_duplicates(boxes(*pair)).tolist() for pair in pairs] == [[]] * 5


def test_boxes_with_others_between_them():
    rows = [(5, 10 + step / 10, y, 100, 50, 0, step) for step, y in enumerate((20, 90, 150, 220, 20.2))]
    assert near_duplicates(boxes(*rows)).tolist() == [[0, 4]]
