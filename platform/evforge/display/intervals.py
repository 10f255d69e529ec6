"""Confidence intervals of means and shares, computed with SciPy."""

import statistics
from collections.abc import Sequence

__all__ = ["mean_interval", "share_interval"]


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the bounds of the 95 % interval of a mean (Student's t); None for fewer than three values.

    With two values, the interval would be 13 times as wide as their distance.

    Args:
        values: independent measurements, such as the mAP of trainings with different seeds.
    """
    if len(values) < 3:
        return None
    from scipy.stats import t

    mean, error = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
    half = float(t.ppf(0.975, len(values) - 1)) * error
    return mean - half, mean + half


def share_interval(share: float, number: int) -> tuple[float, float] | None:
    """Return the bounds of the 95 % interval of a share (Wilson); None if nothing was counted.

    Args:
        share: the share, from 0 to 1.
        number: number of independent cases.
    """
    if number < 1:
        return None
    from scipy.stats import binomtest

    found = binomtest(round(share * number), number).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)
