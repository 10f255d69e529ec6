from pathlib import Path

import numpy as np

from detector.data.check.event_faults.monitor import EventMonitor


def monitor_of(events, sizes=(7_000, 9_000)):
    monitor = EventMonitor(80, 120, int(events["t"][0]))
    starts = np.cumsum([0, *sizes, len(events)])
    for first, last in zip(starts[:-1], starts[1:], strict=True):
        part = events[first:last]
        monitor.add(tuple(part[name] for name in "xypt"))
    return monitor


def kinds(monitor):
    return [finding.kind for finding in monitor.findings(Path("a.raw"), 12.0)]


def test_all_events_are_counted(scene):
    events, _ = scene
    monitor = monitor_of(events)
    assert monitor.counts.shape == (80, 120)
    assert monitor.counts.sum() == len(events)
    assert kinds(monitor) == []


def test_all_checks_are_made(scene):
    events, _ = scene
    assert kinds(monitor_of(np.repeat(events, 2), (0, 0))) == ["events stored twice"]
    events["p"] = 1
    assert kinds(monitor_of(events)) == ["one polarity"]


def test_copies_have_the_same_sketch(scene):
    events, _ = scene
    later = events[5_000:].copy()
    later["t"] += 3_000_000
    share, number = monitor_of(events).sketch().common(monitor_of(later, (2_000, 3_333)).sketch())
    assert share > 0.99
    assert number > 1000
    other = events.copy()
    other["x"] = np.random.default_rng(1).permutation(other["x"])
    assert monitor_of(events).sketch().common(monitor_of(other).sketch())[0] == 0
