import numpy as np
import pytest

from detector.events import BBOX_dtype, EventCD

HEIGHT, WIDTH, SECONDS = 80, 120, 12
OBJECTS = ((6, 4, 31, 9, 14, 10), (40, 30, -23, 13, 10, 16), (15, 45, 27, -8, 18, 12))
"""x, y, speeds in x and y (px/s), width and height. They stay in the upper-left part, so that no symmetry exists."""


def position(start, speed, most, seconds):
    """Position of an object that moves back and forth between 0 and `most`."""
    return most - np.abs((start + speed * seconds) % (2 * most) - most)


def make_scene():
    """Objects full of events on their way in front of a fixed camera, and some noise: events and exact labels."""
    rng = np.random.default_rng(3)
    rows = []
    for x, y, vx, vy, w, h in OBJECTS:
        t = np.sort(rng.uniform(0, SECONDS, 1500 * SECONDS))
        left, top = position(x, vx, 70, t), position(y, vy, 40, t)
        rows.append((t, left + rng.uniform(0, w, t.size), top + rng.uniform(0, h, t.size)))
    noise = rng.uniform(0, 1, (3, 300 * SECONDS)) * np.array([[SECONDS], [WIDTH], [HEIGHT]])
    t, x, y = (np.concatenate(parts) for parts in zip(*rows, noise, strict=True))
    events = np.zeros(t.size, EventCD)
    events["t"], events["x"], events["y"] = t * 1e6, x, y
    events["p"] = rng.integers(0, 2, t.size)
    labels = [
        (time, position(x, vx, 70, time / 1e6), position(y, vy, 40, time / 1e6), w, h, 0, track, 1.0)
        for time in range(200_000, SECONDS * 1_000_000, 100_000)
        for track, (x, y, vx, vy, w, h) in enumerate(OBJECTS)
    ]
    return events[np.argsort(events["t"], kind="stable")], np.array(labels, BBOX_dtype)


@pytest.fixture(scope="session")
def _scene():
    return make_scene()


@pytest.fixture
def scene(_scene):
    """Events of a sensor of 80 rows and 120 columns over 12 s, and labels at 10 Hz."""
    return tuple(part.copy() for part in _scene)
