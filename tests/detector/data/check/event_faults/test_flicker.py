from pathlib import Path

import numpy as np
import pytest

from detector.data.check.event_faults.flicker import RateCounter, flicker_lines, time_step

PATH = Path("a.raw")


def find(lines, seconds=4, start=5_000_000):
    """Poisson events whose rate oscillates by the given amplitudes at the given frequencies."""
    rng = np.random.default_rng(0)
    t = np.arange(0, int(seconds * 1_000_000), 100)
    rate = 1 + sum(part * np.cos(2 * np.pi * hz * t / 1e6) for hz, part in lines.items())
    times = start + np.repeat(t, rng.poisson(4 * np.maximum(rate, 0)))
    counter = RateCounter(start)
    for first in range(0, times.size, 9_999):
        counter.add(times[first : first + 9_999])
    return list(counter.findings(PATH))


@pytest.mark.parametrize("hz", [50, 60, 100, 120])
def test_lamps(hz):
    (found,) = find({hz: 0.5})
    assert (found.severity, found.kind) == ("warning", "flicker")
    assert found.found.startswith(f"the event rate oscillates at {hz} Hz by ")
    amplitude = int(found.found.split(" by ")[1].split("%")[0])
    assert amplitude == pytest.approx(50, abs=3)
    assert found.evidence[0].marks == {f"{hz} Hz": hz}


def test_the_recording_may_begin_at_any_time():
    (found,) = find({100: 0.5}, start=10**12)
    assert found.found.startswith("the event rate oscillates at 100 Hz by ")


def test_a_lamp_whose_events_come_twice_per_cycle():
    (found,) = find({100: 0.3, 200: 0.6})
    assert "at 100 Hz by 30%" in found.found.replace("29%", "30%").replace("31%", "30%")
    assert "at 200 Hz" in found.found


def test_what_is_no_lamp():
    assert find({}) == []
    assert find({1: 0.9, 2: 0.5}) == []  # objects that come and go
    assert find({73: 0.5}) == []
    assert find({100: 0.05}) == []
    assert find({40: 0.6, 80: 0.4, 120: 0.4}) == []  # a simulator at 40 frames per second
    assert find({100: 0.5}, seconds=0.5) == []  # too short to tell
    assert list(RateCounter(0).findings(PATH)) == []


@pytest.mark.parametrize("step", [10, 50 / 3, 100 / 3])
def test_times_in_steps_are_no_flicker(step):
    t = np.floor(np.repeat(np.arange(300), 5) * step * 1000).astype(np.int64)
    counter = RateCounter(0)
    counter.add(t)
    (found,) = counter.findings(PATH)
    assert (found.severity, found.path, found.kind) == ("warning", PATH, "coarse event times")
    assert f"steps of about {step:.3g} ms" in found.found


def test_fine_times_are_not_in_steps():
    assert time_step(np.arange(1000)) is None
    assert time_step(np.arange(0, 98 * 10, 10)) is None  # too few
    assert time_step(np.sort(np.random.default_rng(0).choice(10_000, 1000, replace=False))) is None  # few events
    assert time_step(np.concatenate([np.arange(100), np.arange(9000, 9100)])) is None  # a pause


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([10] * 99, 10),
        ([10] * 98, None),  # 99 milliseconds with events
        ([2] * 199 + [4], 2),
        ([2] * 199, None),  # 200 of 399 milliseconds have events
        ([10] * 99 + [15], 10),
        ([10] * 98 + [15] * 2, None),  # 2 % are not on the grid
        ([10] * 99 + [1], 10),
        ([10] * 98 + [1] * 2, None),
        ([10] * 90 + [20, 30, 40, 21, 39] * 2, 10),
        ([16, 17, 17] * 40, 50 / 3),
    ],
)
def test_the_grid_of_event_times(gaps, expected):
    assert time_step(np.cumsum([7, *gaps])) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("peaks", "floor", "expected"),
    [
        ({100: 0.5}, 0.01, [(100, 0.5)]),
        ({99: 0.5}, 0.01, [(100, 0.5)]),
        ({101: 0.5}, 0.01, [(100, 0.5)]),
        ({98: 0.5}, 0.01, []),
        ({102: 0.5}, 0.01, []),
        ({100: 0.1}, 0.01, [(100, 0.1)]),
        ({100: 0.099}, 0.01, []),
        ({100: 0.4}, 0.05, [(100, 0.4)]),
        ({100: 0.39}, 0.05, []),  # below 8 times the median
        ({100: 0.5, 200: 0.079}, 0.01, [(100, 0.5)]),
        ({100: 0.5, 200: 0.081}, 0.01, [(100, 0.5), (200, 0.081)]),
        ({100: 0.05, 200: 0.3}, 0.005, [(100, 0.05), (200, 0.3)]),
        ({50: 0.3, 100: 0.5}, 0.01, [(50, 0.3), (100, 0.5)]),
        ({60: 0.2, 120: 0.5}, 0.01, [(60, 0.2), (120, 0.5)]),
        ({50: 0.5, 100: 0.3}, 0.01, [(50, 0.5), (100, 0.3)]),
        ({100: 0.5, 15: 0.25}, 0.01, [(100, 0.5)]),
        ({100: 0.5, 15: 0.26}, 0.01, []),  # a line of another series
        ({100: 0.5, 14: 0.26}, 0.01, [(100, 0.5)]),
        ({100: 0.5, 129: 0.26}, 0.01, []),
        ({100: 0.5, 130: 0.26}, 0.01, [(100, 0.5)]),
        ({100: 0.5, 97: 0.26}, 0.01, []),
        ({100: 0.5, 98: 0.26}, 0.01, [(100, 0.5)]),
        ({50: 0.5, 102: 0.26}, 0.01, [(50, 0.5)]),  # near the double frequency
        ({50: 0.5, 103: 0.26}, 0.01, []),
    ],
)
def test_lines_of_a_spectrum(peaks, floor, expected):
    amplitudes = np.full(501, floor)
    amplitudes[list(peaks)] = list(peaks.values())
    assert flicker_lines(np.arange(501.0), amplitudes) == expected


def test_a_single_whole_second_is_enough():
    t = np.arange(0, 1_000_000, 500)
    lamp = t[(t // 5_000) % 2 == 0]
    for end, number in ((999_999, 1), (998_999, 0)):  # the last event is in the last millisecond, or in the one before
        counter = RateCounter(0)
        counter.add(np.append(np.sort(np.append(lamp, np.arange(0, 998_000, 1_000))), end))
        assert len(list(counter.findings(PATH))) == number
