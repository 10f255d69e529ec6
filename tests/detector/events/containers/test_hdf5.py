import sys

import h5py
import numpy as np
import pytest
from ecf_encoder import ECF, encode, write_chunks

from detector.events import EventCD, EventExtTrigger, Faults, open_events, write_hdf5
from detector.events.blocks import RECENT
from detector.events.containers import hdf5
from detector.events.reader import CHUNK

HEIGHT, WIDTH = 10, 20


def make_events(count, seed=0, end=100_000):
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EventCD)
    events["t"] = 5000 + np.sort(rng.integers(0, end, count))
    events["x"] = rng.integers(0, WIDTH, count)
    events["y"] = rng.integers(0, HEIGHT, count)
    events["p"] = rng.integers(0, 2, count)
    return events


def write_ecf(path, events, size, mask=0):
    parts = [events[start : start + size] for start in range(0, events.size, size)]
    chunks = [(mask, part.tobytes() if mask else encode(part, index % 3)) for index, part in enumerate(parts)]
    return write_chunks(path, chunks, events.size, size)


def write_columns(path, events, group="events", **filters):
    with h5py.File(path, "w") as file:
        for name in "xypt":
            file.create_dataset(f"{group}/{name}", data=events[name], **filters)
    return path


def check(reader, events):
    assert (reader.first_t, reader.last_t) == (events["t"][0], events["t"][-1])
    assert np.array_equal(reader.read(), events)
    for t0, t1 in [(0, 5000), (20_000, 30_000), (30_000, 20_000), (7000, 7000), (104_000, 10**9), (None, 40_000)]:
        wanted = events[(events["t"] >= (t0 or 0)) & (events["t"] < t1)]
        assert np.array_equal(reader.read(t0, t1), wanted)
    assert np.array_equal(np.concatenate([part for _, part in reader.windows(700)]), events)
    assert np.array_equal(np.concatenate(list(reader.batches(333))), events)


def test_round_trip(tmp_path):
    events = make_events(2 * CHUNK + 13)
    write_hdf5(tmp_path / "a", events, HEIGHT, WIDTH)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with open_events(tmp_path / "a") as reader:
        assert (reader.height, reader.width) == (HEIGHT, WIDTH)
        check(reader, events)
        assert reader.triggers().size == 0
        assert [column.dtype.str for column in reader.read_columns()] == ["<u2", "<u2", "|i1", "<i8"]


def test_any_field_order_can_be_written(tmp_path):
    events = make_events(5)
    other = np.zeros(5, [("t", ">i8"), ("p", "u1"), ("x", "<i4"), ("y", "<u2")])
    for name in "xypt":
        other[name] = events[name]
    write_hdf5(tmp_path / "a", other, HEIGHT, WIDTH)
    assert np.array_equal(open_events(tmp_path / "a").read(), events)


def test_the_layout_of_openeb_by_hand(tmp_path):
    # Periods of 2 ms from 100 on: [100, 2100) events 0 and 1, [2100, 4100) and [4100, 6100) none, [6100, 8100) event 2.
    events = np.array([(1, 2, 1, 100), (3, 4, 0, 2099), (5, 6, 1, 6100)], EventCD)
    write_hdf5(tmp_path / "a", events, HEIGHT, WIDTH)
    with h5py.File(tmp_path / "a") as file:
        assert dict(file.attrs) == {"version": "1.0", "geometry": "20x10"}
        assert file["CD/events"][:].tolist() == [(1, 2, 1, 100), (3, 4, 0, 2099), (5, 6, 1, 6100)]
        assert file["CD/indexes"][:].tolist() == [(0, -1), (0, 0), (0, 0), (0, 0), (2, 6000)]
        assert file["CD/indexes"].attrs["offset"] == "-100"
        assert file["EXT_TRIGGER/events"].shape == file["EXT_TRIGGER/indexes"].shape == (0,)


