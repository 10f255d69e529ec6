import numpy as np
import pytest
from plain_preprocess import plain_columns, plain_cube, random_events

from detector.events import EventCD
from detector.preprocess import event_cube
from detector.preprocess.kernels import share


def test_by_hand():
    # Two micro-bins of 10 us with centres at 5 and 15 us: 2 us is before the first, 10 us between both, 18 us after.
    events = np.array([(0, 0, 1, 2), (1, 0, 0, 8), (0, 0, 0, 10), (0, 0, 1, 18)], EventCD)
    output = np.full((1, 4, 1, 2), 9, np.float32)
    event_cube(events, output, 20, max_incr_per_pixel=2, num_utbins=2)
    assert np.allclose(output * 2, [[[[0.5, 0.7]], [[0.7, 0]], [[0.5, 0.3]], [[0.7, 0]]]])
    signed = np.full((1, 2, 1, 2), 9, np.float32)
    event_cube(events, signed, 20, max_incr_per_pixel=2, num_utbins=2, split_polarity=False)
    assert np.allclose(signed * 2, [[[[0.2, -0.7]], [[0.2, -0.3]]]], atol=1e-6)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(("bins", "utbins", "duration"), [(1, 1, 50), (3, 3, 1000), (2, 10, 100_000)])
def test_equals_a_loop_over_events(split, shift, bins, utbins, duration):
    events = random_events(4000, 8, 16, duration)
    height, width = 8 >> shift, 16 >> shift
    cube = plain_cube(events, bins, utbins, height, width, duration, shift)
    sums = cube.reshape(bins, -1, height, width) if split else cube[:, :, 1] - cube[:, :, 0]
    bound = 1.0
    expected = (sums / (bound * 4**shift)).clip(-1, 1)
    assert abs(expected).max() == 1
    parameters = {"max_incr_per_pixel": bound, "num_utbins": utbins, "split_polarity": split}
    for dtype, tolerance in ((np.float32, 1e-5), (np.float16, 1e-3)):
        output = np.ones(sums.shape, dtype)
        event_cube(events, output, duration, shift, **parameters)
        assert np.allclose(output, expected, atol=tolerance)
    levels = np.ones(sums.shape, np.uint8 if split else np.int8)
    event_cube(events, levels, duration, shift, **parameters)
    assert np.allclose(levels, expected * (255 if split else 127), atol=0.501)


@pytest.mark.parametrize(
    ("dtype", "split", "highest"),
    [(np.uint8, True, 255), (np.int8, False, 127), (np.float16, True, 1), (np.float32, False, 1)],
)
def test_adding(dtype, split, highest):
    first, second = random_events(600, 4, 4, 100, seed=1), random_events(600, 4, 4, 100, seed=2)
    cube = plain_cube(np.concatenate([first, second]), 2, 3, 4, 4, 100)
    expected = cube.reshape(2, 6, 4, 4) if split else cube[:, :, 1] - cube[:, :, 0]
    output = np.ones(expected.shape, dtype)
    parameters = {"max_incr_per_pixel": 50, "split_polarity": split}
    event_cube(first, output, 100, **parameters)
    event_cube(second, output, 100, reset=False, **parameters)
    assert np.allclose(output / highest, expected / 50, atol=1.01 / highest if highest > 1 else 1e-3)


def test_opposite_events_leave_nothing_however_many():
    events = np.array([(0, 0, p, 5) for p in [1] * 500 + [0] * 500], EventCD)
    output = np.ones((1, 1, 1, 1), np.float32)
    event_cube(events, output, 10, num_utbins=1, split_polarity=False)
    assert output.item() == 0


def test_channels_and_types():
    with pytest.raises(ValueError, match=r"output_array: shape: got \(1, 6, 2, 2\), allowed: \(T, 3, H, W\)"):
        event_cube(np.zeros(0, EventCD), np.zeros((1, 6, 2, 2), np.float32), 10, split_polarity=False)
    with pytest.raises(ValueError, match="output_array: dtype: got 'uint8', allowed: one of int8"):
        event_cube(np.zeros(0, EventCD), np.zeros((1, 3, 2, 2), np.uint8), 10, split_polarity=False)


def test_the_loop_runs_as_plain_python():
    events = np.array([(0, 0, 1, 2), (1, 0, 0, 8)], EventCD)
    x, y, p, t = plain_columns(events)
    previous, following = np.zeros((2, 1, 2), np.float32), np.zeros((2, 1, 2), np.float32)
    plain = getattr(share, "py_func", share)
    plain(x, y, p.view(np.uint8), t, 0, np.float32(0), np.float32(0.1), 0, previous, following)
    assert np.allclose(previous, [[[0, 0.2]], [[0.8, 0]]])
    assert np.allclose(following, [[[0, 0.8]], [[0.2, 0]]])
