"""Simulated pixels of an event camera, which convert intensity over time to events.

The model is from Rebecq et al., "ESIM: an open event camera simulator" (CoRL 2018): every pixel stores a reference
level of log intensity and emits an event when its log intensity differs from this level by one contrast threshold.
"""

from collections.abc import Iterable

import numpy as np

from detector.events.types import EventCD

__all__ = ["noise_events", "sort_events", "threshold_crossings"]


def threshold_crossings(
    frames: Iterable[tuple[int, np.ndarray]], on_threshold: np.ndarray, off_threshold: np.ndarray
) -> np.ndarray:
    """Compute the events of a sequence of intensity images.

    Between two images, the log intensity of a pixel changes linearly in time. This gives the time of every event. A
    change by several thresholds gives several events. The first image sets the reference levels.

    Args:
        frames: pairs of a time in microseconds and an (H, W) float32 image of intensity above 0. Times increase.
        on_threshold: (H, W) increase of the log intensity that causes an ON event, above 0.
        off_threshold: (H, W) decrease of the log intensity that causes an OFF event, above 0.

    Returns:
        `EventCD` array sorted by time.
    """
    on, off = on_threshold.astype(np.float32), off_threshold.astype(np.float32)
    below = -off
    pieces: list[np.ndarray] = []
    before = reference = np.zeros(0, np.float32)
    start = 0
    for time, intensity in frames:
        level = np.log(intensity)
        if not reference.size:
            reference = level.copy()
        else:
            moved = level - reference
            pixels = np.flatnonzero((moved >= on) | (moved <= below))
            if len(pixels):
                pieces.append(_emit(pixels, moved, reference, (before, level), (on, off), (start, time)))
        before, start = level, time
    return sort_events(pieces)


def _emit(
    pixels: np.ndarray,
    moved: np.ndarray,
    reference: np.ndarray,
    levels: tuple[np.ndarray, np.ndarray],
    thresholds: tuple[np.ndarray, np.ndarray],
    times: tuple[int, int],
) -> np.ndarray:
    """Create the events of some pixels between two images.

    Args:
        pixels: flat indices of the pixels that emit events.
        moved: (H, W) difference between the log intensity of the second image and the reference level.
        reference: (H, W) reference levels, updated in place.
        levels: (H, W) log intensity of the first and of the second image.
        thresholds: (H, W) thresholds of ON events and of OFF events, both above 0.
        times: time of the first and of the second image in microseconds.

    Returns:
        `EventCD` array, sorted by pixel and not by time.
    """
    change = moved.ravel()[pixels]
    rising = change > 0
    step = np.where(rising, thresholds[0].ravel()[pixels], -thresholds[1].ravel()[pixels])
    counts = (change / step).astype(np.int64)
    at_start = reference.ravel()[pixels]
    reference.ravel()[pixels] = at_start + counts * step

    owner = np.repeat(np.arange(len(pixels)), counts)
    nth = np.arange(1, len(owner) + 1) - np.repeat(np.cumsum(counts) - counts, counts)
    before, after = (level.ravel()[pixels][owner] for level in levels)
    span = np.where(after == before, 1, after - before)  # equal only if rounding has left the level at the threshold
    fraction = (at_start[owner] + nth * step[owner] - before) / span
    events = np.empty(len(owner), EventCD)
    events["y"], events["x"] = np.divmod(pixels[owner], moved.shape[1])
    events["p"] = rising[owner]
    events["t"] = times[0] + np.rint(np.clip(fraction, 0, 1) * (times[1] - times[0])).astype(np.int64)
    return events


def noise_events(rng: np.random.Generator, rate_hz: np.ndarray, start: int, end: int) -> np.ndarray:
    """Generate noise events by a Poisson process in every pixel. Both polarities are equally probable.

    Args:
        rng: source of randomness.
        rate_hz: (H, W) events per second of each pixel.
        start: first possible time in microseconds.
        end: end of the possible times in microseconds, exclusive.

    Returns:
        `EventCD` array sorted by time.
    """
    counts = rng.poisson(rate_hz * ((end - start) * 1e-6)).ravel()
    pixels = np.repeat(np.arange(counts.size), counts)
    events = np.empty(len(pixels), EventCD)
    events["y"], events["x"] = np.divmod(pixels, rate_hz.shape[1])
    events["p"] = rng.integers(0, 2, len(pixels))
    events["t"] = rng.integers(start, end, len(pixels))
    return sort_events([events])


def sort_events(pieces: list[np.ndarray]) -> np.ndarray:
    """Join `EventCD` arrays and sort them by time. Events of equal time keep their order."""
    events = np.concatenate([np.empty(0, EventCD), *pieces])
    return events[np.argsort(events["t"], kind="stable")]
