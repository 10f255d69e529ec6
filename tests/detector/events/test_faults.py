"""Faulty events, in all formats: what is kept, what is counted, what is refused; a window is a part of the whole."""

import numpy as np
import pytest
from event_samples import between, events_at
from faulty_recordings import HEIGHT, REACH, WIDTH, WRITERS, csv, dat, plain_mend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.events import Faults, kernels, open_events, write_dat
from detector.events.containers import chunked
from detector.events.faults import FaultFinder
from detector.events.prophesee import fixed_size

EXAMPLES = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)


@pytest.fixture(params=["read whole first", "searched", "blocks of 128 bytes"])
def access(request, monkeypatch):
    """The ways to search: small files are read whole first, large ones are searched, in blocks of any size."""
    if request.param == "searched":
        monkeypatch.setattr(fixed_size, "SCANNED", -1)
        monkeypatch.setattr(chunked.BlockReader, "_is_small", lambda reader: False)
    if request.param == "blocks of 128 bytes":
        monkeypatch.setattr(fixed_size, "BLOCK_BYTES", 128)


def open_any(path, allowed=1.0):
    return open_events(path, HEIGHT, WIDTH, max_faulty_events=allowed)


def check(path, expected, faults):
    """Whole, in windows, in batches, backwards: the same events and counts."""
    with open_any(path) as reader:
        assert np.array_equal(reader.read(), expected)
        assert reader.faults == faults
    with open_any(path) as reader:
        assert reader.faults == faults
        assert np.array_equal(np.concatenate(list(reader.batches(7)) or [expected]), expected)
    with open_any(path) as reader:
        ends = (int(expected["t"][0]), int(expected["t"][-1])) if expected.size else (None, None)
        assert (reader.first_t, reader.last_t) == ends
    with open_any(path) as reader:
        times = sorted({*expected["t"].tolist(), *(expected["t"] + 1).tolist()})[::-7]
        for t0, t1 in zip(times[1:], times, strict=False):
            assert np.array_equal(reader.read(t0, t1), between(expected, t0, t1)), (t0, t1)
        assert reader.faults == faults


@pytest.mark.parametrize(
    ("times", "expected", "faults"),
    [
        ([10, 20, 17, 30], [10, 20, 20, 30], Faults(late=1)),
        ([10, 20, 5, 30], [10, 20, 20, 30], Faults(late=1)),
        ([10, 200_020, 100_020, 200_030], [10, 200_020, 200_020, 200_030], Faults(late=1)),
        ([10, 200_020, 100_019, 200_030], [10, 200_020, 200_030], Faults(dropped=1)),
        ([10, 20, 900, 30, 40], [10, 20, 30, 40], Faults(ahead=1)),
        ([10, 20, 10**6, 30, 40], [10, 20, 30, 40], Faults(ahead=1)),
        ([10**6, 20, 30], [20, 30], Faults(ahead=1)),
        ([25, 20, 30], [25, 25, 30], Faults(late=1)),
        ([10, 20, 15], [10, 20, 20], Faults(late=1)),
        ([10, 20, 10**6], [10, 20, 10**6], Faults()),
        ([20, 30, 10, 15, 28, 40], [20, 30, 30, 30, 30, 40], Faults(late=1, raised=2)),
        ([10, 500, 501, 20, 30, 600], [10, 500, 501, 501, 501, 600], Faults(late=1, raised=1)),
        ([10, 20, 15, 900, 21, 22], [10, 20, 20, 21, 22], Faults(late=1, ahead=1)),
    ],
)
@pytest.mark.parametrize("name", ["DAT", "EVT2", "EVT2.1", "EVT3", "HDF5", "NPY", "CSV"])
def test_falls_of_time_by_hand(tmp_path, access, name, times, expected, faults):
    events = events_at(times)
    WRITERS[name](tmp_path / "a", events)
    kept, counted = plain_mend(events)
    assert (kept["t"].tolist(), counted) == (expected, faults)
    check(tmp_path / "a", kept, faults)


@pytest.mark.parametrize("name", WRITERS)
def test_events_outside_the_sensor_are_dropped(tmp_path, access, name):
    events = events_at(np.arange(60) * 30)
    events["x"][[0, 20]], events["y"][[31, 32, 59]] = 640, 480
    if name not in ("DAT", "NPY", "CSV", "HDF5", "columns"):
        events["x"][45] = 2047
    else:
        events["x"][45] = 1308 if name == "DAT" else 65535
    WRITERS[name](tmp_path / "a", events)
    expected = np.delete(events, [0, 20, 31, 32, 45, 59])
    check(tmp_path / "a", expected, Faults(outside=6))


