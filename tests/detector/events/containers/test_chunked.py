from pathlib import Path

import numpy as np
import pytest

from detector.events import EventCD, Faults, open_events
from detector.events.containers import chunked
from detector.events.containers.chunked import BlockReader, has_fraction, to_microseconds
from detector.events.reader import CHUNK

HEIGHT, WIDTH = 240, 320


class Blocks(BlockReader):
    """Events at pixel (k % 7, 0), in blocks of 4; it keeps the starts of the blocks that it loads."""

    hint = ()

    def __init__(self, times):
        self.times, self.loaded = np.array(times, np.int64), []
        super().__init__(Path("a"), HEIGHT, WIDTH, self.times.size, 4)

    def _load(self, start, out):
        self.loaded.append(start)
        t = self.times[start : start + out[0].size]
        self._store([np.arange(start, start + t.size) % 7, t * 0, t * 0, t], out)

    def _time(self, start):
        return int(self.times[start])

    def _likely(self, time):
        return list(self.hint)


@pytest.fixture
def _never_small(monkeypatch):
    """Recordings of any size are searched, and not read whole first."""
    monkeypatch.setattr(BlockReader, "_is_small", lambda reader: False)


def test_times_with_a_fraction_are_found_in_the_first_chunk_only():
    assert has_fraction(np.array([1.0, 2.5]))
    assert not has_fraction(np.array([1.0, 2.0])) and not has_fraction(np.array([1, 2]))
    assert not has_fraction(np.array([1.0, np.inf, np.nan])) and not has_fraction(np.zeros(0))
    assert not has_fraction(np.append(np.zeros(CHUNK), 0.5)) and has_fraction(np.append(np.zeros(CHUNK - 1), 0.5))


def test_floats_become_whole_microseconds():
    assert to_microseconds("a", np.array([0.25, 1.7500004]), True).tolist() == [250_000, 1_750_000]
    assert to_microseconds("a", np.array([3.0, 7.0], np.float32), False).tolist() == [3, 7]
    assert to_microseconds("a", np.array([2.0]), True).dtype == np.int64
    whole = np.array([3, 7], np.uint32)
    assert to_microseconds("a", whole, True) is whole
    with pytest.raises(ValueError, match="^a: t is -inf, allowed: finite times"):
        to_microseconds("a", np.array([0.5, -np.inf]), True)


@pytest.mark.usefixtures("_never_small")
@pytest.mark.parametrize("hint", [(), (0,), (9,), (5, 6, 7)])
def test_every_window_is_found_whatever_an_index_suggests(hint):
    times = np.array([3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5, 5, 8, 9, 9, 12, 20, 20, 21, 21, 21, 30, 31])
    for t0 in range(2, 33):
        for t1 in range(t0, 33):
            reader = Blocks(times)
            reader.hint = hint
            x, _, _, t = reader.read_columns(t0, t1)
            wanted = np.flatnonzero((times >= t0) & (times < t1))
            assert np.array_equal(t, times[wanted]) and np.array_equal(x, wanted % 7)


@pytest.mark.usefixtures("_never_small")
def test_a_window_loads_its_own_blocks_only():
    reader = Blocks(np.arange(0, 4000, 10))  # 100 blocks, one per 40 us
    assert reader.read(1205, 1330)["t"].tolist() == list(range(1210, 1330, 10))
    assert set(reader.loaded) == {120, 124, 128, 132}
    reader.loaded.clear()
    assert reader.read(1210, 1230)["t"].tolist() == [1210, 1220]
    assert reader.loaded == []  # a block of which only a part was read is kept


def test_a_small_recording_is_read_whole_before_its_first_search():
    small, large = (Blocks(np.arange(chunked.RECENT * 4 + extra)) for extra in (0, 1))
    for reader in (small, large):
        reader.read(0, 1)
    assert set(small.loaded) == {0, 4, 8, 12} and set(large.loaded) == {0}


@pytest.mark.usefixtures("_never_small")
@pytest.mark.parametrize("times", [[2, 3, 5, 7, 11], [2, 3, 5, 7], [2, 3]])
def test_the_first_and_last_time_need_one_block_each(times):
    reader = Blocks(times)
    assert (reader.first_t, reader.last_t) == (2, times[-1])
    assert set(reader.loaded) == {0, (len(times) - 1) // 4 * 4}


@pytest.mark.usefixtures("_never_small")
def test_times_out_of_order_lead_to_the_mended_recording():
    times = np.arange(0, 400, 10)
    times[21] = 180  # one event late, in the middle
    reader = Blocks(times)
    assert reader.read(190, 230)["t"].tolist() == [190, 200, 200, 220]
    assert reader.faults == Faults(late=1)
    times[20] = 3950  # the first time of a block is wrong, so a search is misled
    times[21] = 210
    reader = Blocks(times)
    assert reader.read(190, 230)["t"].tolist() == [190, 210, 220]
    assert reader.faults == Faults(ahead=1)


def test_batches_end_when_the_reader_is_closed():
    reader = Blocks(np.arange(4000))
    batches = reader.batches(4)
    assert next(batches)["t"].tolist() == [0, 1, 2, 3]
    reader.close()
    with pytest.raises(ValueError, match="a: the reader is closed"):
        list(batches)


def test_windows_over_several_blocks_of_a_file(tmp_path):
    rng = np.random.default_rng(0)
    events = np.zeros(2 * CHUNK + 5, EventCD)
    events["t"] = np.sort(rng.integers(0, 10**6, events.size))
    events["x"], events["p"] = rng.integers(0, WIDTH, events.size), rng.integers(0, 2, events.size)
    np.save(tmp_path / "a.npy", events)
    with open_events(tmp_path / "a.npy", HEIGHT, WIDTH) as reader:
        assert (reader.first_t, reader.last_t) == (events["t"][0], events["t"][-1])
        assert np.array_equal(reader.read(), events)
        for t0, t1 in [(0, 10), (400_000, 600_000), (999_000, 10**9), (500, 400)]:
            assert np.array_equal(reader.read(t0, t1), events[(events["t"] >= t0) & (events["t"] < t1)])
        assert np.array_equal(np.concatenate(list(reader.batches(50_000))), events)
        assert reader.triggers().size == 0
