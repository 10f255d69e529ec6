import numpy as np
import pytest
from event_samples import EVT3_HEADER, between, events_at
from faulty_recordings import plain_mend

from detector.events import EventCD, Faults, open_events, write_evt3
from detector.events.kernels import EVT3_PERIOD
from detector.events.prophesee import fixed_size
from detector.events.prophesee.evt3 import encode_evt3
from detector.events.prophesee.fixed_size import CHUNK_BYTES
from detector.events.write import PART


def row(y):
    return 0x0 << 12 | y


def column(x, p):
    return 0x2 << 12 | p << 11 | x


def base(x, p):
    return 0x3 << 12 | p << 11 | x


def vector12(mask):
    return 0x4 << 12 | mask


def vector8(mask):
    return 0x5 << 12 | mask


def low(value):
    return 0x6 << 12 | value


def high(value):
    return 0x8 << 12 | value


def write(tmp_path, words, rest=b""):
    path = tmp_path / "a.raw"
    path.write_bytes(EVT3_HEADER + np.array(words, "<u2").tobytes() + rest)
    return path


def read(tmp_path, words):
    with open_events(write(tmp_path, words)) as reader:
        return reader.read().tolist()


def test_words_by_hand(tmp_path):
    words = [
        *(column(9, 1), low(77), row(1 << 11 | 5)),  # no time yet; row 5 with the bit of a second camera
        *(high(2), low(3), column(639, 1), column(0, 0)),
        *(0xE << 12 | 0x123, 0xF << 12 | 0x2FF, 0x7 << 12 | 0xA00),  # OTHERS and what continues it
        *(row(479), base(600, 1), vector12(0b1000_0000_0001), vector12(0), vector8(0b1000_0001)),
        *(low(4), vector8(1)),
    ]
    with open_events(write(tmp_path, words)) as reader:
        assert (reader.height, reader.width) == (480, 640)
        assert reader.read().tolist() == [
            *((639, 5, 1, 8195), (0, 5, 0, 8195)),
            *((600, 479, 1, 8195), (611, 479, 1, 8195), (624, 479, 1, 8195), (631, 479, 1, 8195)),
            (632, 479, 1, 8196),
        ]
        assert (reader.first_t, reader.last_t) == (8195, 8196)
        x, y, p, t = reader.read_columns()
    assert [part.dtype.str for part in (x, y, p, t)] == ["<u2", "<u2", "|i1", "<i8"]


def test_events_without_a_row_or_a_base_are_dropped(tmp_path):
    words = [high(1), low(0), column(3, 1), vector8(1), row(7), vector8(0xFF), vector12(1), column(4, 0)]
    assert read(tmp_path, words) == [(4, 7, 0, 4096)]


def test_a_time_high_begins_at_its_own_start(tmp_path):
    words = [row(1), high(1), low(4000), column(0, 1), high(1), column(1, 1), high(2), column(2, 1), low(5)]
    assert [event[3] for event in read(tmp_path, [*words, column(3, 1)])] == [8096, 8096, 8192, 8197]


def test_small_falls_are_smoothed(tmp_path):
    # TIME_LOW starts anew before TIME_HIGH comes; TIME_HIGH falls for a moment.
    words = [row(1), high(1), low(4090), column(0, 1), low(3), column(1, 1), high(2), low(5), column(2, 1)]
    assert [event[3] for event in read(tmp_path, words)] == [8186, 8186, 8197]
    words = [row(1), high(9), low(7), column(0, 1), high(7), low(9), column(1, 1), high(9), low(8), column(2, 1)]
    assert [event[3] for event in read(tmp_path, words)] == [36871, 36871, 36872]


def test_falls_across_the_end_of_the_clock_are_smoothed(tmp_path):
    words = [row(1), high(4095), high(0), low(2), column(0, 1), high(4095), low(9), column(1, 1), high(0), low(3)]
    assert [event[3] for event in read(tmp_path, [*words, column(2, 1)])] == [
        EVT3_PERIOD + 2,
        EVT3_PERIOD + 2,
        EVT3_PERIOD + 3,
    ]


