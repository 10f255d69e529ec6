import numpy as np
import pytest

from detector.events import EventCD, open_events, write_dat, write_evt2, write_evt3, write_hdf5

EVENTS = np.array([(1, 2, 1, 130), (3, 4, 0, 170), (5, 6, 1, 350)], EventCD)


@pytest.mark.parametrize("write", [write_dat, write_evt2, write_evt3, write_hdf5])
def test_the_ending_does_not_matter(tmp_path, write):
    write(tmp_path / "a.txt", EVENTS, 10, 20)
    with open_events(tmp_path / "a.txt") as reader:
        assert (reader.height, reader.width) == (10, 20)
        assert np.array_equal(reader.read(), EVENTS)


def test_a_format_without_a_reader_is_named(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"% evt 4.0\n% end\n")
    with pytest.raises(ValueError, match=r"a.raw: the format is EVT 4.0, readable are: DAT, EVT2, EVT2.1, EVT3, HDF5"):
        open_events(tmp_path / "a.raw")


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


def test_sizes_given_must_agree_with_the_header(tmp_path):
    write_dat(tmp_path / "a", EVENTS, 10, 20)
    assert open_events(tmp_path / "a", height=10, width=20).width == 20
    with pytest.raises(ValueError, match="height, width: got 10, 21, the header says 10, 20"):
        open_events(tmp_path / "a", height=10, width=21)
    (tmp_path / "b").write_bytes(b"% Version 2\n\x0c\x08")
    with pytest.raises(ValueError, match="height, width: got 0, 5, allowed: at least 1"):
        open_events(tmp_path / "b", height=0, width=5)


@pytest.mark.parametrize("write", [write_dat, write_evt2, write_evt3])
def test_a_closed_reader_says_so_and_arrays_live_on(tmp_path, write):
    write(tmp_path / "a", EVENTS, 10, 20)
    with open_events(tmp_path / "a") as reader:
        events = reader.read()
    assert np.array_equal(events, EVENTS)
    with pytest.raises(ValueError, match="the reader is closed"):
        reader.read()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_dat(tmp_path / "a", EVENTS, 10, 20)
    with pytest.raises(ValueError, match="x runs from"):
        write_dat(tmp_path / "a", EVENTS, 10, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert np.array_equal(open_events(tmp_path / "a").read(), EVENTS)
