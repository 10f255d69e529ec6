import os

import numpy as np
import pytest
from event_samples import EVT2_HEADER, EVT3_HEADER, between, events_at, evt21_bytes, evt21_header

from detector.events import open_events, write_dat, write_evt2, write_evt3
from detector.events.arrays import ColumnBuffer
from detector.events.prophesee.evt3 import Evt3Reader
from detector.events.prophesee.fixed_size import CHUNK_BYTES
from detector.events.write import in_parts

HUGE = 5 << 30
HEADERS = {
    "DAT": b"% Version 2\n% Height 480\n% Width 640\n\x0c\x08",
    "EVT2": EVT2_HEADER,
    "EVT2.1": evt21_header("little"),
    "EVT3": EVT3_HEADER,
}


@pytest.fixture
def bytes_read(monkeypatch):
    """Sizes of all readings by position."""
    sizes = []
    preadv = os.preadv

    def counted(file, buffers, place):
        sizes.append(preadv(file, buffers, place))
        return sizes[-1]

    monkeypatch.setattr(os, "preadv", counted)
    return sizes


@pytest.mark.parametrize("name", HEADERS)
def test_a_huge_file_opens_without_being_read(tmp_path, bytes_read, name):
    path = tmp_path / "a"
    path.write_bytes(HEADERS[name])
    os.truncate(path, len(HEADERS[name]) + HUGE)
    with open_events(path):
        assert sum(bytes_read) <= 1 << 16


def test_a_window_of_a_huge_file_costs_its_own_bytes(tmp_path, bytes_read):
    path = tmp_path / "a"
    path.write_bytes(HEADERS["DAT"])
    os.truncate(path, len(HEADERS["DAT"]) + HUGE)
    with path.open("ab") as file:
        file.write(np.array([[7, 3], [9, 4]], "<u4").tobytes())
    with open_events(path) as reader:
        assert reader.first_t == 0
        assert reader.read(1, 10).tolist() == [(3, 0, 0, 7), (4, 0, 0, 9)]
        assert sum(bytes_read) < HUGE // 300
        assert reader.last_t == 9


@pytest.mark.parametrize(
    ("write", "most"),
    # EVT3 begins earlier by what its clock may fall and looks ahead for what sets rows; its TIME_HIGH words are rare.
    [(write_dat, 180_000), (write_evt2, 180_000), (write_evt3, 700_000)],
)
def test_a_window_costs_its_own_bytes(tmp_path, bytes_read, write, most):
    events = events_at(np.arange(1_200_000))
    write(tmp_path / "a", events, 480, 640)
    with open_events(tmp_path / "a") as reader:
        reader.read(0, 1)
        bytes_read.clear()
        assert reader.read(200_000, 210_000)["t"].tolist() == list(range(200_000, 210_000))
    assert sum(bytes_read) < most < (tmp_path / "a").stat().st_size / 10


@pytest.mark.parametrize("write", [write_dat, write_evt2, write_evt3])
def test_batches_hold_little_memory(tmp_path, write, monkeypatch):
    events = events_at(np.arange(300_000))
    write(tmp_path / "a", events, 480, 640)
    taken = []
    take = ColumnBuffer.take
    monkeypatch.setattr(
        ColumnBuffer, "take", lambda self, count, keep=0: taken.append(count) or take(self, count, keep)
    )
    with open_events(tmp_path / "a") as reader:
        batches = list(reader.batches(70_000))
        assert max(taken) <= reader.most_events * CHUNK_BYTES // reader.record.itemsize
    assert [len(batch) for batch in batches] == [70_000] * 4 + [20_000]
    assert np.array_equal(np.concatenate(batches), events)


def test_a_file_that_shrinks_gives_an_error(tmp_path):
    write_dat(tmp_path / "a", events_at(range(1000)), 480, 640)
    with open_events(tmp_path / "a") as reader:
        os.truncate(tmp_path / "a", 4000)
        with pytest.raises(ValueError, match="a: read 3927 of 4096 bytes, allowed: an unchanged file"):
            reader.read()


def test_more_events_than_words(tmp_path):
    # Full vectors hold more events than there is room for at first, and the room grows while decoding.
    words = np.tile(np.array([0x3000, *[0x4FFF] * 50], "<u2"), 30_000)
    (tmp_path / "a").write_bytes(EVT3_HEADER + np.array([0x8001, 0x0003], "<u2").tobytes() + words.tobytes())
    with open_events(tmp_path / "a") as reader:
        assert isinstance(reader, Evt3Reader)
        x, y, p, t = reader.read_columns()
    assert x.size == 30_000 * 600
    assert np.array_equal(x.reshape(-1, 600), np.broadcast_to(np.arange(600), (30_000, 600)))
    assert (set(np.unique(y)), set(np.unique(p)), set(np.unique(t))) == ({3}, {0}, {4096})


def test_parts_of_events_with_other_fields():
    fields = [("t", "<u4"), ("p", "?"), ("y", "<i4"), ("x", "<i8")]
    events = np.array([(7, True, 2, 1), (8, False, 4, 3)], fields)
    ((x, y, p, t),) = in_parts(events)
    assert [column.tolist() for column in (x, y, p, t)] == [[1, 3], [2, 4], [1, 0], [7, 8]]
    assert [column.dtype.str for column in (x, y, p, t)] == ["<u2", "<u2", "|i1", "<i8"]


def test_sample_words_of_evt21_are_themselves_right(tmp_path):
    events = events_at([5, 5, 70])
    (tmp_path / "a").write_bytes(evt21_header("legacy") + evt21_bytes(events, "legacy"))
    assert np.array_equal(open_events(tmp_path / "a").read(), events)


@pytest.mark.parametrize("write", [write_dat, write_evt2])
def test_memory_that_is_used_again(tmp_path, write):
    events = events_at(range(1000, 9000))
    write(tmp_path / "a", events, 480, 640)
    out = ColumnBuffer()
    with open_events(tmp_path / "a") as reader:
        first = reader.read_columns(out=out)
        assert np.array_equal(first[3], events["t"])
        again = reader.read_columns(2000, 3000, out)
    assert all(np.shares_memory(*pair) for pair in zip(first, again, strict=True))
    assert np.array_equal(again[0], between(events, 2000, 3000)["x"])
