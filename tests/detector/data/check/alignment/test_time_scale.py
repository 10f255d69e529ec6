import numpy as np
import pytest

from detector.data.check.alignment.score import BoxSet, Significance
from detector.data.check.alignment.time_scale import ScaleFit, find_scale, is_scale_fault

WINDOW = 100_000


def scaled(labels, factor, anchor=0):
    labels["t"] = anchor + np.rint((labels["t"] - anchor) * factor)
    return BoxSet.of(labels)


@pytest.mark.parametrize("factor", [0.4, 1 / 1.1, 1.25])
def test_the_factor_that_restores_the_times_is_found(scene, activity, factor):
    found = find_scale(activity, scaled(scene[1], factor), WINDOW, 300_000, (0,))
    assert found.best == pytest.approx(1 / factor, rel=0.005)
    assert found.score > 0.5
    assert min(found.gain.ratio, found.lead.ratio) > 4
    assert is_scale_fault(found, 0.1)
    assert not is_scale_fault(found, 0.9 * found.score)  # a constant offset is nearly as good


def test_a_factor_that_only_a_rate_with_a_fraction_has(scene, activity):
    """Images that were taken 12.5 times per second and numbered as if 90 times."""
    found = find_scale(activity, scaled(scene[1], 12.5 / 90), WINDOW, 0, (0,))
    assert found.best == pytest.approx(7.2, rel=0.005)
    rates = (8, 10, 12, 12.5, 15, 20, 24, 25, 30, 50, 60, 90, 100, 120)
    ratios = np.unique(np.round([one / other for one in rates for other in rates], 6))
    assert np.isin(ratios, found.scales).all()
    far = found.scales[(found.scales < 0.49) | (found.scales > 2.02)]  # the grid covers the others
    assert np.isin(far, ratios).all()


def test_a_rare_factor_is_found_from_the_typed_rate(scene, activity):
    boxes = scaled(scene[1], 10 / 27.3)
    assert find_scale(activity, boxes, WINDOW, 0, (0,), 27.3).best == pytest.approx(2.73, rel=0.005)


def test_a_factor_beside_the_tried_ones_is_refined(scene, activity):
    """The nearest ratio of usual rates is 2.4."""
    found = find_scale(activity, scaled(scene[1], 1 / 2.41), WINDOW, 0, (0,))
    assert found.best == pytest.approx(2.41, rel=0.002)


def test_the_anchor_with_the_higher_score_is_used(scene, activity):
    boxes = scaled(scene[1], 0.5, 9_000_000)
    found = find_scale(activity, boxes, WINDOW, 0, (0, 9_000_000))
    assert found.best == pytest.approx(2, rel=0.005)
    assert is_scale_fault(found, 0.1)


def test_an_offset_of_an_image_beside_the_factor(scene, activity):
    labels = scene[1]
    exact = find_scale(activity, scaled(labels.copy(), 0.4), WINDOW, 0, (0,))
    labels["t"] += 100_000
    found = find_scale(activity, scaled(labels, 0.4), WINDOW, 0, (0,))
    assert found.best == pytest.approx(2.5, rel=0.01)
    assert found.score == pytest.approx(exact.score, rel=0.03)


def test_correct_times_have_no_factor(scene, activity):
    found = find_scale(activity, BoxSet.of(scene[1]), WINDOW, 0, (0,))
    assert found.best == pytest.approx(1, abs=0.01)
    assert found.gain.mean == pytest.approx(0, abs=0.02)
    assert not is_scale_fault(found, 0.1)


def test_labels_outside_the_recording_have_no_factor(scene, activity):
    labels = scene[1]
    labels["t"] += 1_000_000_000
    assert find_scale(activity, BoxSet.of(labels), WINDOW, 0, (0,)) is None


def fit(best=2.5, score=0.6, gain=(0.5, 9.0, 20), lead=(0.4, 8.0, 20), elsewhere=0.1, number=40):
    scales = np.append(np.linspace(0.5, 2, number), 2.5)
    scores = np.append(np.full(number, elsewhere), 0.6)
    return ScaleFit(scales, scores, best, score, Significance(*gain), Significance(*lead))


@pytest.mark.parametrize(
    ("changes", "shift_score", "expected"),
    [
        ({"gain": (0.12, 4.0, 8), "lead": (0.12, 4.0, 8)}, 0.2, True),
        ({"lead": (0.119, 4.0, 8)}, 0.2, False),
        ({"number": 10}, 0.2, True),
        ({"number": 9}, 0.2, False),
        ({"score": 0.75}, 0.6, True),  # 1.25 times the score at a constant offset
        ({"score": 0.74}, 0.6, False),
        ({"score": 0.75, "elsewhere": 0.5}, 0.2, True),  # 1.5 times the highest of the others
        ({"score": 0.74, "elsewhere": 0.5}, 0.2, False),
        ({"score": 0.15, "elsewhere": 0.01}, 0.0, True),
        ({"score": 0.75, "elsewhere": 0.7}, 0.2, False),
        ({"best": 0.984, "score": 0.91}, 0.2, True),
        ({"best": 0.986, "score": 0.91}, 0.2, False),
    ],
)
def test_the_smallest_fault(changes, shift_score, expected):
    assert is_scale_fault(fit(**changes), shift_score) == expected


def test_what_a_fault_needs():
    assert is_scale_fault(fit(), 0.2)
    assert not is_scale_fault(fit(), 0.5)
    assert not is_scale_fault(fit(best=1.01), 0.2)
    assert not is_scale_fault(fit(elsewhere=0.45), 0.2)
    assert not is_scale_fault(fit(score=0.14, elsewhere=0.01), 0.0)
    for name in ("gain", "lead"):
        for wrong in ((0.1, 9.0, 20), (0.5, 3.9, 20), (0.5, 9.0, 7)):
            assert not is_scale_fault(fit(**{name: wrong}), 0.2)
