import numpy as np
import pytest

from detector.synthetic.simulator import noise_events, threshold_crossings


def crossings(levels, times, on=0.5, off=0.5):
    """Events of one row of pixels whose log intensities at each time are `levels` (times, pixels)."""
    frames = ((t, np.exp(np.float32([row]))) for t, row in zip(times, levels, strict=True))
    shape = (1, len(levels[0]))
    return [tuple(event) for event in threshold_crossings(frames, np.full(shape, on), np.full(shape, off)).tolist()]


def test_every_threshold_on_the_way_gives_an_event_dated_between_the_images():
    # 1.1 above the reference, in 1100 us: crossings of 0.5 and 1.0 after 500 and 1000 us.
    assert crossings([[0.0], [1.1]], [2000, 3100]) == [(0, 0, 1, 2500), (0, 0, 1, 3000)]


def test_falling_intensity_gives_off_events():
    assert crossings([[0.0], [-1.1]], [0, 1100], on=9.0) == [(0, 0, 0, 500), (0, 0, 0, 1000)]


def test_thresholds_of_the_polarities_differ():
    assert crossings([[0.0, 0.0], [0.7, -0.7]], [0, 700], on=0.6, off=0.3) == [
        (1, 0, 0, 300),
        (0, 0, 1, 600),
        (1, 0, 0, 600),
    ]


def test_reference_level_is_remembered():
    # 0.4 makes no event, 0.8 one, and then it takes a fall to 0.0 to make the next.
    assert crossings([[0.0], [0.4], [0.8], [0.1], [-0.1]], [0, 400, 800, 1500, 1700]) == [
        (0, 0, 1, 500),
        (0, 0, 0, 1600),
    ]


def test_still_pictures_are_silent():
    assert crossings([[0.3, -2.0]] * 5, range(0, 50, 10)) == []


def test_pixel_coordinates_and_order():
    thresholds = np.full((2, 3), 0.5)
    second = np.ones((2, 3), np.float32)
    second[1, 2], second[0, 1] = np.exp(0.6), np.exp(-1.2)
    frames = [(0, np.ones((2, 3), np.float32)), (1200, second)]
    events = threshold_crossings(frames, thresholds, thresholds)
    # The OFF pixel crosses after 500 and 1000 us, the ON pixel after 1000 us.
    assert events["t"].tolist() == [500, 1000, 1000]
    assert sorted(events[["x", "y", "p"]].tolist()) == [(1, 0, 0), (1, 0, 0), (2, 1, 1)]
    assert (frames[1][1] == second).all()


def test_no_frames():
    assert len(threshold_crossings([], np.ones((2, 2)), np.ones((2, 2)))) == 0


def test_long_signal_keeps_its_total():
    """ON minus OFF events equal the net change, regardless of the way of the signal."""
    walk = np.cumsum(np.random.default_rng(0).normal(0, 0.3, 2000))
    events = crossings(walk[:, None].tolist(), range(0, 2_000_000, 1000), on=0.1, off=0.1)
    net = sum(1 if p else -1 for _, _, p, _ in events)
    assert net * 0.1 == pytest.approx(walk[-1] - walk[0], abs=0.11)
    times = [t for *_, t in events]
    assert times == sorted(times)


def test_noise_rates():
    rates = np.zeros((3, 4))
    rates[1, 2], rates[2, 0] = 1000.0, 100.0
    events = noise_events(np.random.default_rng(0), rates, 5_000_000, 15_000_000)
    assert events["t"].min() >= 5_000_000
    assert events["t"].max() < 15_000_000
    assert (np.diff(events["t"]) >= 0).all()
    hot = (events["x"] == 2) & (events["y"] == 1)
    warm = (events["x"] == 0) & (events["y"] == 2)
    assert (hot | warm).all()
    assert hot.sum() == pytest.approx(10_000, abs=500)  # five standard deviations
    assert warm.sum() == pytest.approx(1_000, abs=160)
    assert events["p"].mean() == pytest.approx(0.5, abs=0.03)
