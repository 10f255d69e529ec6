import struct
from functools import partial

import event_samples
import numpy as np
import pytest

from detector.events import Faults, open_events, write_dat
from detector.events.kernels import DAT_PERIOD as PERIOD
from detector.events.prophesee.fixed_size import CHUNK_BYTES

HEADER = b"% Data file containing CD events.\n% Version 2\n% Height 240\n% Width 304\n"
KIND = bytes([12, 8])
CHUNK = CHUNK_BYTES // 8

events_at = partial(event_samples.events_at, height=240, width=304)


def record(t, x, y, p):
    return struct.pack("<II", t, x | y << 14 | p << 28)


def write(tmp_path, *records, header=HEADER, kind=KIND):
    path = tmp_path / "a_td.dat"
    path.write_bytes(header + kind + b"".join(records))
    return path


def test_bytes_by_hand(tmp_path):
    path = write(tmp_path, record(5, 303, 0, 1), record(5, 0, 239, 0), record(1 << 31, 1, 2, 1))
    with open_events(path) as reader:
        assert (reader.height, reader.width) == (240, 304)
        assert (reader.first_t, reader.last_t) == (5, 1 << 31)
        assert reader.read().tolist() == [(303, 0, 1, 5), (0, 239, 0, 5), (1, 2, 1, 1 << 31)]
        assert reader.triggers().size == 0
        x, y, p, t = reader.read_columns()
    assert [column.dtype.str for column in (x, y, p, t)] == ["<u2", "<u2", "|i1", "<i8"]
    assert [column.tolist() for column in (x, y, p, t)] == [[303, 0, 1], [0, 239, 2], [1, 0, 1], [5, 5, 1 << 31]]


def test_bits_above_polarity_do_not_count(tmp_path):
    path = write(tmp_path, struct.pack("<II", 7, 0xE0000000 | 3 | 4 << 14))
    assert open_events(path).read().tolist() == [(3, 4, 0, 7)]


def test_round_trip_and_windows(tmp_path):
    events = events_at(np.sort(np.random.default_rng(1).integers(1000, 90_000, 2 * CHUNK + 13)))
    write_dat(tmp_path / "a.dat", events, 240, 304)
    assert [path.name for path in tmp_path.iterdir()] == ["a.dat"]
    with open_events(tmp_path / "a.dat") as reader:
        assert np.array_equal(reader.read(), events)
        for t0, t1 in [(0, 1000), (1000, 1001), (20_000, 30_000), (89_000, 10**9), (30_000, 20_000), (5000, 5000)]:
            assert np.array_equal(reader.read(t0, t1), events[(events["t"] >= t0) & (events["t"] < t1)])
        assert np.array_equal(reader.read(t0=80_000), events[events["t"] >= 80_000])
        assert np.array_equal(reader.read(t1=2000), events[events["t"] < 2000])


def test_clock_that_wraps_twice(tmp_path):
    times = [PERIOD - 10, PERIOD - 1, PERIOD, PERIOD + 2**31 - 1, 2 * PERIOD - 5, 2 * PERIOD + 3]
    events = events_at(times)
    write_dat(tmp_path / "long.dat", events, 240, 304)
    with open_events(tmp_path / "long.dat") as reader:
        assert reader.read()["t"].tolist() == times
        assert (reader.first_t, reader.last_t) == (PERIOD - 10, 2 * PERIOD + 3)
        assert reader.read(PERIOD, 2 * PERIOD)["t"].tolist() == times[2:5]
        assert reader.read(2 * PERIOD)["t"].tolist() == times[5:]


def test_wrap_within_a_long_file(tmp_path):
    times = PERIOD - 50_000 + np.arange(100_000)
    write_dat(tmp_path / "long.dat", events_at(times), 240, 304)
    with open_events(tmp_path / "long.dat") as reader:
        assert np.array_equal(reader.read()["t"], times)
        assert np.array_equal(reader.read(PERIOD - 7, PERIOD + 9)["t"], np.arange(PERIOD - 7, PERIOD + 9))


def test_zero_events(tmp_path):
    write_dat(tmp_path / "none.dat", events_at([]), 240, 304)
    with open_events(tmp_path / "none.dat") as reader:
        assert reader.first_t is None
        assert reader.last_t is None
        assert reader.read().size == 0
        assert reader.read(0, 100).size == 0
        assert list(reader.windows(50_000)) == []


def test_old_header_without_sizes(tmp_path):
    path = write(tmp_path, record(1, 9, 9, 0), header=b"% Version 2\n", kind=bytes([0, 8]))
    with pytest.raises(ValueError, match="a_td.dat: the header contains no sensor size, give height and width"):
        open_events(path)
    reader = open_events(path, height=10, width=20)
    assert (reader.height, reader.width, reader.read().size) == (10, 20, 1)


@pytest.mark.parametrize(
    ("records", "kind", "message"),
    [
        ([], b"\x0c", r"event type and size are \(12,\)"),
        ([record(1, 1, 1, 0)], bytes([14, 8]), r"event type and size are \(14, 8\)"),
        ([record(9 - k, 1, 1, 0) for k in (0, 1, 2)] * 6, KIND, "12 of 18 events are faulty: 6 late .* 6 ahead"),
    ],
)
def test_broken_files_name_themselves(tmp_path, records, kind, message):
    path = write(tmp_path, *records, kind=kind)
    with pytest.raises(ValueError, match=f"a_td.dat: .*{message}") as caught, open_events(path) as reader:
        reader.read()
    assert "\n" not in str(caught.value)


def test_time_that_falls_from_chunk_to_chunk(tmp_path):
    times = np.arange(CHUNK + 2, dtype=np.uint32) + 100
    times[CHUNK:] -= 50
    words = np.stack([times, np.zeros_like(times)], axis=1)
    path = write(tmp_path, words.astype("<u4").tobytes())
    with open_events(path) as reader:
        assert reader.read()["t"][-3:].tolist() == [CHUNK + 99] * 3
        assert reader.faults == Faults(late=1, raised=1)


def test_other_version(tmp_path):
    path = write(tmp_path, header=HEADER.replace(b"Version 2", b"Version 1"))
    with pytest.raises(ValueError, match="a_td.dat: DAT version 1, allowed: 2"):
        open_events(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 304}, "x runs from 304 to 304, allowed: 0 to 303"),
        ({"y": 240}, "y runs from 240"),
        ({"p": -1}, "p runs from -1 to -1, allowed: 0 to 1"),
        ({"t": -1}, "first t is -1"),
        ({"t": PERIOD}, "first t is 4294967296"),
    ],
)
def test_events_that_cannot_be_written(tmp_path, change, message):
    events = events_at([5])
    for name, value in change.items():
        events[name] = value
    with pytest.raises(ValueError, match=message):
        write_dat(tmp_path / "a.dat", events, 240, 304)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("times", [[5, 4], [0, PERIOD // 2]])
def test_steps_that_cannot_be_written(tmp_path, times):
    with pytest.raises(ValueError, match=f"t goes from {times[0]} to {times[1]} at event 1"):
        write_dat(tmp_path / "a.dat", events_at(times), 240, 304)


def test_sizes_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="width: got 16385, allowed: 1 to 16384"):
        write_dat(tmp_path / "a.dat", events_at([1]), 240, 16385)
    with pytest.raises(ValueError, match="fields found: none"):
        write_dat(tmp_path / "a.dat", np.zeros(3), 240, 304)
