"""Events of a blob that moves over a sensor of 128 x 96 pixels."""

import numpy as np

from detector.events import EventCD

SENSOR = (96, 128)


def blob_events(seed=0, first=1_234_000, last=3_150_000, count=20_000):
    """Events from `first` to `last`, both included."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EventCD)
    times = np.sort(rng.integers(first, last, count))
    times[[0, -1]] = first, last
    moved = 60 * (times - first) / (last - first)
    events["t"] = times
    events["x"] = (rng.normal(30 + 10 * seed, 8, count) + moved).clip(0, SENSOR[1] - 1)
    events["y"] = rng.normal(45, 10, count).clip(0, SENSOR[0] - 1)
    events["p"] = rng.integers(0, 2, count)
    return events


def chunks_of(events, lengths):
    """Cut events into chunks whose lengths repeat `lengths`."""
    start = number = 0
    while start < len(events):
        stop = start + lengths[number % len(lengths)]
        yield events[start:stop]
        start, number = stop, number + 1
