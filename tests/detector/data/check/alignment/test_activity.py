import numpy as np
import pytest

from detector.data.check.alignment import activity as module
from detector.data.check.alignment.activity import ActivityBuilder, choose_window


def columns(rows):
    t, x, y = np.array(rows, np.int64).T
    return x.astype(np.uint16), y.astype(np.uint16), np.zeros(len(t), np.int8), t


ROWS = [(1_000, 0, 0), (1_000, 7, 2), (21_000, 7, 2), (45_000, 6, 4), (99_000, 7, 2)]


@pytest.fixture
def activity():
    """Three steps of 20 ms from 1 ms, on a sensor of 5 rows and 8 columns; the last event is after them."""
    builder = ActivityBuilder((5, 8), (1_000, 61_000), 20_000)
    builder.add_events(columns(ROWS[:2]))
    builder.add_events(columns(ROWS[2:]))
    return builder.build()


def test_counts_in_boxes(activity):
    boxes = np.array([[0, 0, 8, 5], [7, 2, 8, 3], [0, 0, 1, 1], [6, 4, 7, 5], [0, 4, 1, 5]], float)
    assert (activity.start, activity.end) == (1_000, 61_000)
    assert activity.count(boxes, np.full(5, 31_000.0), 60_000).tolist() == [4, 2, 1, 1, 0]
    # From 11 to 31 ms: half of the first step and half of the second one.
    assert activity.count(boxes, np.full(5, 21_000.0), 20_000).tolist() == [1.5, 1, 0.5, 0, 0]


def test_parts_of_pixels_count_in_part(activity):
    box = np.array([[6.75, 2, 7.5, 2.5]])
    assert activity.count(box, np.array([31_000.0]), 60_000) == [2 * 0.5 * 0.5]


def test_image(activity):
    found = activity.image(11_000, 20_000)
    assert found.shape == (5, 8)
    assert {(y, x): int(found[y, x]) for y, x in zip(*np.nonzero(found), strict=True)} == {(0, 0): 1, (2, 7): 1}


def test_large_grids_have_larger_cells(monkeypatch):
    monkeypatch.setattr(module, "MAX_ENTRIES", 20)
    builder = ActivityBuilder((5, 8), (0, 40_000), 20_000)
    builder.add_events(columns(ROWS[:3]))
    found = builder.build()
    assert found.cell == (3, 3)  # 2 steps x 2 rows x 3 columns
    assert found.image(20_000, 40_000).tolist() == [[1, 0, 2], [0, 0, 0]]


def test_frames_of_another_size_than_the_sensor():
    builder = ActivityBuilder((6, 8), (0, 100_000), 50_000)
    frame = np.zeros((3, 4), bool)
    frame[2, 0] = frame[0, 3] = True
    builder.add_frame(1, frame)
    found = builder.build()
    boxes = np.array([[0, 4, 2, 6], [6, 0, 8, 2], [0, 0, 2, 2]], float)
    assert found.count(boxes, np.full(3, 75_000.0), 50_000).tolist() == [1, 1, 0]
    assert found.count(boxes, np.full(3, 25_000.0), 50_000).tolist() == [0, 0, 0]


def test_the_part_with_the_most_labels_is_chosen():
    second = 1_000_000
    assert choose_window(np.array([5]), (3, 99), 200) == (3, 100)
    sparse, dense = np.arange(0, 300, 10) * second, np.arange(200, 230) * second
    start, end = choose_window(np.unique(np.append(sparse, dense)), (0, 300 * second), 50 * second)
    assert end - start == 50 * second
    assert start <= 200 * second
    assert end >= 229 * second
    assert choose_window(np.empty(0, np.int64), (7, 300 * second), 50 * second) == (7, 50 * second + 7)


def test_a_short_part_contains_the_labels_too():
    start, end = choose_window(np.array([1_190_000]), (0, 9_999_999), 200_000)
    assert (start, end) == (1_140_000, 1_340_000)  # a quarter before the label
