from pathlib import Path

import numpy as np
import pytest

from detector.data.check.event_faults.pixels import PixelCounter, hot_pixels

PATH = Path("a.raw")


def counter_of(counts, polarity=None):
    counter = PixelCounter(*counts.shape)
    y, x = np.nonzero(counts)
    x, y = (np.repeat(values, counts[y, x]).astype(np.uint16) for values in (x, y))
    p = np.arange(x.size) % 2 if polarity is None else np.full(x.size, polarity)
    half = x.size // 2
    for part in (slice(0, half), slice(half, None)):
        counter.add((x[part], y[part], p[part].astype(np.int8), np.zeros(x[part].size, np.int64)))
    return counter


@pytest.fixture
def counts():
    return np.random.default_rng(0).integers(3, 8, (20, 30))


def test_hot_pixels_by_hand(counts):
    assert hot_pixels(counts)[0].tolist() == []
    counts[:] = 4
    counts[5, 7], counts[11, 2] = 80, 400
    points, factors = hot_pixels(counts)
    assert points.tolist() == [[2, 11], [7, 5]]
    assert factors.tolist() == [100, 20]


def test_a_hot_pixel_has_more_than_ten_times_the_events_of_its_neighbours():
    counts = np.full((20, 30), 4)
    counts[5, 7] = 40
    assert hot_pixels(counts)[0].tolist() == []
    counts[5, 7] = 41
    points, factors = hot_pixels(counts)
    assert (points.tolist(), factors.tolist()) == ([[7, 5]], [10.25])


@pytest.mark.parametrize(("others", "own", "shape"), [(49, 599, (20, 30)), (9, 109, (10, 10))])
def test_a_hot_pixel_has_two_percent_of_at_least_1000_events(others, own, shape):
    counts = np.full(shape, others)
    for count, expected in ((own - 1, 0), (own, 1)):  # 599 of 29,950 events are 2 %; 891 + 109 are 1000 events
        counts[3, 2] = count
        assert len(list(counter_of(counts).findings(PATH, 10.0))) == expected


@pytest.mark.parametrize(("own", "seconds", "expected"), [(500, 2, 1), (499, 1, 0), (500, 2.01, 0)])
def test_one_pixel_with_100_times_the_events_of_the_others_and_250_hz(own, seconds, expected):
    counts = np.full((100, 80), 5)
    counts[30, 20] = own  # 1.2 % of the events
    assert len(list(counter_of(counts).findings(PATH, seconds))) == expected


def test_edges_of_objects_are_not_hot(counts):
    counts[:, 10:14] = 300
    assert hot_pixels(counts)[0].tolist() == []
    assert hot_pixels(np.zeros((4, 5), np.int64))[0].tolist() == []


def test_hot_pixels_with_a_large_share(counts):
    counter = counter_of(counts)
    assert counter.counts.tolist() == counts.tolist()
    assert list(counter.findings(PATH, 10.0)) == []
    counts[5, 7], counts[11, 2] = 100, 150
    (found,) = counter_of(counts).findings(PATH, 10.0)
    assert (found.severity, found.kind) == ("warning", "hot pixels")
    assert found.found.startswith("2 pixels (x, y) have ")
    assert found.found.endswith("worst (2, 11) 15 Hz, (7, 5) 10 Hz")
    (pixels,) = found.evidence
    assert pixels.points["hot pixels"].tolist() == [[2, 11], [7, 5]]


def test_one_absurd_pixel(counts):
    counts = np.tile(counts, (30, 20))
    counts[100, 200] = 3000  # 0.2 % of the events, 500 times the others
    assert list(counter_of(counts).findings(PATH, 100.0)) == []  # 30 Hz
    (found,) = counter_of(counts).findings(PATH, 10.0)
    assert found.found.endswith("worst (200, 100) 300 Hz")


def test_one_polarity(counts):
    (found,) = counter_of(counts, 1).findings(PATH, 10.0)
    assert (found.kind, found.found) == ("one polarity", f"all {counts.sum()} events are ON")
    assert found.evidence[0].values == {"ON": counts.sum(), "OFF": 0}
    assert (found.evidence[0].title, found.evidence[0].marked) == ("Events of each polarity", ("ON",))
    (found,) = counter_of(counts, 0).findings(PATH, 10.0)
    assert found.found == f"all {counts.sum()} events are OFF"
    counts[:] = 4
    assert len(list(counter_of(counts[:, :25], 0).findings(PATH, 10.0))) == 1  # 2000 events
    counts[0, 0] = 3
    assert list(counter_of(counts[:, :25], 0).findings(PATH, 10.0)) == []  # too few to tell