def test_the_clock_goes_where_its_words_say(tmp_path):
    assert read(tmp_path, [high(0), low(811), low(800), row(7), column(5, 1)]) == [(5, 7, 1, 800)]
    assert read(tmp_path, [row(7), high(9), low(811), high(8), low(800), column(5, 1)]) == [(5, 7, 1, 8 * 4096 + 800)]
    assert read(tmp_path, [row(7), high(9), low(811), high(8), column(5, 1)]) == [(5, 7, 1, 8 * 4096)]
    assert read(tmp_path, [row(7), high(4095), high(0), low(9), high(4095), low(5), column(5, 1)]) == [
        (5, 7, 1, EVT3_PERIOD - 4091)
    ]
    words = [row(7), high(0), low(811), base(3, 1), low(800), vector8(5), low(805), vector12(1), low(801), vector8(1)]
    with open_events(write(tmp_path, words)) as reader:
        assert [event[3] for event in reader.read().tolist()] == [800, 800, 805, 805]
        assert reader.faults == Faults(late=1)
    words = [high(0), low(811), low(800), 0xA001, row(7), low(820), column(1, 1), low(810), 0xA000]
    with open_events(write(tmp_path, words)) as reader:
        assert reader.triggers()["t"].tolist() == [800, 810]


def test_the_clock_falls_by_up_to_half_a_period_or_starts_anew(tmp_path):
    words = [row(7), high(3000), low(5), high(1000), low(2), column(5, 1), high(3047), low(1), column(6, 1)]
    assert [event[3] >> 12 for event in read(tmp_path, words)] == [1000, 3047]
    words = [row(7), high(3000), low(5), column(4, 1), high(900), low(2), column(5, 1), high(901), column(6, 1)]
    assert [event[3] >> 12 for event in read(tmp_path, words)] == [3000, 4096 + 900, 4096 + 901]


def test_long_rows_of_vectors_leave_the_sensor(tmp_path):
    words = [high(1), low(1), row(3), base(0, 1), *[vector12(0)] * 5462, vector8(1 << 4 | 1), low(2), column(1, 1)]
    with open_events(write(tmp_path, words)) as reader:
        assert reader.read().tolist() == [(1, 3, 1, 4098)]  # and not column 65548 - 65536
        assert reader.faults == Faults(outside=2)


def test_triggers(tmp_path):
    words = [0xA << 12 | 1, high(1), low(3), 0xA << 12 | 6 << 8 | 1, row(2), column(1, 1), low(9), 0xA << 12 | 15 << 8]
    with open_events(write(tmp_path, words)) as reader:
        edges = reader.triggers()
        assert [(edge["t"], edge["p"], edge["id"]) for edge in edges] == [(4099, 1, 6), (4105, 0, 15)]
        assert reader.read()["t"].tolist() == [4099]


def test_a_window_takes_row_and_vector_from_words_before_it(tmp_path):
    words = [row(3), base(10, 1), high(1), vector12(1), low(7), vector8(1), high(9), low(5), vector12(3), column(2, 0)]
    with open_events(write(tmp_path, words)) as reader:
        assert reader.read(9 << 12, 10 << 12).tolist() == [(30, 3, 1, 36869), (31, 3, 1, 36869), (2, 3, 0, 36869)]
        assert reader.read(4097, 5000).tolist() == [(22, 3, 1, 4103)]


def jittering_words(seed, count):
    """Rows, columns, vectors and times, with falls as large as cameras show them, over several wraps."""
    rng = np.random.default_rng(seed)
    words, now = [], 4000
    for _ in range(count):
        now += int(rng.choice([0, 1, 40])) if rng.random() < 0.99 else 700
        words += [high(max(0, now - int(rng.integers(0, 3)) * int(rng.random() < 0.2)) % 4096)]
        words += [low(int(rng.integers(0, 4096)))] * int(rng.random() < 0.7)
        words += [row(int(rng.integers(0, 480)))] * int(rng.random() < 0.3)
        words += [base(int(rng.integers(0, 600)), int(rng.integers(0, 2))), vector12(int(rng.integers(0, 4096)))]
        words += [vector8(int(rng.integers(0, 256)))] * int(rng.random() < 0.3)
        words += [column(int(rng.integers(0, 640)), int(rng.integers(0, 2)))] * int(rng.random() < 0.5)
    return words


