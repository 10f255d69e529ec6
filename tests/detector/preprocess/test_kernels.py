"""The loops, compiled and as plain Python, which is what runs where there is no compiler."""

import numpy as np
import pytest
from plain_preprocess import plain_columns, plain_counts, random_events

from detector.preprocess import kernels


@pytest.fixture(params=["compiled", "plain"])
def loop(request):
    """Function that returns a loop by its name."""
    if request.param == "compiled":
        return lambda name: getattr(kernels, name)
    return lambda name: getattr(getattr(kernels, name), "py_func", getattr(kernels, name))


def events_of(*rows):
    """Columns x, y, p, t."""
    types = (np.uint16, np.uint16, np.uint8, np.int64)
    return tuple(np.array(values, dtype) for values, dtype in zip(zip(*rows, strict=True), types, strict=True))


def test_times_are_sorted_if_none_falls(loop):
    is_sorted = loop("is_sorted")
    assert is_sorted(np.array([], np.int64)) and is_sorted(np.array([7])) and is_sorted(np.array([-3, 1, 1, 2]))
    assert not is_sorted(np.array([1, 2, 1])) and not is_sorted(np.array([2, 1, 3]))


def test_the_highest_number_of_a_column(loop):
    assert loop("highest")(np.array([3, 250, 9], np.uint8)) == 250
    assert loop("highest")(np.array([], np.uint16)) == 0


def test_the_pixel_index_counts_rows_columns_and_planes(loop):
    x, y, p, _ = events_of((11, 6, 1, 0), (0, 7, 0, 0), (8, 0, 1, 0))
    index = np.full(4, 99, np.uint32)
    # Frames of 2 rows and 3 columns, of 4 x 4 sensor pixels each; ON events are 10 pixels further.
    assert loop("pixel_index")(x, y, p, 2, 2, 3, 10, index)
    assert index.tolist() == [10 + 1 * 3 + 2, 3, 10 + 2, 99]


@pytest.mark.parametrize("event", [(12, 0, 0, 0), (0, 8, 0, 0), (0, 0, 2, 0), (0, 0, 255, 0)])
def test_an_event_outside_the_frame_is_reported_and_nothing_is_filled(loop, event):
    x, y, p, t = events_of((1, 1, 1, 0), event)
    index = np.full(2, 99, np.uint32)
    assert not loop("pixel_index")(x, y, p, 2, 2, 3, 0, index)
    assert index.tolist() == [99, 99]
    assert not loop("subtract")(x, y, p, 2, np.zeros((1, 2, 3), np.int32))
    assert not loop("count")(x, y, p, np.array([0, 2]), 2, np.uint8(5), True, np.zeros((2, 2, 3), np.uint8))
    assert not loop("mark")(x, y, p, t, 2, 0, 10, 0, np.zeros((2, 2, 3), np.float32))
    planes = np.zeros((2, 2, 2, 3), np.float32)
    assert not loop("share")(x, y, p, t, 0, np.float32(0.5), np.float32(0.1), 2, planes[0], planes[1])


def test_counts_by_micro_bin_polarity_and_pixel(loop):
    x, y, p, _ = events_of((0, 0, 0, 0), (3, 1, 1, 0), (3, 1, 1, 0), (2, 0, 1, 0), (3, 0, 0, 0))
    counts = np.full((4, 1, 2), 7, np.uint8)
    assert loop("count")(x, y, p, np.array([0, 3, 5]), 1, np.uint8(9), True, counts)
    # Planes: OFF of both micro-bins, then ON of both.
    assert counts[:, 0].tolist() == [[1, 0], [0, 1], [0, 2], [0, 1]]
    assert loop("count")(x, y, p, np.array([0, 3, 5]), 1, np.uint8(3), False, counts)
    assert counts[:, 0].tolist() == [[2, 0], [0, 2], [0, 3], [0, 2]]


def test_counts_of_random_events(loop):
    events = random_events(60, 4, 4, 20)
    x, y, p, _ = plain_columns(events)
    counts = np.ones((2, 2, 2), np.uint8)
    assert loop("count")(x, y, p.view(np.uint8), np.array([0, 60]), 1, np.uint8(5), True, counts)
    events["t"] = 0  # the loop does not look at times
    assert np.array_equal(counts, np.minimum(plain_counts(events, 1, 2, 2, 10, shift=1)[0], 5))


@pytest.mark.parametrize("length", range(9))
def test_each_index_adds_one_up_to_the_bound(loop, length):
    index = np.array([2, 0, 2, 2, 1, 2, 0, 2, 2], np.uint32)[:length]
    counts = np.array([0, 0, 1, 9], np.uint8)
    loop("add")(index, counts, np.uint8(4))
    expected = np.array([0, 0, 1, 9]) + np.bincount(index, minlength=4)
    assert counts.tolist() == np.minimum(expected, [4, 4, 4, 9]).tolist()  # what is above the bound stays


