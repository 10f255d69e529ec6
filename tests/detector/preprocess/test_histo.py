import numpy as np
import pytest

from detector.events import EventCD
from detector.preprocess import PREPROCESS, histo
from detector.preprocess.histo import CHUNK


def random_events(count, height, width, duration, seed=0):
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EventCD)
    events["x"] = rng.integers(0, width, count)
    events["y"] = rng.integers(0, height, count)
    events["p"] = rng.integers(0, 2, count)
    events["t"] = np.sort(rng.integers(0, duration, count))
    return events


def count_one_by_one(events, shape, duration, shift=0):
    counts = np.zeros(shape, np.int64)
    for x, y, p, t in events.tolist():
        if 0 <= t < duration:
            counts[t * shape[0] // duration, p, y >> shift, x >> shift] += 1
    return counts


def test_by_hand():
    events = np.array([(0, 0, 0, 0), (1, 0, 1, 9), (1, 0, 1, 9), (1, 0, 1, 10), (0, 0, 0, 19)], EventCD)
    output = np.full((2, 2, 1, 2), 9, np.uint8)
    histo(events, output, 20)
    assert output.tolist() == [[[[1, 0]], [[0, 2]]], [[[1, 0]], [[0, 1]]]]


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize(("bins", "duration"), [(1, 50), (4, 1000), (3, 1000)])
def test_equals_a_loop_over_events(shift, bins, duration):
    events = random_events(2000, 8, 16, duration + 100)
    shape = (bins, 2, 8 >> shift, 16 >> shift)
    counts = count_one_by_one(events, shape, duration, shift)
    assert counts.max() > 5
    raw = np.ones(shape, np.uint8)
    histo(events, raw, duration, shift)
    assert np.array_equal(raw, np.minimum(counts, 5))
    scaled = np.ones(shape, np.float32)
    histo(events, scaled, duration, shift, max_incr_per_pixel=2.5)
    assert np.allclose(scaled, np.minimum(counts, 2.5) / 2.5, rtol=1e-6)


def test_more_events_than_a_chunk():
    events = random_events(2 * CHUNK + 11, 4, 4, 100)
    output = np.zeros((2, 2, 4, 4), np.uint16)
    histo(events, output, 100, max_incr_per_pixel=65535)
    assert np.array_equal(output, count_one_by_one(events, output.shape, 100))
    assert output.sum() == len(events)


def test_a_pixel_that_fires_more_often_than_a_byte_holds():
    events = np.zeros(300, EventCD)
    output = np.zeros((1, 2, 1, 1), np.uint8)
    histo(events, output, 10)
    assert output.ravel().tolist() == [5, 0]
    histo(events, output, 10, max_incr_per_pixel=255)
    assert output.ravel().tolist() == [255, 0]


def test_columns_equal_structs_in_any_order():
    events = random_events(500, 8, 8, 100)
    expected = np.zeros((5, 2, 8, 8), np.uint8)
    histo(events, expected, 100)
    shuffled = np.random.default_rng(1).permutation(events)
    columns = (shuffled["x"].copy(), shuffled["y"].copy(), shuffled["p"].astype(np.int8), shuffled["t"].copy())
    given = [column.copy() for column in columns]
    output = np.zeros_like(expected)
    histo(columns, output, 100)
    assert np.array_equal(output, expected)
    assert all(np.array_equal(column, before) for column, before in zip(columns, given, strict=True))


def test_events_before_and_after_are_dropped():
    events = np.array([(0, 0, 1, -1), (0, 0, 1, 5), (0, 0, 1, 10)], EventCD)
    output = np.zeros((1, 2, 1, 1), np.uint8)
    histo(events, output, 10)
    assert output.ravel().tolist() == [0, 1]


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.float32, 5)])
def test_adding_keeps_the_bound(dtype, scale):
    twice = np.zeros((1, 2, 4, 4), dtype)
    first, second = random_events(60, 4, 4, 10, seed=1), random_events(60, 4, 4, 10, seed=2)
    histo(first, twice, 10)
    histo(second, twice, 10, reset=False)
    counts = count_one_by_one(np.concatenate([first, second]), twice.shape, 10)
    assert counts.max() > 5
    assert np.allclose(twice * scale, np.minimum(counts, 5), rtol=1e-6)


def test_no_events_clear_the_output():
    output = np.ones((3, 2, 2, 2), np.float16)
    histo(np.zeros(0, EventCD), output, 30)
    assert not output.any()


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ((4, 0, 0, 0), "x runs from 4 to 4, allowed: 0 to 3"),
        ((0, 6, 0, 0), "y runs from 6 to 6, allowed: 0 to 5"),
        ((0, 0, -1, 0), "p runs from -1 to -1, allowed: 0 to 1"),
        ((0, 0, 2, 0), "p runs from 2 to 2"),
    ],
)
def test_events_outside_are_refused(event, message):
    with pytest.raises(ValueError, match=message):
        histo(np.array([event], EventCD), np.zeros((1, 2, 3, 2), np.uint8), 10, 1)


@pytest.mark.parametrize(
    ("shape", "dtype", "arguments", "message"),
    [
        ((1, 3, 2, 2), np.uint8, {}, r"output_array: got shape \(1, 3, 2, 2\), allowed: \(T, 2, H, W\)"),
        ((2, 2, 2), np.uint8, {}, "output_array: got shape"),
        ((1, 2, 2, 2), bool, {}, "output_array: got dtype bool"),
        ((1, 2, 2, 2), np.uint8, {"total_tbins_delta_t": 0}, "total_tbins_delta_t: got 0"),
        ((1, 2, 2, 2), np.uint8, {"downsampling_factor": -1}, "downsampling_factor: got -1"),
        ((1, 2, 2, 2), np.uint8, {"max_incr_per_pixel": 2.5}, "max_incr_per_pixel: got 2.5, allowed: whole numbers"),
        ((1, 2, 2, 2), np.uint8, {"max_incr_per_pixel": 256}, "from 1 to 255 in uint8"),
        ((1, 2, 2, 2), np.float32, {"max_incr_per_pixel": 0}, "max_incr_per_pixel: got 0, allowed: finite and above 0"),
    ],
)
def test_arguments_that_do_not_fit(shape, dtype, arguments, message):
    with pytest.raises(ValueError, match=message):
        histo(np.zeros(0, EventCD), np.zeros(shape, dtype), **{"total_tbins_delta_t": 10, **arguments})


def test_the_dict_of_names():
    assert PREPROCESS["histo"] is histo