def test_coordinates_that_no_array_of_ours_can_hold(tmp_path, access):
    table = np.array([[1, 2, 0, 5], [-1, 2, 0, 6], [70_000, 2, 0, 7], [1, -70_000, 1, 8], [3, 4, 1, 9]], np.int64)
    np.save(tmp_path / "a.npy", table)
    with open_any(tmp_path / "a.npy") as reader:
        assert reader.read().tolist() == [(1, 2, 0, 5), (3, 4, 1, 9)]
        assert reader.faults == Faults(outside=3)
    np.save(tmp_path / "b.npy", table[:, :4].astype(np.float64))
    assert open_any(tmp_path / "b.npy").read().size == 2


@pytest.mark.parametrize("name", ["HDF5", "NPY", "CSV"])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_times_below_0(tmp_path, access, name, place):
    events = events_at([10, 20, 30, 40])
    events["t"][place] = -(10**9)
    WRITERS[name](tmp_path / "a", events)
    check(tmp_path / "a", np.delete(events, place), Faults(dropped=1))


@pytest.mark.parametrize("name", WRITERS)
@EXAMPLES
@given(data=st.data())
def test_one_faulty_event_leaves_the_rest(tmp_path, name, data):
    steps = data.draw(st.lists(st.integers(0, 3000), min_size=3, max_size=80), "steps")
    events = events_at(np.cumsum(steps) + data.draw(st.integers(0, 10**6), "start"))
    place = data.draw(st.integers(0, len(events) - 1), "place")
    kind = data.draw(st.sampled_from("xy" if name == "ECF" else "xyt"), "kind")
    if kind == "t":
        reach = REACH.get(name, 2**40)
        lowest = -int(events["t"][place]) if name in REACH else -reach
        events["t"][place] += data.draw(st.integers(max(lowest, -reach), reach), "by")
    else:
        events[kind][place] = data.draw(st.integers({"x": WIDTH, "y": HEIGHT}[kind], 2047), kind)
    WRITERS[name](tmp_path / "a", events)
    expected, faults = plain_mend(events)
    assert faults.total <= 1 and len(expected) >= len(events) - 1
    check(tmp_path / "a", expected, faults)


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "ECF"])
@pytest.mark.parametrize("seed", range(3))
def test_many_faulty_events_against_the_plain_rules(tmp_path, access, name, seed):
    rng = np.random.default_rng(seed)
    events = events_at(np.cumsum(rng.integers(0, 9000 if seed else 900, 1500)))
    places = rng.choice(1500, 60, replace=False)
    events["t"][places] = np.maximum(events["t"][places] + rng.integers(-45_000, 45_000, 60), 0)
    events["x"][rng.choice(1500, 40, replace=False)] = 1308
    WRITERS[name](tmp_path / "a", events)
    expected, faults = plain_mend(events)
    assert min(faults.outside, faults.late, faults.ahead) > 3
    check(tmp_path / "a", expected, faults)


@pytest.mark.parametrize("times", [[5, 2**32 - 9, 2**32 + 3, 2**32 - 4, 2**32 + 8], [2**32 - 5, 2**32 + 9, 2**32 + 12]])
def test_the_clock_of_dat_starts_anew_beside_faulty_events(tmp_path, access, times):
    events = events_at([2**32 - 2**30, *times] if times[0] == 5 else times)
    if times[0] == 5:
        events["t"][1] = 2**32 - 2**29
    dat(tmp_path / "a", events)
    check(tmp_path / "a", *plain_mend(events))


@pytest.mark.parametrize("wrong", [2**31 + 10**6, 2**32 - 10**7, 3 * 10**9])
@pytest.mark.parametrize("place", [2, 100, 197])
def test_an_event_of_dat_ahead_by_more_than_half_a_period_is_no_new_period(tmp_path, access, wrong, place):
    events = events_at(np.arange(200) * 100 + 1000)
    events["t"][place] = wrong
    dat(tmp_path / "a", events)
    check(tmp_path / "a", np.delete(events, place), Faults(ahead=1))
    events["t"] += 3 * 10**9
    events["t"][place] = 7
    dat(tmp_path / "a", events)
    check(tmp_path / "a", np.delete(events, place), Faults(dropped=1))


def test_a_fall_that_stays_is_refused_with_both_times(tmp_path, access):
    dat(tmp_path / "a", events_at([10, 500_000, 500_010, 399_999, 400_020, 400_030]))
    for use in (lambda reader: reader.read(), lambda reader: reader.read(0, 20), lambda reader: reader.faults):
        with open_any(tmp_path / "a") as reader:
            with pytest.raises(ValueError, match="a: time falls from 500010 to 399999 us .*, allowed") as caught:
                use(reader)
                reader.read(500_005, 500_011)
            assert "\n" not in str(caught.value)