def plain_decode(words):
    """What the words mean, word by word."""
    events, time, y, x, p = [], None, None, None, 0  # times as the clock has them
    upper = 0
    for word in words:
        kind, value = word >> 12, word & 0xFFF
        if kind == 8 and time is None:
            upper, time = value << 12, value << 12
        elif kind == 8:
            newest = upper >> 12
            candidates = [newest - newest % 4096 + value + 4096 * wraps for wraps in (-1, 0, 1)]
            fresh = min(candidates, key=lambda number: abs(number - newest)) << 12
            time, upper = time if fresh == upper else fresh, fresh
        elif kind == 6 and time is not None:
            time = upper + value
        elif kind == 0:
            y = value & 0x7FF
        elif kind == 3:
            x, p = value & 0x7FF, value >> 11
        elif kind in (4, 5):
            size = 12 if kind == 4 else 8
            events += [(x + bit, y, p, time) for bit in range(size) if value >> bit & 1 and None not in (x, y, time)]
            x = None if x is None else x + size
        elif kind == 2 and None not in (y, time):
            events.append((value & 0x7FF, y, value >> 11, time))
    return np.array(events, EventCD)


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_a_plain_decoder_and_windows_to_the_whole(tmp_path, seed):
    words = jittering_words(seed, 2500)
    expected, faults = plain_mend(plain_decode(words))
    assert faults.late > 100
    assert expected["t"][-1] > 5 * EVT3_PERIOD
    with open_events(write(tmp_path, words), max_faulty_events=1) as reader:
        assert np.array_equal(reader.read(), expected)
        assert reader.faults == faults
        assert (reader.first_t, reader.last_t) == (expected["t"][0], expected["t"][-1])
        rng = np.random.default_rng(seed)
        for t0 in [*rng.integers(expected["t"][0], expected["t"][-1], 60).tolist(), *expected["t"][::250].tolist()]:
            t1 = t0 + int(rng.integers(0, 400_000))
            assert np.array_equal(reader.read(t0, t1), between(expected, t0, t1))
        assert np.array_equal(np.concatenate(list(reader.batches(999))), expected)


def test_round_trip_and_windows(tmp_path):
    count = 2 * PART + 5
    events = events_at(np.sort(np.random.default_rng(0).integers(1000, 900_000, count)))
    write_evt3(tmp_path / "a.raw", events, 480, 640)
    assert [path.name for path in tmp_path.iterdir()] == ["a.raw"]
    assert (tmp_path / "a.raw").stat().st_size > CHUNK_BYTES  # state goes on from chunk to chunk
    with open_events(tmp_path / "a.raw") as reader:
        assert np.array_equal(reader.read(), events)
        for t0, t1 in [(0, 1000), (0, 9000), (8192, 12288), (300_000, 350_000), (899_000, 10**9), (1800, 1500)]:
            assert np.array_equal(reader.read(t0, t1), between(events, t0, t1))


@pytest.mark.parametrize(("width", "smaller"), [(20, False), (32, True), (40, True), (1280, False)])
def test_round_trip_of_rows_that_become_vectors(tmp_path, width, smaller):
    rng = np.random.default_rng(width)
    events = events_at(np.sort(rng.integers(0, 40, 6000)))
    events["x"], events["y"] = rng.integers(0, width, 6000), rng.integers(0, 4, 6000)
    events = events[np.lexsort((events["x"], events["p"], events["y"], events["t"]))]
    write_evt3(tmp_path / "a.raw", events, 4, width)
    assert np.array_equal(open_events(tmp_path / "a.raw").read(), events)
    assert ((tmp_path / "a.raw").stat().st_size < 2 * 6000) == smaller


