from itertools import pairwise

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


def blocks(image, rows=4, columns=5):
    """Means of rows x columns parts of an image."""
    bands = np.array_split(image, rows, axis=0)
    return [[part.mean() for part in np.array_split(band, columns, axis=1)] for band in bands]


def test_the_drawings_of_a_seed():
    """Published results were measured on such drawings, so they must not change unnoticed."""
    light, opacity = draw_car(rng(3), 0.6, 2.0, 1)[0]
    assert light.shape == (48, 88)
    np.testing.assert_allclose(
        blocks(light),
        [
            [0.002, 0.408, 0.43, 0.206, 0.0],
            [0.117, 0.547, 0.474, 0.393, 0.044],
            [0.184, 0.19, 0.158, 0.13, 0.295],
            [0.136, 0.113, 0.037, 0.115, 0.1],
        ],
        atol=0.002,
    )
    np.testing.assert_allclose(
        blocks(opacity),
        [
            [0.008, 0.892, 1.0, 0.473, 0.0],
            [0.412, 1.0, 1.0, 0.908, 0.286],
            [0.972, 1.0, 1.0, 1.0, 0.974],
            [0.585, 0.556, 0.278, 0.614, 0.561],
        ],
        atol=0.002,
    )
    walking = draw_pedestrian(rng(4), 0.5, 2.0)
    assert walking.shape == (24, 2, 68, 30)
    np.testing.assert_allclose(
        blocks(walking[1, 0]),
        [
            [0.0, 0.403, 0.655, 0.372, 0.0],
            [0.0, 0.616, 0.659, 0.867, 0.0],
            [0.0, 0.316, 0.566, 0.412, 0.0],
            [0.0, 0.08, 0.148, 0.089, 0.0],
        ],
        atol=0.002,
    )
    np.testing.assert_allclose(
        blocks(walking[5, 0]),
        [
            [0.0, 0.402, 0.655, 0.372, 0.0],
            [0.046, 0.535, 0.751, 0.868, 0.045],
            [0.078, 0.343, 0.597, 0.46, 0.079],
            [0.083, 0.103, 0.033, 0.137, 0.113],
        ],
        atol=0.002,
    )
    street = draw_background(rng(5), 120, 320)
    np.testing.assert_allclose(
        blocks(street, 6, 8),
        [
            [0.499, 0.515, 0.522, 0.546, 0.534, 0.518, 0.48, 0.638],
            [0.344, 0.424, 0.48, 0.418, 0.524, 0.387, 0.42, 0.441],
            [0.412, 0.382, 0.438, 0.399, 0.409, 0.397, 0.411, 0.407],
            [0.464, 0.385, 0.384, 0.36, 0.382, 0.408, 0.381, 0.424],
            [0.401, 0.39, 0.448, 0.36, 0.446, 0.456, 0.39, 0.45],
            [0.381, 0.422, 0.437, 0.4, 0.418, 0.44, 0.372, 0.416],
        ],
        atol=0.002,
    )


class Plain:
    """A generator of chosen numbers: shares of the ranges, 0.5 by default, noise of 0 and one integer."""

    def __init__(self, *shares, share=0.5, integer=0):
        self.shares, self.share, self.integer = list(shares), share, integer

    def uniform(self, low=0.0, high=1.0):
        return low + (self.shares.pop(0) if self.shares else self.share) * (high - low)

    def standard_normal(self, shape):
        return np.zeros(shape)

    def integers(self, stop):
        return self.integer % stop


def runs(line):
    """Runs of equal intensity along a line of a drawing: intensity, and begin and end relative to its length."""
    light = np.where(line[1] > 0.5, line[0] / np.maximum(line[1], 0.5), 0)
    bounds = [0, *(np.flatnonzero(np.abs(np.diff(light)) > 0.005) + 1), light.size]
    parts = [(light[(begin + end) // 2], begin, end) for begin, end in pairwise(bounds) if end - begin > 1]
    return [(tone, begin / light.size, end / light.size) for tone, begin, end in parts if tone > 0]


def assert_runs(line, expected):
    found = runs(line)
    assert len(found) == len(expected), found
    np.testing.assert_allclose(found, expected, atol=0.012)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (0.05, [(0.8, 0.246, 0.678)]),
        (0.3, [(0.8, 0.176, 0.234), (0.12, 0.234, 0.44), (0.8, 0.44, 0.49), (0.12, 0.49, 0.705), (0.8, 0.705, 0.768)]),
        (0.55, [(0.8, 0.007, 0.92), (1, 0.92, 0.99)]),
        (
            0.8,
            [
                *(
                    (0.8, 0, 0.097),
                    (0.06, 0.097, 0.154),
                    (0.6, 0.154, 0.246),
                    (0.06, 0.246, 0.303),
                    (0.8, 0.303, 0.697),
                ),
                *((0.06, 0.697, 0.754), (0.6, 0.754, 0.846), (0.06, 0.846, 0.903), (0.8, 0.903, 1)),
            ],
        ),
        (0.95, [(0.06, 0.132, 0.268), (0.06, 0.732, 0.868)]),
    ],
)
def test_rows_of_a_car(y, expected):
    """Worked by hand from the shapes; a bright body has dark windows."""
    ((light, opacity),) = draw_car(Plain(), 1, 4, 1)
    assert light.shape == (120, 234)
    row = int(y * 120)
    assert_runs((light[row], opacity[row]), expected)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0.19, [(0.13, 0.25, 0.6), (0.06, 0.6, 0.71), (0.6, 0.71, 0.89), (0.06, 0.89, 1)]),
        (0.36, [(0.13, 0, 0.1), (0.75, 0.1, 0.42), (0.13, 0.42, 0.82)]),
        (0.955, [(0.13, 0.42, 0.5), (1, 0.5, 0.6), (0.13, 0.6, 0.82)]),
    ],
)
def test_columns_of_a_car(x, expected):
    """A dark body has bright windows."""
    ((light, opacity),) = draw_car(Plain(share=0.25), 1, 4, 1)
    assert light.shape == (120, 225)
    column = int(x * 225)
    assert_runs((light[:, column], opacity[:, column]), expected)


