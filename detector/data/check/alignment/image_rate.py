"""Rates of images: usual ones, a rate that fits the duration of a recording, and offsets as numbers of images."""

import numpy as np

__all__ = ["USUAL_RATES", "interval_text", "nearest_rate", "span_text"]

USUAL_RATES = (1, 2, 4, 5, 8, 10, 12, 12.5, 15, 16, 20, 24, 25, 30, 40, 48, 50, 60, 75, 90, 100, 120, 200, 240)
"""Numbers of images per second of common cameras and videos."""

SAME_RATE, OTHER_RATE = 0.03, 0.05
"""Relative difference up to which a rate is a usual one, and from which two rates are different."""

MAX_START, MIN_IMAGES = 0.05, 20
"""Largest share of the images before the first labelled one, and smallest number of images, for a statement."""

NEAR_INTERVAL, MAX_INTERVALS = 0.4, 10
"""Largest difference of an offset from a whole number of intervals, in intervals, and the largest number."""


def nearest_rate(rate: float, tolerance: float = SAME_RATE) -> float | None:
    """Return the usual rate nearest to `rate`; None if their relative difference is above the tolerance."""
    nearest = min(USUAL_RATES, key=lambda usual: abs(np.log(usual / rate)))
    return nearest if abs(nearest / rate - 1) <= tolerance else None


def span_text(num_images: int, first: int, fps: float, duration_us: int) -> str:
    """Describe labelled images that cover another time than the recording, if another usual rate covers it exactly.

    Args:
        num_images: number of images from image 0 to the last labelled one.
        first: index of the first labelled image, counted from 0.
        fps: images per second.
        duration_us: duration of the recording in microseconds.

    Returns:
        An empty string if the rate is not doubtful, or if the labels may belong to a part of the recording.
    """
    if num_images < MIN_IMAGES or first > MAX_START * num_images or duration_us <= 0:
        return ""
    right = num_images * 1e6 / duration_us
    if abs(fps / right - 1) <= OTHER_RATE or nearest_rate(right) is None:
        return ""
    covered = f"{num_images} images at {fps:g} per second cover {num_images / fps:.1f} s"
    return f"{covered} of a recording of {duration_us / 1e6:.1f} s"


def interval_text(offset: float, error: float, fps: float) -> str:
    """Describe a time offset as a whole number of image intervals.

    Args:
        offset: offset in microseconds.
        error: standard error of the offset in microseconds.
        fps: images per second.

    Returns:
        An empty string if the offset is not near such a number other than 0, or not exact enough.
    """
    interval = 1e6 / fps
    number = round(offset / interval)
    near = abs(offset - number * interval) <= NEAR_INTERVAL * interval and error <= NEAR_INTERVAL * interval
    if not near or not 1 <= abs(number) <= MAX_INTERVALS:
        return ""
    if abs(number) == 1:
        return f"about 1 image interval ({interval / 1e3:.0f} ms): possibly --label_first_image is wrong by 1"
    return f"about {abs(number)} image intervals ({interval / 1e3:.0f} ms each)"
