import numpy as np
import pytest

from detector.coverage import fitted_anchors
from detector.coverage.anchor_coverage import AnchorPyramid, LabelBoxes, measure_coverage
from detector.coverage.fitted_anchors import fit_anchors

SIDE = 256


def centred(sides, stride=8):
    """Boxes around centres of cells near the middle of the frame, so that an anchor can lie exactly on each."""
    sides = np.array(sides, np.float64)
    middle = SIDE / 2 + stride / 2
    corners = np.concatenate([middle - sides / 2, middle + sides / 2], axis=1)
    return LabelBoxes.from_corners(corners, np.ones(len(sides), np.int64), 1, SIDE, SIDE)


def spread(count, seed=0):
    """Boxes twice as tall as wide, anywhere, with sides around 20 to 80."""
    rng = np.random.default_rng(seed)
    width = 20 * 4 ** rng.random(count) * rng.uniform(0.9, 1.1, count) / np.sqrt(2)
    sides = np.stack([width, 2 * width], axis=1)
    first = rng.random((count, 2)) * (SIDE - sides)
    labels = np.ones(count, np.int64)
    return LabelBoxes.from_corners(np.concatenate([first, first + sides], axis=1), labels, 1, SIDE, SIDE)


def test_shapes_are_found_whatever_their_level():
    # Of base 32: squares of 32, and of 80 = 64 * 1.25 one level up; 16 x 64 is as large as the square of 32.
    labels = centred([[32, 32]] * 5 + [[80, 80]] * 5 + [[16, 64]] * 5)
    assert fit_anchors(labels, 3, 32, 8, 1) == [(1.0, 1.0), (4.0, 1.0), (1.0, 2.5)]
    folded = fit_anchors(centred([[32, 32], [64, 64], [16, 64], [32, 128]] * 4), 2, 32, 8, 2)
    assert folded == [(1.0, 1.0), (4.0, 1.0)]


def test_boxes_smaller_than_the_first_level_get_a_smaller_scale():
    assert fit_anchors(centred([[8, 8]] * 3), 1, 32, 8, 3) == [(1.0, 0.25)]


def test_a_fitted_list_covers_boxes_anywhere():
    labels = spread(400)
    fitted = fit_anchors(labels, 3, 24, 8, 3)
    assert all(ratio == 2 for ratio, _ in fitted)
    assert measure_coverage(labels, AnchorPyramid(fitted, 24, 8, 3)).covered > 0.99
    # Anchors twice as wide as tall share at most a half of either area with them: an IoU of 1/3.
    wide = AnchorPyramid([(0.5, scale) for _, scale in fitted], 24, 8, 3)
    assert measure_coverage(labels, wide).recall[6] == 0


def test_evolution_raises_what_the_medians_reach(monkeypatch):
    labels = spread(200)

    def value(anchors):
        found = measure_coverage(labels, AnchorPyramid(anchors, 24, 16, 3))
        return found.mean_iou + found.covered

    evolved = fit_anchors(labels, 3, 24, 16, 3)
    monkeypatch.setattr(fitted_anchors, "GENERATIONS", 0)
    assert value(evolved) > value(fit_anchors(labels, 3, 24, 16, 3))


def test_the_same_seed_gives_the_same_list():
    labels = spread(200)
    first = fit_anchors(labels, 4, 24, 16, 3, seed=1)
    assert len(first) == 4
    assert fit_anchors(labels, 4, 24, 16, 3, seed=1) == first


@pytest.mark.parametrize("count", [0, 4])
def test_more_anchors_than_boxes(count):
    with pytest.raises(ValueError, match=f"count: got {count} anchors to fit, allowed: 1 to the number of boxes .3."):
        fit_anchors(spread(3), count, 32, 16, 2)