def test_counts_are_divided_and_clipped_to_one(loop):
    frame = np.zeros(4, np.float32)
    loop("divide")(np.array([0, 1, 5, 8], np.uint8), frame, np.float32(5))
    assert frame.tolist() == pytest.approx([0, 0.2, 1, 1])


def test_on_events_add_one_and_off_events_subtract_one(loop):
    x, y, p, _ = events_of((0, 0, 1, 0), (1, 1, 1, 0), (5, 2, 0, 0), (4, 3, 0, 0), (2, 0, 0, 0))
    net = np.array([[[5, 0, 0], [0, 0, 0]]], np.int32)
    assert loop("subtract")(x, y, p, 1, net)
    assert net.tolist() == [[[7, -1, 0], [0, 0, -2]]]


def test_the_time_of_the_last_event_of_a_pixel(loop):
    x, y, p, t = events_of((0, 0, 0, 100), (1, 0, 1, 104), (0, 0, 0, 107), (1, 0, 1, 109))
    surface = np.zeros((2, 1, 2), np.float32)
    assert loop("mark")(x, y, p, t, 0, 100, 10, 0, surface)
    assert surface[:, 0].tolist() == [pytest.approx([0.8, 0]), pytest.approx([0, 1])]


@pytest.mark.parametrize(("duration", "levels"), [(10, 4), (1000, 255), (7, 255), (256, 255)])
def test_times_as_whole_numbers_are_rounded_up(loop, duration, levels):
    """Each microsecond is written to a pixel of its own."""
    x, y, p, t = events_of(*((k, 0, 1, 50 + k) for k in range(duration)))
    surface = np.zeros((2, 1, duration), np.uint8)
    assert loop("mark")(x, y, p, t, 0, 50, duration, levels, surface)
    assert surface[1, 0].tolist() == [-(-levels * (k + 1) // duration) for k in range(duration)]
    assert not surface[0].any()


@pytest.mark.parametrize("polarities", [1, 2])
def test_each_event_is_divided_between_two_micro_bins(loop, polarities):
    x, y, p, t = events_of((0, 0, 1, 20), (1, 0, 0, 25), (1, 0, 0, 26))
    previous, following = np.zeros((2, polarities, 1, 2), np.float32)
    assert loop("share")(x, y, p, t, 20, np.float32(0.25), np.float32(0.1), 0, previous, following)
    # The weights of the later micro-bin are 0.25, 0.75 and 0.85.
    if polarities == 2:
        np.testing.assert_allclose(previous[:, 0], [[0, 0.4], [0.75, 0]], rtol=1e-5)
        np.testing.assert_allclose(following[:, 0], [[0, 1.6], [0.25, 0]], rtol=1e-5)
    else:
        np.testing.assert_allclose(previous[0, 0], [0.75, -0.4], rtol=1e-5)
        np.testing.assert_allclose(following[0, 0], [0.25, -1.6], rtol=1e-5)


@pytest.mark.parametrize(
    ("whole", "dtype", "expected"),
    [(False, np.float32, [0.75, -1.5, 4, -4]), (True, np.int8, [1, -1, 4, -4])],
)
def test_sums_are_scaled_clipped_and_cleared(loop, whole, dtype, expected):
    sums, plane = np.array([0.5, -1, 9, -9], np.float32), np.zeros(4, dtype)
    loop("clip")(sums, plane, np.float32(1.5), np.float32(4), whole)
    assert plane.tolist() == expected and not sums.any()


def test_more_events_than_the_loops_take_at_once(loop):
    size = 2 * kernels.CHUNK + 3
    x = (np.arange(size) % 3).astype(np.uint16)
    zeros, t = np.zeros(size, np.uint16), np.arange(size)
    net, surface = np.zeros((1, 1, 3), np.int32), np.zeros((2, 1, 3), np.float32)
    assert loop("subtract")(x, zeros, zeros.astype(np.uint8), 0, net)
    assert net[0, 0].tolist() == (-np.bincount(x)).tolist()
    assert loop("mark")(x, zeros, zeros.astype(np.uint8), t, 0, 0, size, 0, surface)
    assert surface[0, 0].tolist() == pytest.approx([1, (size - 2) / size, (size - 1) / size])
    counts = np.zeros((2, 1, 3), np.uint16)
    assert loop("count")(x, zeros, zeros.astype(np.uint8), np.array([0, size]), 0, np.uint16(9999), True, counts)
    assert counts[0, 0].tolist() == np.bincount(x).tolist()
