import pytest

from evforge.display.intervals import mean_interval, share_interval


def test_the_interval_of_a_mean():
    # Mean 0.4, standard deviation 0.1, three values: 0.4 +- 4.3027 * 0.1 / sqrt(3).
    assert mean_interval([0.3, 0.5, 0.4]) == pytest.approx((0.15159, 0.64841), abs=1e-5)
    assert mean_interval([0.3, 0.5]) is None and mean_interval([0.3]) is None


def test_the_interval_of_a_share():
    # Wilson, 8 of 10, z = 1.96: (0.8 + 0.19207 +- 1.96 * sqrt(0.016 + 0.0096)) / 1.38415.
    assert share_interval(0.8, 10) == pytest.approx((0.49016, 0.94331), abs=1e-4)
    assert share_interval(0.0, 5)[0] == 0 and share_interval(1.0, 5)[1] == 1
    assert share_interval(0.5, 0) is None
    assert share_interval(1.0, 1) == pytest.approx((0.2065, 1.0), abs=1e-4)


def test_wilson_interval():
    """Of 10 samples, 8 hits: 0.490 to 0.943 (Brown, Cai and DasGupta 2001, method of Wilson)."""
    assert share_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert share_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert share_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
