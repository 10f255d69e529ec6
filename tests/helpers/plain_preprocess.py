"""Simple reference implementations of all representations in float64, and events for them."""

from math import ceil, floor

import numpy as np

from detector.events import EventCD


def random_events(count, height, width, duration, seed=0):
    """Events in order of time, some before 0 and after `duration`; the first ones are on the edges of bins."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EventCD)
    events["x"] = rng.integers(0, width, count)
    events["y"] = rng.integers(0, height, count)
    events["p"] = rng.integers(0, 2, count)
    times = rng.integers(-50, duration + 50, count)
    times[:40] = np.arange(40) * duration // 24
    events["t"] = np.sort(times)
    return events


def plain_columns(events):
    types = {"x": np.uint16, "y": np.uint16, "p": np.int8, "t": np.int64}
    return tuple(events[name].astype(dtype) for name, dtype in types.items())


def plain_counts(events, bins, height, width, duration, shift=0):
    """Numbers of events (bins, 2, H, W)."""
    counts = np.zeros((bins, 2, height, width))
    for x, y, p, t in events.tolist():
        if 0 <= t < duration:
            counts[t * bins // duration, p, y >> shift, x >> shift] += 1
    return counts


def plain_surface(events, bins, height, width, duration, shift=0):
    surface = np.zeros((bins, 2, height, width))
    for x, y, p, t in sorted(events.tolist(), key=lambda event: event[3]):
        if 0 <= t < duration:
            k = t * bins // duration
            first, end = ceil(k * duration / bins), ceil((k + 1) * duration / bins)
            surface[k, p, y >> shift, x >> shift] = (t - first + 1) / (end - first)
    return surface


def plain_cube(events, bins, utbins, height, width, duration, shift=0):
    """Sums of shares (bins, utbins, 2, H, W)."""
    cube = np.zeros((bins, utbins, 2, height, width))
    for x, y, p, t in events.tolist():
        if 0 <= t < duration:
            k = t * bins // duration
            place = (t - k * duration / bins) * utbins / (duration / bins) - 0.5
            left = floor(place)
            for j, share in ((left, 1 - place + left), (left + 1, place - left)):
                if 0 <= j < utbins:
                    cube[k, j, p, y >> shift, x >> shift] += share
    return cube
