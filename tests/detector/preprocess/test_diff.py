import numpy as np
import pytest
from plain_preprocess import plain_counts, random_events

from detector.events import EventCD
from detector.preprocess import diff


def plain_diff(events, bins, height, width, duration, shift=0):
    counts = plain_counts(events, bins, height, width, duration, shift)
    return counts[:, 1:] - counts[:, :1]


def test_by_hand():
    events = np.array([(0, 0, 1, 0), (0, 0, 1, 9), (1, 0, 0, 9), (1, 0, 1, 10), (1, 0, 0, 19)], EventCD)
    output = np.full((2, 1, 1, 2), 9, np.int8)
    diff(events, output, 20)
    assert output.tolist() == [[[[2, -1]]], [[[0, 0]]]]


def test_the_sum_is_clipped_and_not_each_event():
    on_then_off = np.array([(0, 0, p, 0) for p in [1] * 8 + [0] * 4], EventCD)
    output = np.zeros((1, 1, 1, 1), np.int8)
    for events in (on_then_off, on_then_off[::-1]):
        diff(events, output, 10, max_incr_per_pixel=5)
        assert output.item() == 4


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(("bins", "duration"), [(1, 50), (3, 1000)])
def test_equals_a_loop_over_events(shift, bins, duration):
    events = random_events(3000, 8, 16, duration)
    expected = plain_diff(events, bins, 8 >> shift, 16 >> shift, duration, shift)
    assert expected.max() > 5 and expected.min() < -5
    raw = np.ones(expected.shape, np.int8)
    diff(events, raw, duration, shift)
    assert np.array_equal(raw, expected.clip(-5, 5))
    for dtype, tolerance in ((np.float32, 1e-6), (np.float16, 1e-3)):
        scaled = np.ones(expected.shape, dtype)
        diff(events, scaled, duration, shift, max_incr_per_pixel=2.5)
        assert np.allclose(scaled, expected.clip(-2.5, 2.5) / 2.5, rtol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"), [(np.int8, 1, 0), (np.float16, 100, 1e-2), (np.float32, 100, 1e-5)]
)
def test_adding(dtype, scale, tolerance):
    first, second = random_events(600, 4, 4, 10, seed=1), random_events(600, 4, 4, 10, seed=2)
    output = np.zeros((1, 1, 4, 4), dtype)
    diff(first, output, 10, max_incr_per_pixel=100)
    diff(second, output, 10, reset=False, max_incr_per_pixel=100)
    expected = plain_diff(np.concatenate([first, second]), 1, 4, 4, 10)
    assert np.allclose(output.astype(float) * scale, expected, atol=tolerance * 10)


def test_types():
    with pytest.raises(ValueError, match="output_array: dtype: got 'uint8', allowed: one of int8, float16, float32"):
        diff(np.zeros(0, EventCD), np.zeros((1, 1, 2, 2), np.uint8), 10)
    with pytest.raises(ValueError, match="max_incr_per_pixel: got 128, allowed: whole numbers from 1 to 127 in int8"):
        diff(np.zeros(0, EventCD), np.zeros((1, 1, 2, 2), np.int8), 10, max_incr_per_pixel=128)
