import numpy as np
import pytest
from plain_preprocess import plain_columns, plain_surface, random_events

from detector.events import EventCD
from detector.preprocess import multi_channel_timesurface, timesurface
from detector.preprocess.kernels import mark


def test_by_hand():
    events = np.array([(0, 0, 0, 0), (1, 0, 1, 2), (1, 0, 1, 9), (0, 0, 1, 14)], EventCD)
    output = np.full((2, 2, 1, 2), 9, np.float32)
    timesurface(events, output, 20)
    assert np.allclose(output, [[[[0.1, 0]], [[0, 1]]], [[[0, 0]], [[0.5, 0]]]])
    levels = np.full((2, 2, 1, 2), 9, np.uint8)
    timesurface(events, levels, 20)
    assert levels.tolist() == [[[[26, 0]], [[0, 255]]], [[[0, 0]], [[128, 0]]]]


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(("bins", "duration"), [(1, 50), (3, 1000), (7, 100_000)])
def test_equals_a_loop_over_events(shift, bins, duration):
    events = random_events(1500, 8, 16, duration)
    expected = plain_surface(events, bins, 8 >> shift, 16 >> shift, duration, shift)
    levels = np.ones(expected.shape, np.uint8)
    timesurface(events, levels, duration, shift)
    assert np.array_equal(levels, np.ceil(expected * 255 - 1e-9))
    for dtype, tolerance in ((np.float32, 1e-6), (np.float16, 1e-3)):
        output = np.ones(expected.shape, dtype)
        timesurface(np.random.default_rng(0).permutation(events), output, duration, shift)
        assert np.allclose(output, expected, rtol=tolerance)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_adding_keeps_the_later_time(dtype):
    early, late = np.array([(0, 0, 0, 3), (1, 0, 0, 3)], EventCD), np.array([(1, 0, 0, 7)], EventCD)
    both = np.zeros((1, 2, 1, 2), dtype)
    timesurface(np.concatenate([early, late]), both, 10)
    for first, second in ((early, late), (late, early)):
        output = np.zeros_like(both)
        timesurface(first, output, 10)
        timesurface(second, output, 10, reset=False)
        assert np.array_equal(output, both)


def test_six_channels_are_the_surfaces_of_three_thirds():
    events = random_events(500, 8, 8, 1000)
    expected = np.zeros((6, 2, 8, 8), np.float32)
    timesurface(events, expected, 1000)
    for dtype in (np.float32, np.uint8):
        output = np.ones((2, 6, 8, 8), dtype)
        multi_channel_timesurface(events, output, 1000)
        assert np.allclose(
            output,
            expected.reshape(output.shape) * (1 if dtype == np.float32 else 255),
            atol=1.01 * (dtype == np.uint8),
        )
        assert np.array_equal(output > 0, expected.reshape(output.shape) > 0)


def test_no_events_clear_the_output():
    for dtype in (np.uint8, np.float16, np.float32):
        output = np.ones((3, 2, 2, 2), dtype)
        timesurface(np.zeros(0, EventCD), output, 30)
        assert not output.any()


def test_the_loops_run_as_plain_python():
    events = random_events(60, 4, 4, 20)
    events["t"] = np.sort(events["t"].clip(0, 19))
    x, y, p, t = plain_columns(events)
    expected = plain_surface(events, 1, 2, 2, 20, 1)[0]
    for levels, surface in ((0, np.zeros((2, 2, 2), np.float32)), (255, np.zeros((2, 2, 2), np.uint8))):
        getattr(mark, "py_func", mark)(x, y, p.view(np.uint8), t, 1, 0, 20, levels, surface)
        scale = levels or 1
        assert np.allclose(surface, expected * scale, atol=scale - 1 + 1e-6)