@pytest.mark.parametrize("size", [1, 7, 100, 1000, 4096])
@pytest.mark.parametrize("mask", [0, 1])
def test_ecf_chunks_in_all_layouts_and_chunks_left_uncompressed(tmp_path, size, mask):
    events = make_events(1000 if size > 1 else 40)
    if mask and events.size % size:
        events = events[: events.size // size * size]  # HDF5 stores whole chunks
    if events.size:
        check(open_events(write_ecf(tmp_path / "a", events, size, mask)), events)


def test_a_last_ecf_chunk_that_was_filled_up(tmp_path):
    events = make_events(6)
    full = np.concatenate([events[4:], events[-1:], events[-1:]])
    path = write_chunks(tmp_path / "a", [(0, encode(events[:4], 0)), (0, encode(full, 1))], 6, 4)
    check(open_events(path), events)


def test_a_window_reads_its_own_chunks_only(tmp_path, monkeypatch):
    events = make_events(1 << 12)
    events["t"] = np.arange(1 << 12)
    decoded = []
    monkeypatch.setattr(hdf5, "decode", lambda *args, real=hdf5.decode: decoded.append(real(*args)))
    with open_events(write_ecf(tmp_path / "a", events, 16)) as reader:
        assert reader.read(1000, 1040)["t"].tolist() == list(range(1000, 1040))
        assert len(decoded) == 3  # chunks 62 (from event 992 on), 63 and 64
        reader.read(1040, 1045)
        assert len(decoded) == 4
        reader.read()
        assert len(reader._recent) <= RECENT


def test_the_index_saves_looks_and_cannot_mislead(tmp_path, monkeypatch):
    events = make_events(1000)
    write_ecf(tmp_path / "a", events, 10)
    write_hdf5(tmp_path / "b", events, HEIGHT, WIDTH)
    looks = []
    monkeypatch.setattr(hdf5, "first_time", lambda *args, real=hdf5.first_time: looks.append(args) or real(*args))

    def counted():
        looks.clear()
        with open_events(tmp_path / "a") as reader:
            assert np.array_equal(reader.read(60_000), events[events["t"] >= 60_000])
        return len(looks)

    bisection = counted()
    with h5py.File(tmp_path / "a", "r+") as file, h5py.File(tmp_path / "b") as other:
        file["CD/indexes"] = other["CD/indexes"][:]
        file["CD/indexes"].attrs["offset"] = other["CD/indexes"].attrs["offset"]
    assert counted() <= 4 < bisection
    with open_events(tmp_path / "a") as reader:
        check(reader, events)
    for offset, ids in (("0", 0), ("-5000", 1 << 63), ("none", 0)):
        with h5py.File(tmp_path / "a", "r+") as file:
            file["CD/indexes"].attrs["offset"] = offset
            file["CD/indexes"]["id"] = np.full(file["CD/indexes"].shape, ids, np.uint64)
        with open_events(tmp_path / "a") as reader:
            check(reader, events)


@pytest.mark.parametrize(
    "filters", [{}, {"chunks": (64,)}, {"compression": "gzip"}, {"compression": "lzf", "shuffle": True}]
)
def test_separate_columns(tmp_path, filters):
    events = make_events(1000)
    check(open_events(write_columns(tmp_path / "a", events, **filters), HEIGHT, WIDTH), events)
    check(open_events(write_columns(tmp_path / "a", events, "/", **filters), HEIGHT, WIDTH), events)


def test_dsec_offset_and_rvt_sizes(tmp_path):
    path = write_columns(tmp_path / "a", np.array([(1, 2, 1, 5), (3, 4, 0, 6)], EventCD))
    with h5py.File(path, "r+") as file:
        file["t_offset"] = 1 << 40
        file["events/height"], file["events/width"] = HEIGHT, WIDTH
        del file["events/t"], file["events/p"]
        file["events/t"] = np.array([5, 6], np.uint32)
        file["events/p"] = np.array([1, -1], np.int8)
    with open_events(path) as reader:
        assert (reader.height, reader.width, reader.first_t) == (HEIGHT, WIDTH, (1 << 40) + 5)
        assert reader.read().tolist() == [(1, 2, 1, (1 << 40) + 5), (3, 4, 0, (1 << 40) + 6)]


def test_geometry_is_read_or_asked_for(tmp_path):
    events = make_events(3)
    path = write_columns(tmp_path / "a", events)
    with pytest.raises(ValueError, match="a: the header contains no sensor size, give height and width"):
        open_events(path)
    for attributes in ({"geometry": b"20x10"}, {"Width": 20, "Height": 10}, {"format": "EVT3;height=10;width=20"}):
        with h5py.File(write_columns(path, events), "r+") as file:
            file.attrs.update(attributes)
        assert (open_events(path).height, open_events(path).width) == (HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="got 10, 21, allowed: those of the header, 10, 20"):
        open_events(path, 10, 21)


def test_triggers(tmp_path):
    write_hdf5(tmp_path / "a", make_events(3), HEIGHT, WIDTH)
    edges = np.array([(1, 40, 0), (0, 50, 0)], EventExtTrigger)
    with h5py.File(tmp_path / "a", "r+") as file:
        del file["EXT_TRIGGER/events"]
        file["EXT_TRIGGER/events"] = edges
    assert np.array_equal(open_events(tmp_path / "a").triggers(), edges)
    assert open_events(write_columns(tmp_path / "b", make_events(3)), HEIGHT, WIDTH).triggers().size == 0


def test_zero_events(tmp_path):
    write_hdf5(tmp_path / "a", make_events(0), HEIGHT, WIDTH)
    for path in (tmp_path / "a", write_ecf(tmp_path / "b", make_events(0), 16)):
        with open_events(path) as reader:
            assert reader.first_t is None and reader.last_t is None
            assert reader.read().size == reader.read(0, 100).size == 0
            assert list(reader.windows(50_000)) == list(reader.batches(5)) == []


def test_closed(tmp_path):
    write_hdf5(tmp_path / "a", make_events(3), HEIGHT, WIDTH)
    with open_events(tmp_path / "a") as reader:
        pass
    for use in (reader.read, reader.triggers, lambda: reader.first_t, lambda: reader.last_t):
        with pytest.raises(ValueError, match="a: the reader is closed"):
            use()


def write_records(path, events, **filters):
    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = f"{WIDTH}x{HEIGHT}"
        file.create_dataset("CD/events", data=events, **filters)
    return path


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((1, "p"), 2, "p up to 2, allowed: 0 or -1"),
        ((1, "p"), -2, "p down to -2"),
    ],
)
def test_broken_events(tmp_path, place, value, message):
    events = np.zeros(3, EventCD)
    events["t"] = 5
    events[place[1]][place[0]] = value
    with pytest.raises(ValueError, match=f"a: {message}"):
        open_events(write_records(tmp_path / "a", events)).read()


