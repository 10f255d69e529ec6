from pathlib import Path

import numpy as np
import pytest
from event_samples import between, events_at

from detector.events import Faults
from detector.events.packets import packet_reader
from detector.events.packets.packet_reader import PacketReader


class Packets(PacketReader):
    """Packets in memory."""

    def __init__(self, *packets, index=False):
        super().__init__(Path("a"), 480, 640, len(packets))
        self.packets, self.index, self.decoded = packets, index, []

    def _is_small(self):
        return False

    def _load_block(self, number, buffer):
        self.decoded.append(number)
        return tuple(self.packets[number][name] for name in "xypt")

    def _indexed_time(self, number):
        return int(self.packets[number]["t"][0]) if self.index else None


def packets(*times):
    return [events_at(np.array(part, np.int64)) for part in times]


@pytest.mark.parametrize("index", [False, True])
def test_every_window_of_every_packet(index):
    parts = packets([5, 5], [5], [5, 7, 9], [12], [12, 12], [12, 20])
    whole = np.concatenate(parts)
    for t0 in (None, *range(3, 23)):
        for t1 in (None, *range(3, 23)):
            found = Packets(*parts, index=index).read(t0, t1)
            assert np.array_equal(found, between(whole, t0 or 0, 99 if t1 is None else t1)), (t0, t1)


def test_a_window_decodes_its_own_packets_if_there_is_an_index():
    parts = packets(*([100 * k, 100 * k + 99] for k in range(100)))
    reader = Packets(*parts, index=True)
    assert reader.read(5000, 5200)["t"].tolist() == [5000, 5099, 5100, 5199]
    assert reader.decoded == [49, 50, 51]
    reader = Packets(*parts)
    assert reader.read(5000, 5200)["t"].tolist() == [5000, 5099, 5100, 5199]
    assert len(reader.decoded) < 16, "bisection"


def test_neighbouring_windows_decode_a_packet_once():
    reader = Packets(*packets(range(0, 100), range(100, 200)), index=True)
    for start in range(0, 200, 10):
        assert reader.read(start, start + 10)["t"].tolist() == list(range(start, start + 10))
    assert reader.decoded == [0, 1]


def test_empty_packets_are_anywhere():
    reader = Packets(*packets([], [5], [], [], [9], []))
    assert reader.read()["t"].tolist() == [5, 9]
    assert (reader.first_t, reader.last_t) == (5, 9)
    assert reader.read(6, 10)["t"].tolist() == [9] and reader.read(9)["t"].tolist() == [9]
    assert reader.read(0, 6)["t"].tolist() == [5] and reader.read(10, 20).size == 0
    nothing = Packets(*packets([], []))
    assert (nothing.read().size, nothing.first_t, nothing.last_t) == (0, None, None)


@pytest.mark.parametrize("index", [False, True])
def test_packets_out_of_order_are_mended(index):
    parts = packets([10, 20], [15, 30], [40, 50])  # 15 is late
    for t0, t1 in ((None, None), (0, 25), (12, 25)):
        reader = Packets(*parts, index=index)
        reader.max_faulty_events = 0.5
        expected = np.array([10, 20, 20, 30, 40, 50])
        assert reader.read(t0, t1)["t"].tolist() == [t for t in expected if (t0 or 0) <= t < (t1 or 99)]
        assert reader.faults == Faults(late=1)


def test_a_closed_reader_reads_nothing():
    reader = Packets(*packets([5]))
    reader.close()
    with pytest.raises(ValueError, match="the reader is closed"):
        reader.read()


def test_small_files_are_those_of_few_bytes(tmp_path, monkeypatch):
    reader = Packets()
    reader.path = tmp_path / "a"
    reader.path.write_bytes(bytes(9))
    for limit, small in ((9, True), (8, False)):
        monkeypatch.setattr(packet_reader, "SMALL", limit)
        assert PacketReader._is_small(reader) is small
