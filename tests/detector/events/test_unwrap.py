import numpy as np
import pytest

from detector.events.faults import DisorderError
from detector.events.unwrap import NUM_SAMPLES, WrappingClock

PERIOD = 128


def clock_of(times, slack=0):
    raw = [int(time) % PERIOD for time in times]
    return WrappingClock(len(raw), raw.__getitem__, PERIOD, slack=slack)


@pytest.mark.parametrize("count", [1, 5, NUM_SAMPLES, 30 * NUM_SAMPLES + 7])
def test_search_equals_searchsorted_over_several_wraps(count):
    times = np.cumsum(np.random.default_rng(count).integers(0, 3, count)) + 40
    clock = clock_of(times)
    assert [clock.at(index) for index in range(0, count, 97)] == times[::97].tolist()
    for time in [0, *range(int(times[0]) - 1, int(times[-1]) + 2, 53), int(times[-1]), int(times[-1]) + 1]:
        assert clock.first_at_least(time) == np.searchsorted(times, time)


def test_wraps_between_samples_are_found():
    # 31 records from sample to sample: those that hold the six gaps last more than a period.
    index = np.arange(4000)
    times = index // 4 + 60 * np.searchsorted([1778, 1900, 1903, 1906, 1909, 1912], index, side="right")
    clock = clock_of(times)
    for time in [times[1700], times[1778], times[1911], times[3999]]:
        assert clock.first_at_least(int(time)) == np.searchsorted(times, time)


def test_the_first_time_needs_one_look_and_a_search_few():
    times = np.arange(1 << 20) // 8192
    looks = []
    clock = WrappingClock(times.size, lambda index: looks.append(index) or int(times[index]) % PERIOD, PERIOD)
    assert clock.at(0) == 0
    assert len(looks) == 1
    assert clock.first_at_least(100) == 100 * 8192
    assert len(looks) < 2 * NUM_SAMPLES
    looks.clear()
    assert clock.first_at_least(77) == 77 * 8192
    assert len(looks) <= 14


def test_no_records():
    assert clock_of([]).first_at_least(0) == 0


def test_search_meets_time_running_backwards():
    with pytest.raises(DisorderError):
        clock_of([10, 50, 30, 60]).first_at_least(55)


def test_small_falls_are_allowed_where_they_are():
    times = [5, 9, 7, 10, 127, 128, 127, 130]
    clock = clock_of(times, slack=2)
    assert [clock.at(index) for index in range(8)] == times
    assert clock.first_at_least(10) == 3
    assert clock.first_at_least(129) == 7
    with pytest.raises(DisorderError):
        clock_of([5, 10, 7, 20], slack=2).first_at_least(15)
