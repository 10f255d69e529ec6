from pathlib import Path

import numpy as np

from detector.data.check.event_faults.repeats import RepeatCounter

PATH = Path("a.raw")


def find(*parts):
    counter = RepeatCounter()
    for time, keys in enumerate(parts):
        counter.add(np.sort(np.array(keys)), time)
    return list(counter.findings(PATH))


def test_every_event_twice_is_an_error():
    (found,) = find(np.repeat(np.arange(100), 2), np.repeat(np.arange(50), 2))
    assert (found.severity, found.kind) == ("error", "events stored twice")
    assert found.found == "150 of 300 events (50.0%) equal another one in x, y, polarity and time"
    bars, curve = found.evidence
    assert bars.values == {"all": 300, "distinct": 150}
    assert curve.lines["repeated events"][1].tolist() == [0.5, 0.5]


def test_some_events_twice_are_a_warning():
    (found,) = find(np.append(np.arange(200), [3, 3, 9]))
    assert (found.severity, found.kind) == ("warning", "repeated events")
    assert found.found.startswith("3 of 203 events (1.5%)")


def test_few_repeated_events_are_normal():
    assert find(np.append(np.arange(1000), [3, 4, 5])) == []
    assert find([1, 1, 2, 2]) == []
    assert find(np.arange(100), np.arange(100)) == []  # equal numbers in two parts are not equal events
    assert find() == []


def test_repeated_events_are_normal_if_times_are_in_steps():
    counter = RepeatCounter()
    counter.add(np.sort(np.append(np.arange(200), [3, 3, 9])), 0)
    assert list(counter.findings(PATH, coarse=True)) == []
    counter = RepeatCounter()
    counter.add(np.repeat(np.arange(200), 2), 0)
    assert [found.kind for found in counter.findings(PATH, coarse=True)] == ["events stored twice"]


def test_the_fewest_events_and_repetitions():
    assert [found.kind for found in find([*range(99), 3])] == ["repeated events"]  # 1 of 100
    assert find([*range(98), 3]) == []  # 99 events
    assert find([*range(100), 3]) == []  # 0.99 %
    nine_of_ten = [*range(100), *range(90)]
    assert [found.kind for found in find(nine_of_ten)] == ["events stored twice"]
    assert [found.kind for found in find(nine_of_ten[:-1])] == ["repeated events"]
