from pathlib import Path

import numpy as np
import pytest

from detector.events import ArrayReader, EventCD, Faults, open_events, write_dat, write_evt2, write_evt3, write_hdf5
from detector.events.reader import CHUNK, to_events

EVENTS = np.array([(1, 2, 1, 130), (3, 4, 0, 170), (5, 6, 1, 350)], EventCD)


@pytest.mark.parametrize("write", [write_dat, write_evt2, write_evt3, write_hdf5])
def test_windows(tmp_path, write):
    write(tmp_path / "a", EVENTS, 10, 20)
    with open_events(tmp_path / "a") as reader:
        steps = [(start, events["t"].tolist()) for start, events in reader.windows(100)]
        assert steps == [(100, [130, 170]), (200, []), (300, [350])]
        steps = [(start, events["t"].tolist()) for start, events in reader.windows(100, t0=150, t1=351)]
        assert steps == [(150, [170]), (250, []), (350, [350])]
        assert [len(events) for _, events in reader.windows(100, t0=250, t1=350)] == [0]
        with pytest.raises(ValueError, match="delta_t: got 0, allowed: at least 1"):
            reader.windows(0)


@pytest.mark.parametrize("write", [write_dat, write_evt2, write_evt3])
def test_a_closed_reader_says_so_and_arrays_live_on(tmp_path, write):
    write(tmp_path / "a", EVENTS, 10, 20)
    with open_events(tmp_path / "a") as reader:
        events = reader.read()
    assert np.array_equal(events, EVENTS)
    with pytest.raises(ValueError, match="the reader is closed"):
        reader.read()


@pytest.mark.parametrize("write", [write_dat, write_evt2, write_evt3, write_hdf5])
def test_windows_begin_at_a_multiple_of_their_length_or_where_they_are_told(tmp_path, write):
    write(tmp_path / "a", EVENTS, 10, 20)
    with open_events(tmp_path / "a") as reader:
        assert [start for start, _ in reader.windows(70)] == [70, 140, 210, 280, 350]
        assert [start for start, _ in reader.windows(70, t0=100)] == [100, 170, 240, 310]
        assert [start for start, _ in reader.windows(70, t1=211)] == [70, 140, 210]


@pytest.mark.parametrize("write", [write_dat, write_evt2, write_evt3, write_hdf5])
def test_batches_have_their_number_of_events(tmp_path, write):
    write(tmp_path / "a", EVENTS, 10, 20)
    with open_events(tmp_path / "a") as reader:
        assert [batch["t"].tolist() for batch in reader.batches(2)] == [[130, 170], [350]]
        assert [batch["t"].tolist() for batch in reader.batches(3)] == [[130, 170, 350]]
        with pytest.raises(ValueError, match="count: got 0, allowed: at least 1 event"):
            reader.batches(0)


def test_a_batch_is_not_overwritten_by_the_next(tmp_path):
    write_dat(tmp_path / "a", EVENTS, 10, 20)
    with open_events(tmp_path / "a") as reader:
        assert [batch["x"].tolist() for batch in list(reader.batches(1))] == [[1], [3], [5]]


def test_columns_become_structs():
    columns = [np.arange(CHUNK + 3) % top for top in (50, 40, 2, 10**6)]
    events = to_events(tuple(columns))
    assert events.dtype == EventCD and events.size == CHUNK + 3
    assert all(np.array_equal(events[name], column) for name, column in zip("xypt", columns, strict=True))


def test_a_recording_with_too_many_faulty_events_is_refused_and_the_limit_can_be_raised():
    t = np.arange(0, 3000, 10)
    t[np.arange(5, 300, 24)] -= 15  # 13 events earlier than the one before
    zeros = np.zeros(t.size, np.int8)
    reader = ArrayReader(Path("a"), (zeros, zeros, zeros, t), 1, 1)
    with pytest.raises(ValueError, match="^a: 13 of 300 events are faulty: 13 late .*, allowed: 10"):
        reader.read()
    reader = ArrayReader(Path("a"), (zeros, zeros, zeros, t), 1, 1)
    reader.max_faulty_events = 0.05  # of 300: 15
    assert reader.faults == Faults(late=13) and np.array_equal(reader.read()["t"], np.maximum.accumulate(t))


def test_formats_without_triggers_and_images_have_none_of_them(tmp_path):
    write_dat(tmp_path / "a", EVENTS, 10, 20)
    with open_events(tmp_path / "a") as reader:
        assert reader.triggers().shape == reader.frame_times().shape == (0,)
        assert reader.frame_times().dtype == np.int64
