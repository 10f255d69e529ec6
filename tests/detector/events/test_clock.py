import numpy as np
import pytest

from detector.events.clock import PROBES, WrappingClock, unwrap

PERIOD = 100


def clock_of(times):
    raw = [time % PERIOD for time in times]
    return WrappingClock(len(raw), raw.__getitem__, PERIOD, "file")


def test_unwrap_by_hand():
    raw = np.array([90, 95, 3, 3, 60, 9], np.uint32)
    assert unwrap(raw, 90, PERIOD, "file").tolist() == [90, 95, 103, 103, 160, 209]
    assert unwrap(raw, 280, PERIOD, "file").tolist() == [290, 295, 303, 303, 360, 409]
    assert unwrap(raw[:0], 5, PERIOD, "file").tolist() == []


def test_unwrap_counts_a_wrap_before_the_first():
    assert unwrap(np.array([2, 4], np.uint32), 199, PERIOD, "file").tolist() == [202, 204]


@pytest.mark.parametrize(("raw", "previous", "ticks"), [([10, 30, 20], 0, 10), ([5, 6], 8, 3)])
def test_small_falls_are_errors(raw, previous, ticks):
    with pytest.raises(ValueError, match=f"file: time runs backwards by {ticks} ticks"):
        unwrap(np.array(raw, np.uint32), previous, PERIOD, "file")


@pytest.mark.parametrize("count", [1, 5, PROBES, 3 * PROBES + 7])
def test_search_equals_searchsorted_over_several_wraps(count):
    times = np.cumsum(np.random.default_rng(count).integers(0, 3, count)) + 40
    clock = clock_of(times.tolist())
    assert [clock.at(index) for index in range(0, count, 97)] == times[::97].tolist()
    for time in [0, *range(int(times[0]) - 1, int(times[-1]) + 2, 53), int(times[-1]), int(times[-1]) + 1]:
        assert clock.first_at_least(time) == np.searchsorted(times, time)


def test_no_records():
    assert clock_of([]).first_at_least(0) == 0


def test_search_meets_time_running_backwards():
    with pytest.raises(ValueError, match="runs backwards by 20"):
        clock_of([10, 50, 30, 60]).first_at_least(55)
