import numpy as np
import pytest

from detector.synthetic.sprites import (
    GAIT_PHASES,
    SAMPLES,
    _Canvas,
    draw_background,
    draw_car,
    draw_pedestrian,
    smooth_noise,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_painted_pixel_holds_its_share_of_samples():
    canvas = _Canvas(2, 3)
    mask = np.zeros((2 * SAMPLES, 3 * SAMPLES), bool)
    mask[:SAMPLES, 2 * SAMPLES :] = True  # the last pixel of the first row
    mask[SAMPLES, 0] = True  # one of 9 samples of the first pixel of the second row
    canvas.paint(mask, 0.5)
    light, opacity = canvas.finish()
    np.testing.assert_allclose(opacity, [[0, 0, 1], [1 / 9, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(light, [[0, 0, 0.5], [0.5 / 9, 0, 0]], rtol=1e-6)


def test_later_shapes_hide_earlier_ones_and_a_texture_has_one_value_per_pixel():
    canvas = _Canvas(1, 2)
    everything = np.ones(canvas.x.shape, bool)
    canvas.paint(everything, np.array([[0.2, 0.8]]))
    canvas.paint(canvas.x > 1, 0.5)
    light, opacity = canvas.finish()
    np.testing.assert_allclose(light, [[0.2, 0.5]], rtol=1e-6)
    assert opacity.tolist() == [[1, 1]]


def test_shapes_have_the_area_of_their_formulas():
    canvas = _Canvas(60, 90)
    areas = {
        "disc": (canvas.disc(50, 20, 15), np.pi * 15**2),
        "limb": (canvas.limb((20, 30), (50, 30), 6), np.pi * 6**2 + 30 * 12),
        "trapezoid": (canvas.trapezoid((10, 40), (30, 40), (20, 70)), 30 * (10 + 50) / 2),
    }
    for mask, area in areas.values():
        assert mask.sum() / SAMPLES**2 == pytest.approx(area, rel=0.01)
    rows, columns = np.nonzero(canvas.limb((20, 30), (50, 30), 6))
    assert (columns.min() // SAMPLES, columns.max() // SAMPLES) == (14, 55)
    assert (rows.min() // SAMPLES, rows.max() // SAMPLES) == (24, 35)


def test_a_car_is_a_drawing_of_its_size_that_a_near_one_fills_more():
    far, near = draw_car(rng(), 0.0, 2.0, 1), draw_car(rng(), 1.0, 2.0, 1)
    assert far.shape[:3] == (1, 2, 30) and near.shape[:3] == (1, 2, 60)
    assert 1.8 <= far.shape[3] / 30 <= 2.12 and far.dtype == np.float32
    assert (far >= 0).all() and (far <= 1).all() and (far[:, 0] <= far[:, 1]).all()
    assert 0.5 < far[0, 1].mean() < 0.9  # the corners are transparent


def test_a_car_to_the_left_is_the_mirror_image_of_one_to_the_right():
    right, left = draw_car(rng(4), 0.5, 1.0, 1), draw_car(rng(4), 0.5, 1.0, -1)
    assert np.array_equal(left, right[..., ::-1]) and not np.array_equal(left, right)


def test_a_pedestrian_has_a_walking_cycle_and_is_upright():
    drawings = draw_pedestrian(rng(), 0.5, 1.0)
    assert drawings.shape[:3] == (GAIT_PHASES, 2, 34) and 0.4 <= drawings.shape[3] / 34 <= 0.46
    assert (drawings >= 0).all() and (drawings[:, 0] <= drawings[:, 1] + 1e-6).all()
    steps = np.abs(np.diff(drawings[:, 1], axis=0)).sum((1, 2))
    assert (steps > 0).all()  # every phase differs from the one before
    assert np.abs(drawings[0] - drawings[GAIT_PHASES // 4]).sum() > 2 * steps.mean()
    last_to_first = np.abs(drawings[-1, 1] - drawings[0, 1]).sum()
    assert last_to_first <= 1.5 * steps.max()  # the cycle closes


def test_a_background_is_a_street_under_houses_that_repeats_along_x():
    image = draw_background(rng(), 120, 320)
    assert image.shape == (120, 320) and image.dtype == np.float32
    assert image.min() >= 0.05 and image.max() <= 1 and image.std() > 0.05
    seam = np.abs(image[:, 0] - image[:, -1]).mean()
    assert seam < 2 * np.abs(np.diff(image, axis=1)).mean()


def test_noise_is_periodic_smooth_and_normalised():
    noise = smooth_noise(rng(), 40, 60, 2.0)
    assert noise.shape == (40, 60)
    assert noise.mean() == pytest.approx(0, abs=1e-9) and noise.std() == pytest.approx(1)
    # White noise smoothed with a standard deviation of s has a correlation of exp(-1 / (4 s^2)) of neighbours.
    for axis in (0, 1):
        large = smooth_noise(rng(), 400, 600, 2.0)
        assert (large * np.roll(large, 1, axis)).mean() == pytest.approx(np.exp(-1 / 16), abs=0.01)


def test_the_same_generator_draws_the_same():
    for draw in (lambda g: draw_car(g, 0.3, 1, 1), lambda g: draw_pedestrian(g, 0.3, 1)):
        assert np.array_equal(draw(rng(5)), draw(rng(5))) and draw(rng(5)).tobytes() != draw(rng(6)).tobytes()