def test_limbs_of_a_pedestrian():
    drawings = draw_pedestrian(Plain(0.5, 0.5, 0.5, 0, 0.5), 1, 4)  # a bright coat and dark trousers
    assert drawings.shape == (GAIT_PHASES, 2, 176, 74)
    upper = [(0.7, 0, 0.17), (0.8, 0.17, 0.19), (0.6, 0.19, 0.57), (0.8, 0.57, 0.65)]
    near_is_lifted, far_is_lifted = drawings[0, :, :, 37], drawings[GAIT_PHASES // 2, :, :, 37]
    assert_runs(near_is_lifted, [*upper, (0.16, 0.65, 0.94), (0.112, 0.94, 1)])
    assert_runs(far_is_lifted, [*upper, (0.16, 0.65, 1)])
    assert_runs(drawings[0, :, 61], [(0.8, 0.191, 0.381), (0.6, 0.381, 0.619), (0.8, 0.619, 0.809)])
    apart = drawings[GAIT_PHASES // 4]  # the near foot and the far arm are in front
    assert_runs(apart[:, 88], [(0.6, 0.102, 0.361), (0.8, 0.361, 0.809), (0.48, 0.809, 0.898)])
    assert_runs(apart[:, 162], [(0.112, 0, 0.367), (0.16, 0.633, 1)])


def test_a_street_of_equal_houses_and_a_post():
    image = draw_background(Plain(integer=100), 120, 320)
    sky, house, window, ground, mark, post = 0.55, 0.425, 0.5, 0.375, 0.7, 0.225

    def column(x, *rows):
        return pytest.approx([float(image[row, x]) for row in rows], abs=1e-6)

    assert column(38, 15, 16, 45, 46) == [sky, house, house, ground]
    assert column(34, 19, 20, 23, 24, 28, 31, 32, 39, 40, 44) == [house, *[window] * 2, house, *[window] * 2] + [
        house,
        window,
        house,
        house,
    ]
    assert image[21, 32] == pytest.approx((house * 2 + window) / 3)  # a window has the columns 33 to 35
    assert column(2, 21, 26) == [window, house]  # the last house continues at the left edge
    assert image[30, 54:56] == pytest.approx((2 * sky + house) / 3)  # the gap to the next house
    assert column(4, 85, 86, 88, 89) == [ground, mark, mark, ground]
    assert image[87, [8, 9, 19, 20]] == pytest.approx(
        [(2 * mark + ground) / 3, (mark + 2 * ground) / 3, (mark + 2 * ground) / 3, (2 * mark + ground) / 3]
    )
    assert column(101, 19, 20, 53, 54) == [house, post, post, ground]
    assert image[50, [99, 103]] == pytest.approx((2 * ground + post) / 3)


def test_a_tree_is_a_disc_on_a_trunk():
    image = draw_background(Plain(share=0.25), 120, 320)
    house, crown, trunk, ground = 0.3375, 0.22, 0.1875, 0.3375
    assert image[21, [-6, 0, 6]] == pytest.approx(crown)  # 8 px around row 21 of column 0
    assert image[[14, 28], 1] == pytest.approx(crown) and image[[14, 28], -2] == pytest.approx(crown)
    assert image[13, 4] == pytest.approx(house) and image[21, -9] > crown + 0.05
    assert image[50, 0] == pytest.approx((2 * trunk + ground) / 3)
    assert image[51, 0] == pytest.approx(ground)


def test_a_street_in_a_frame_of_twice_the_size():
    image = draw_background(Plain(integer=200), 240, 640)
    sky, house, ground, mark, post = 0.55, 0.425, 0.375, 0.7, 0.225
    assert image[60, [106, 109, 113]] == pytest.approx([house, sky, house])  # houses of 52 px, 56 px apart
    assert image[[31, 32], 76] == pytest.approx([sky, house])
    assert image[174, [1, 16, 19, 38, 41]] == pytest.approx([mark, mark, ground, ground, mark])
    assert image[[39, 106, 107], 203] == pytest.approx([post, post, ground])
    tree = draw_background(Plain(share=0.25), 240, 640)
    assert tree[41, [-14, 14]] == pytest.approx(0.22) and tree[[26, 56], 2] == pytest.approx(0.22)  # a radius of 16 px
    assert (np.abs(tree[41, [-17, 17]] - 0.22) > 0.05).all()