def test_broken_ecf_events(tmp_path):
    events = make_events(8)
    events["t"] = [5, 6, 7, 8, 4, 5, 6, 9]
    with open_events(write_ecf(tmp_path / "a", events, 4)) as reader:
        assert reader.read()["t"].tolist() == [5, 6, 7, 8, 8, 8, 8, 9]
        assert reader.faults == Faults(late=1, raised=2)
    events = make_events(8)
    for chunk in (encode(events[:3], 0), encode(events[:5], 0), encode(events[:4], 0)[:-1], b"abc"):
        path = write_chunks(tmp_path / "a", [(0, encode(events[:4], 2)), (0, chunk)], 8, 4)
        with pytest.raises(ValueError, match="a: corrupt ECF chunk"):
            open_events(path, HEIGHT, WIDTH).read(events["t"][4])
    path = write_chunks(tmp_path / "a", [(0, encode(make_events(4), 2)), (1, bytes(55))], 8, 4)
    with pytest.raises(ValueError, match="a: chunk of 55 bytes, allowed: 56"):
        open_events(path).read()
    path = write_chunks(tmp_path / "a", [(0, encode(make_events(4), 2))], 8, 4)
    with pytest.raises(ValueError, match="a: HDF5 cannot be read: .*chunk"):
        open_events(path).read()