def faulty_file(path, count, wrong, name="DAT"):
    events = events_at(np.arange(count))
    events["x"][:wrong] = 700
    WRITERS[name](path, events)
    return path


@pytest.mark.parametrize("name", WRITERS)
def test_too_many_faulty_events_are_refused(tmp_path, name):
    with open_events(faulty_file(tmp_path / "a", 100, 10, name), HEIGHT, WIDTH) as reader:
        assert (reader.read().size, reader.faults) == (90, Faults(outside=10))
    message = (
        r"b: 11 of 100 events are faulty: 11 outside the sensor \(dropped\), "
        r"allowed: 10 \(0.001 of them\), more with a larger data.max_faulty_events$"
    )
    faulty_file(tmp_path / "b", 100, 11, name)
    for use in ("read", "faults", "window"):
        with (
            open_events(tmp_path / "b", HEIGHT, WIDTH) as reader,
            pytest.raises(ValueError, match=message),
        ):
            _ = {"read": reader.read, "window": lambda: reader.read(5, 20)}.get(use, lambda: reader.faults)()
    assert open_any(tmp_path / "b", allowed=0.11).read().size == 89
    strict = open_any(faulty_file(tmp_path / "c", 100, 1, name), allowed=0)
    with pytest.raises(ValueError, match="c: 1 of 100 events are faulty: .* allowed: 0 "):
        strict.read()
    strict.close()


def test_a_thousandth_of_a_large_recording_may_be_faulty(tmp_path):
    assert open_events(faulty_file(tmp_path / "a", 20_000, 20)).read().size == 19_980
    with pytest.raises(ValueError, match="21 of 20,000 events are faulty"):
        open_events(faulty_file(tmp_path / "a", 20_000, 21)).read()
    with pytest.raises(ValueError, match="max_faulty_events: got 2, allowed: a number from 0 to 1"):
        open_events(tmp_path / "a", max_faulty_events=2)


@pytest.mark.parametrize(("name", "length"), [("DAT", 8), ("EVT2", 4), ("EVT2.1", 8), ("EVT3", 2), ("NPY", 14)])
def test_a_file_cut_in_mid_word_is_read_up_to_there(tmp_path, access, name, length):
    events = events_at(np.arange(50) * 10)
    WRITERS[name](tmp_path / "a", events)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: -length + 1])
    check(tmp_path / "a", events[:-1], Faults(truncated=1))
    with pytest.raises(ValueError, match="a: 1 of .* 1 cut off at the end of the file"):
        open_any(tmp_path / "a", allowed=0).read()
    (tmp_path / "a").write_bytes(whole[:-length])
    if name != "NPY":  # which says how many there should be
        check(tmp_path / "a", events[:-1], Faults())


def test_a_table_cut_in_mid_line(tmp_path):
    csv(tmp_path / "a", events_at([5, 6, 7]))
    text = (tmp_path / "a").read_text()
    (tmp_path / "a").write_text(text[: text.rindex(",")])
    with open_any(tmp_path / "a") as reader:
        assert (reader.read()["t"].tolist(), reader.faults) == ([5, 6], Faults(truncated=1))


def test_a_sound_file_is_read_once(tmp_path, monkeypatch):
    write_dat(tmp_path / "a", events_at(np.arange(5000)), HEIGHT, WIDTH)
    with open_events(tmp_path / "a") as reader:
        monkeypatch.setattr(type(reader), "_raw_blocks", None)
        assert reader.read().size == 5000
        assert reader.faults == Faults()


def test_the_rules_as_plain_python(monkeypatch):
    events = events_at([10, 20, 15, 900, 21, 22, 5, 30, 28, 27, 29, 31])
    events["x"][3] = 640
    numbers = [_numbers(events)]
    for name in ("find_faults", "advance", "_is_wrap"):
        loop = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, getattr(loop, "py_func", loop))
    monkeypatch.setattr("detector.events.faults.find_faults", kernels.find_faults)
    numbers.append(_numbers(events))
    assert numbers[0] == numbers[1]
    assert numbers[0][1] == plain_mend(events)[1]


def _numbers(events):
    finder = FaultFinder("a", WIDTH, HEIGHT, 2**32)
    parts = []
    for part in (events[:5], events[5:6], events[6:]):
        columns = tuple(np.ascontiguousarray(part[name]) for name in "xypt")
        parts.append([values.tolist() for values in finder.add(columns)])
    parts.append([values.tolist() for values in finder.finish()])
    return parts, finder.faults
