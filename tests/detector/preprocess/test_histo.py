import numpy as np
import pytest
from plain_preprocess import plain_columns, plain_counts, random_events

from detector.events import EventCD
from detector.preprocess import histo, stacked_histo
from detector.preprocess.kernels import CHUNK


def test_by_hand():
    events = np.array([(0, 0, 0, 0), (1, 0, 1, 9), (1, 0, 1, 9), (1, 0, 1, 10), (0, 0, 0, 19)], EventCD)
    output = np.full((2, 2, 1, 2), 9, np.uint8)
    histo(events, output, 20)
    assert output.tolist() == [[[[1, 0]], [[0, 2]]], [[[1, 0]], [[0, 1]]]]


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize(("bins", "duration"), [(1, 50), (4, 1000), (3, 1000)])
def test_equals_a_loop_over_events(shift, bins, duration):
    events = random_events(2000, 8, 16, duration)
    counts = plain_counts(events, bins, 8 >> shift, 16 >> shift, duration, shift)
    assert counts.max() > 5
    raw = np.ones(counts.shape, np.uint8)
    histo(events, raw, duration, shift)
    assert np.array_equal(raw, np.minimum(counts, 5))
    for dtype, tolerance in ((np.float32, 1e-6), (np.float16, 1e-3)):
        scaled = np.ones(counts.shape, dtype)
        histo(events, scaled, duration, shift, max_incr_per_pixel=2.5)
        assert np.allclose(scaled, np.minimum(counts, 2.5) / 2.5, rtol=tolerance)


def test_more_events_than_a_chunk():
    events = random_events(2 * CHUNK + 11, 4, 4, 100)
    output = np.zeros((2, 2, 4, 4), np.float32)
    histo(events, output, 100, max_incr_per_pixel=1000)
    assert np.allclose(output * 1000, plain_counts(events, 2, 4, 4, 100), rtol=1e-6)


def test_micro_bins_are_stacked_by_polarity():
    events = random_events(3000, 8, 8, 1000)
    counts = plain_counts(events, 3 * 4, 8, 8, 1000)
    output = np.ones((3, 2 * 4, 8, 8), np.uint8)
    stacked_histo(events, output, 1000, max_incr_per_pixel=255, num_utbins=4)
    assert np.array_equal(output, counts.reshape(3, 4, 2, 8, 8).swapaxes(1, 2).reshape(output.shape))
    scaled = np.ones(output.shape, np.float32)
    stacked_histo(events, scaled, 1000, num_utbins=4)
    assert np.allclose(scaled, np.minimum(output, 5) / 5, rtol=1e-6)


def test_a_pixel_that_fires_more_often_than_a_byte_holds():
    events = np.zeros(300, EventCD)
    output = np.zeros((1, 2, 1, 1), np.uint8)
    histo(events, output, 10)
    assert output.ravel().tolist() == [5, 0]
    histo(events, output, 10, max_incr_per_pixel=255)
    assert output.ravel().tolist() == [255, 0]


def test_columns_equal_structs_in_any_order_and_stay_as_they_are():
    events = random_events(500, 8, 8, 100)
    expected = np.zeros((5, 2, 8, 8), np.uint8)
    histo(events, expected, 100)
    shuffled = np.random.default_rng(1).permutation(events)
    columns = plain_columns(shuffled)
    given = [column.copy() for column in columns]
    for form in (columns, shuffled, tuple(column.astype(np.int64) for column in columns)):
        output = np.zeros_like(expected)
        histo(form, output, 100)
        assert np.array_equal(output, expected)
    assert all(np.array_equal(column, before) for column, before in zip(columns, given, strict=True))


def test_a_batch_of_streams_can_be_filled_stream_by_stream():
    events = random_events(500, 8, 8, 100)
    expected, batch = np.zeros((5, 2, 8, 8), np.uint8), np.zeros((5, 3, 2, 8, 8), np.uint8)
    histo(events, expected, 100)
    histo(events, batch[:, 1], 100)
    assert np.array_equal(batch[:, 1], expected)
    assert not batch[:, [0, 2]].any()


def test_events_before_and_after_are_dropped():
    events = np.array([(0, 0, 1, -1), (0, 0, 1, 5), (0, 0, 1, 10)], EventCD)
    output = np.zeros((1, 2, 1, 1), np.uint8)
    histo(events, output, 10)
    assert output.ravel().tolist() == [0, 1]


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.float16, 5), (np.float32, 5)])
def test_adding_keeps_the_bound(dtype, scale):
    twice = np.zeros((1, 2, 4, 4), dtype)
    first, second = random_events(600, 4, 4, 10, seed=1), random_events(600, 4, 4, 10, seed=2)
    histo(first, twice, 10)
    histo(second, twice, 10, reset=False)
    counts = plain_counts(np.concatenate([first, second]), 1, 4, 4, 10)
    assert counts.max() > 5
    assert np.allclose(twice * scale, np.minimum(counts, 5), rtol=2e-3 if dtype == np.float16 else 1e-6)


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
        ((1, 3, 2, 2), np.uint8, {}, r"output_array: shape: got \(1, 3, 2, 2\), allowed: \(T, 2, H, W\)"),
        ((2, 2, 2), np.uint8, {}, "output_array: shape: got"),
        ((1, 2, 2, 2), bool, {}, "output_array: dtype: got 'bool', allowed: one of uint8, float16, float32"),
        ((1, 2, 2, 2), np.uint8, {"total_tbins_delta_t": 0}, "total_tbins_delta_t: got 0"),
        ((1, 2, 2, 2), np.uint8, {"downsampling_factor": -1}, "downsampling_factor: got -1"),
        ((1, 2, 2, 2), np.uint8, {"max_incr_per_pixel": 2.5}, "max_incr_per_pixel: got 2.5, allowed: whole numbers"),
        ((1, 2, 2, 2), np.uint8, {"max_incr_per_pixel": 256}, "from 1 to 255 in uint8"),
        ((1, 2, 2, 2), np.float32, {"max_incr_per_pixel": 0}, "max_incr_per_pixel: got 0, allowed: above 0"),
        ((1, 2, 2, 2), np.float32, {"max_incr_per_pixel": np.inf}, "max_incr_per_pixel: got inf"),
    ],
)
def test_arguments_that_do_not_fit(shape, dtype, arguments, message):
    with pytest.raises(ValueError, match=message):
        histo(np.zeros(0, EventCD), np.zeros(shape, dtype), **{"total_tbins_delta_t": 10, **arguments})


def test_frames_that_are_not_contiguous_and_times_that_are_not_whole():
    with pytest.raises(ValueError, match="output_array: strides: got .*, allowed: contiguous frames"):
        histo(np.zeros(0, EventCD), np.zeros((1, 2, 4, 4), np.uint8)[..., ::2], 10)
    columns = plain_columns(np.zeros(1, EventCD))
    with pytest.raises(ValueError, match="xypt: dtype of t: got 'float64', allowed: whole numbers"):
        histo((*columns[:3], columns[3].astype(float)), np.zeros((1, 2, 4, 4), np.uint8), 10)