def test_words_that_are_written(tmp_path):
    events = np.array([(x, 7, 1, 5) for x in (3, 4, 6, 20, 34)] + [(635, 7, 0, 5), (636, 7, 0, 4097)], EventCD)
    write_evt3(tmp_path / "a.raw", events, 480, 640)
    data = (tmp_path / "a.raw").read_bytes()
    words = np.frombuffer(data[data.index(b"% end\n") + 6 :], "<u2").tolist()
    masks = [vector12(0b1011), vector12(1 << 5), vector8(1 << 7)]
    assert words == [high(0), low(5), row(7), base(3, 1), *masks, column(635, 0), high(1), low(1), column(636, 0)]


def test_the_first_event_has_a_time_and_a_row_whatever_they_are(tmp_path):
    for value in (0, 1):
        write_evt3(tmp_path / "a.raw", np.array([(value, value, value, value)], EventCD), 480, 640)
        data = (tmp_path / "a.raw").read_bytes()
        words = np.frombuffer(data[data.index(b"% end\n") + 6 :], "<u2").tolist()
        assert words == [high(0), low(value), row(value), column(value, value)]


@pytest.mark.parametrize(
    "times",
    [[5, EVT3_PERIOD + 5, EVT3_PERIOD + 6, 40 * EVT3_PERIOD], [4095, 4096], [3 * EVT3_PERIOD + 17], [2**32 - 1]],
)
def test_any_gap_can_be_written(tmp_path, times):
    events = events_at(times)
    write_evt3(tmp_path / "a.raw", events, 480, 640)
    with open_events(tmp_path / "a.raw") as reader:
        assert np.array_equal(reader.read(), events)
        assert (reader.first_t, reader.last_t) == (times[0], times[-1])
        for time in times:
            assert reader.read(time, time + 1)["t"].tolist() == [time]


def test_a_sparse_file_of_many_wraps_is_searched_right(tmp_path):
    # The same number of words a period: places at equal distances would all show the same time.
    times = np.arange(3000) * (EVT3_PERIOD // 8)
    write_evt3(tmp_path / "a.raw", events_at(times), 480, 640)
    with open_events(tmp_path / "a.raw") as reader:
        assert reader.last_t == times[-1]
        for index in range(0, 3000, 100):
            assert reader.read(times[index], times[index] + 1)["t"].tolist() == [times[index]]


def test_large_files_are_searched_at_places_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(fixed_size, "SCANNED", -1)
    events = events_at(np.arange(0, 3 * EVT3_PERIOD, 999))
    write_evt3(tmp_path / "a.raw", events, 480, 640)
    with open_events(tmp_path / "a.raw") as reader:
        for t0 in range(0, 3 * EVT3_PERIOD, 3_456_789):
            assert np.array_equal(reader.read(t0, t0 + 5000), between(events, t0, t0 + 5000))


def test_zero_events(tmp_path):
    write_evt3(tmp_path / "none.raw", events_at([]), 480, 640)
    for path in [
        tmp_path / "none.raw",
        write(tmp_path, [high(3), low(1), row(3)]),
        write(tmp_path, [high(1), column(3, 1)]),
    ]:
        with open_events(path) as reader:
            assert (reader.first_t, reader.last_t) == (None, None)
            assert reader.read().size == reader.read(0, 10**6).size == reader.triggers().size == 0


def test_events_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="the first t is 4294967296, allowed: from 0 to below 4294967296"):
        write_evt3(tmp_path / "a.raw", events_at([2**32]), 480, 640)
    with pytest.raises(ValueError, match="width: got 2049, allowed: 1 to 2048"):
        write_evt3(tmp_path / "a.raw", events_at([1]), 480, 2049)
    assert list(tmp_path.iterdir()) == []


def test_encoding_in_plain_python():
    x = np.array([1, 2, 3, 4, 40, 7], np.uint16)
    columns = (x, np.full(6, 9, np.uint16), np.ones(6, np.int8), np.array([5, 5, 5, 5, 5, 9000], np.int64))
    written = []
    for loop in (encode_evt3, getattr(encode_evt3, "py_func", encode_evt3)):
        words = np.zeros(2000, np.uint16)
        done, size = loop(*columns, 0, np.full(3, -1), words, 640)
        written.append((done, words[:size].tolist()))
    assert written[0] == written[1]
    assert written[0][0] == 6
