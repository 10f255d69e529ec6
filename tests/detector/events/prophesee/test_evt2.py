import numpy as np
import pytest
from event_samples import EVT2_HEADER, between, events_at

from detector.events import Faults, open_events, write_evt2
from detector.events.kernels import EVT2_PERIOD
from detector.events.write import PART


def high(value):
    return 0x8 << 28 | value


def cd(low, x, y, p):
    return p << 28 | low << 22 | x << 11 | y


def write(tmp_path, words, rest=b""):
    path = tmp_path / "a.raw"
    path.write_bytes(EVT2_HEADER + np.array(words, "<u4").tobytes() + rest)
    return path


def test_words_by_hand(tmp_path):
    words = [cd(1, 5, 5, 1), high(2), cd(0, 639, 0, 1), cd(63, 0, 479, 0), high(2), 0xE << 28, high(3), cd(4, 7, 8, 1)]
    with open_events(write(tmp_path, words)) as reader:
        assert (reader.height, reader.width) == (480, 640)
        # The first word comes before any TIME_HIGH: it has no time.
        assert reader.read().tolist() == [(639, 0, 1, 128), (0, 479, 0, 191), (7, 8, 1, 196)]
        assert (reader.first_t, reader.last_t) == (128, 196)
        assert reader.read(129, 196).tolist() == [(0, 479, 0, 191)]
        x, y, p, t = reader.read_columns()
    assert [column.dtype.str for column in (x, y, p, t)] == ["<u2", "<u2", "|i1", "<i8"]


def test_triggers(tmp_path):
    words = [high(1), 0xA << 28 | 3 << 22 | 6 << 8 | 1, cd(5, 1, 1, 0), high(2), 0xA << 28 | 6 << 8]
    with open_events(write(tmp_path, words)) as reader:
        edges = reader.triggers()
        assert [(edge["t"], edge["p"], edge["id"]) for edge in edges] == [(67, 1, 6), (128, 0, 6)]
        assert reader.read()["t"].tolist() == [69]


@pytest.mark.parametrize("span", [900, 90_000, 5_000_000])
def test_round_trip_and_windows(tmp_path, span):
    events = events_at(np.sort(np.random.default_rng(span).integers(1000, 1000 + span, 2 * PART + 5)))
    write_evt2(tmp_path / "a.raw", events, 480, 640)
    assert [path.name for path in tmp_path.iterdir()] == ["a.raw"]
    with open_events(tmp_path / "a.raw") as reader:
        assert np.array_equal(reader.read(), events)
        assert (reader.first_t, reader.last_t) == (events["t"][0], events["t"][-1])
        for t0, t1 in [(0, 1000), (0, 1100), (1100, 1101), (1088, 1152), (1300, 1900), (1700, 10**9), (1800, 1500)]:
            assert np.array_equal(reader.read(t0, t1), between(events, t0, t1))
        assert np.array_equal(reader.read(t0=1500), events[events["t"] >= 1500])


def test_repeated_time_high_words_within_a_window(tmp_path):
    words = [high(1), cd(0, 1, 1, 0), high(1), cd(1, 2, 1, 0), high(1), high(2), cd(0, 3, 1, 0), high(2)]
    with open_events(write(tmp_path, words)) as reader:
        assert reader.read(64, 128)["x"].tolist() == [1, 2]
        assert reader.read(65, 129)["x"].tolist() == [2, 3]
        assert reader.read(64, 65)["x"].tolist() == [1]
        assert reader.read(200, 300).size == 0


def test_many_events_of_one_time(tmp_path):
    events = events_at([100] * (PART + 3) + [500] * 7)
    write_evt2(tmp_path / "a.raw", events, 480, 640)
    with open_events(tmp_path / "a.raw") as reader:
        assert np.array_equal(reader.read(), events)
        assert np.array_equal(reader.read(400, 501), events[-7:])
        assert reader.read(101, 500).size == 0


def test_clock_that_wraps(tmp_path):
    times = [EVT2_PERIOD - 200, EVT2_PERIOD - 1, EVT2_PERIOD, EVT2_PERIOD + 70, EVT2_PERIOD + 10**6]
    write_evt2(tmp_path / "long.raw", events_at(times), 480, 640)
    with open_events(tmp_path / "long.raw") as reader:
        assert reader.read()["t"].tolist() == times
        assert (reader.first_t, reader.last_t) == (times[0], times[-1])
        assert reader.read(EVT2_PERIOD - 1, EVT2_PERIOD + 71)["t"].tolist() == times[1:4]


@pytest.mark.parametrize("words", [[], [high(7)], [cd(1, 1, 1, 1)], [cd(1, 1, 1, 1), high(7), high(8)]])
def test_files_without_events(tmp_path, words):
    with open_events(write(tmp_path, words)) as reader:
        assert reader.first_t is None
        assert reader.last_t is None
        assert reader.read().size == 0
        assert reader.read(0, 1000).size == 0
        assert reader.triggers().size == 0
        assert list(reader.windows(1000)) == []


def test_zero_events_can_be_written(tmp_path):
    write_evt2(tmp_path / "none.raw", events_at([]), 480, 640)
    assert open_events(tmp_path / "none.raw").read().size == 0


def test_sizes_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="height: got 2049, allowed: 1 to 2048"):
        write_evt2(tmp_path / "a.raw", events_at([1]), 2049, 640)
    assert list(tmp_path.iterdir()) == []


def test_the_clock_goes_where_its_words_say(tmp_path):
    words = [high(9), high(4), cd(7, 1, 1, 0), cd(4, 2, 1, 0), high(5), 0xA << 28 | 1 << 22, high(4), cd(9, 3, 1, 0)]
    words += [high(5), cd(0, 4, 1, 0)]
    with open_events(write(tmp_path, words)) as reader:
        assert reader.read()["t"].tolist() == [263, 263, 265, 320]
        assert reader.triggers()["t"].tolist() == [321]
        assert reader.faults == Faults(late=1)
    words = [high(2**28 - 1), cd(0, 1, 1, 0), high(0), cd(3, 1, 1, 0), high(2**28 - 1), cd(1, 2, 1, 0), high(0)]
    with open_events(write(tmp_path, [*words, cd(5, 1, 1, 0)])) as reader:
        assert (reader.read()["t"] - EVT2_PERIOD).tolist() == [-64, 3, 3, 5]
        assert reader.faults == Faults(late=1)