def test_files_that_are_no_recordings(tmp_path):
    path = tmp_path / "a"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((2, 3, 4, 5))
    with pytest.raises(ValueError, match="a: /: no events: found data; required: x, y, p|polarity|pol, t"):
        open_events(path, 10, 20)
    write_records(path, np.zeros(3, [("x", "u2"), ("y", "u2"), ("t", "i8")]))
    with pytest.raises(ValueError, match="a: CD/events: no events: found x, y, t; required"):
        open_events(path)
    write_records(path, np.zeros((3, 2), EventCD))
    with pytest.raises(ValueError, match=r"a: x, y, p, t have shapes \{\(3, 2\)\}, allowed: the same shape \(N,\)"):
        open_events(path)
    with h5py.File(write_columns(path, make_events(3)), "r+") as file:
        del file["events/t"]
        file["events/t"] = np.array([0.5, 1, 2, 3])
    with pytest.raises(ValueError, match="a: x, y, p, t have shapes"):
        open_events(path)


@pytest.mark.parametrize("place", ["columns", "records"])
def test_seconds_are_rounded_to_microseconds(tmp_path, place):
    path, events = tmp_path / "a", make_events(4)
    seconds = np.array([0.000_000_6, 0.1, 0.3, 1.000_001_4])
    assert (seconds * 1e6).astype(int).tolist() != [1, 100_000, 300_000, 1_000_001]
    if place == "columns":
        with h5py.File(write_columns(path, events), "r+") as file:
            del file["events/t"]
            file["events/t"] = seconds
    else:
        records = np.zeros(4, [("x", "u2"), ("y", "u2"), ("p", "i1"), ("t", "f8")])
        records["t"] = seconds
        write_records(path, records)
    with open_events(path, HEIGHT, WIDTH) as reader:
        assert reader.read()["t"].tolist() == [1, 100_000, 300_000, 1_000_001]
        assert reader.read(300_000, 300_001).size == 1


@pytest.mark.parametrize("kind", ["link", "external", "virtual"])
def test_what_leads_out_of_the_file_is_refused(tmp_path, kind):
    write_columns(tmp_path / "other", make_events(4))
    with h5py.File(write_columns(tmp_path / "a", make_events(4)), "r+") as file:
        del file["events/t"]
        if kind == "link":
            file["events/t"] = h5py.ExternalLink(str(tmp_path / "other"), "events/t")
        elif kind == "external":
            file.create_dataset("events/t", (4,), "i8", external=[(str(tmp_path / "other"), 0, 32)])
        else:
            layout = h5py.VirtualLayout((4,), "i8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other"), "events/t", shape=(4,))
            file.create_virtual_dataset("events/t", layout)
    with pytest.raises(ValueError, match="a: events/t is .* of another file, allowed: data in the file itself"):
        open_events(tmp_path / "a", HEIGHT, WIDTH)


def test_truncated_and_damaged_files(tmp_path):
    write_hdf5(tmp_path / "a", make_events(9000), HEIGHT, WIDTH)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="a: not a complete HDF5 file: .*truncated .*; does another process"):
        open_events(tmp_path / "a")
    with h5py.File(tmp_path / "b", "w") as file:
        file.attrs["geometry"] = "20x10"
        file.create_dataset("CD/events", data=make_events(9000), compression="gzip", chunks=(9000,))
        start = file["CD/events"].id.get_chunk_info(0).byte_offset
    damaged = bytearray((tmp_path / "b").read_bytes())
    damaged[start + 100 : start + 200] = bytes(100)
    (tmp_path / "b").write_bytes(damaged)
    with pytest.raises(ValueError, match="b: HDF5 cannot be read: "):
        open_events(tmp_path / "b").read()


def test_filters_that_are_not_here(tmp_path, monkeypatch):
    events = make_events(4)
    path = write_ecf(tmp_path / "a", events, 4)
    monkeypatch.setattr(hdf5, "ECF", ECF + 1)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(
        ValueError, match=rf"a: /CD/events is compressed by HDF5 filters \[{ECF}\], .*: pip install hdf5plugin"
    ):
        open_events(path)


@pytest.mark.parametrize("change", ["xx", "nothing"])
def test_writing_what_cannot_be_written(tmp_path, change):
    events = make_events(3)
    events["x"][1] = WIDTH if change == "xx" else 0
    if change == "nothing":
        events = np.zeros(3)
    with pytest.raises(ValueError, match="events: "):
        write_hdf5(tmp_path / "a", events, HEIGHT, WIDTH)
    assert list(tmp_path.iterdir()) == []
