import builtins
import sys

import numpy as np
import pytest
from aedat4_samples import aedat4, event_file, event_packet, frame_packet
from event_samples import between, events_at

from detector.events import Faults, open_events

START = 1_600_000_000_000_000
SIZE = ("EVTS", 640, 480)


def sample(count=3000, seed=0):
    rng = np.random.default_rng(seed)
    events = events_at(START + np.sort(rng.integers(0, 1_000_000, count)))
    events["x"], events["y"], events["p"] = (
        rng.integers(0, 640, count),
        rng.integers(0, 480, count),
        rng.integers(0, 2, count),
    )
    return events


EVENTS = sample()
PARTS = np.split(EVENTS, [7, 7, 1000, 2990])  # the second one is empty


def write(tmp_path, data):
    (tmp_path / "a.aedat4").write_bytes(data)
    return tmp_path / "a.aedat4"


@pytest.mark.parametrize("compression", range(5))
@pytest.mark.parametrize("indexed", [True, False])
def test_events_and_windows(tmp_path, compression, indexed, monkeypatch):
    path = write(tmp_path, event_file(PARTS, compression=compression, indexed=indexed))
    with open_events(path) as reader:
        assert (reader.format, reader.height, reader.width) == ("AEDAT4", 480, 640)
        assert np.array_equal(reader.read(), EVENTS)
        assert (reader.first_t, reader.last_t, reader.faults) == (EVENTS["t"][0], EVENTS["t"][-1], Faults())
    monkeypatch.setattr("detector.events.packets.packet_reader.SMALL", 0)  # as in a large file
    for t0, t1 in ((0, 10**18), (START, START + 1), (START + 300_000, START + 300_500), (START + 999_000, None)):
        with open_events(path) as reader:
            assert np.array_equal(reader.read(t0, t1), between(EVENTS, t0, t1 or 10**18))


def test_faery_writes_the_same(tmp_path):
    faery = pytest.importorskip("faery")
    stored = np.zeros(EVENTS.size, faery.EVENTS_DTYPE)
    for theirs, ours in (("t", "t"), ("x", "x"), ("y", "y"), ("on", "p")):
        stored[theirs] = EVENTS[ours]
    faery.events_stream_from_array(stored, dimensions=(640, 480)).to_file(tmp_path / "a.aedat4")
    with open_events(tmp_path / "a.aedat4") as reader:
        assert (reader.format, reader.width, reader.height) == ("AEDAT4", 640, 480)
        found = reader.read()
    assert found.size == EVENTS.size
    for name in "xyp":
        assert np.array_equal(found[name], EVENTS[name])
    assert np.array_equal(np.diff(found["t"]), np.diff(EVENTS["t"]))


def test_faery_reads_the_same(tmp_path):
    faery = pytest.importorskip("faery")
    path = write(tmp_path, event_file(PARTS, compression=1))
    found = np.concatenate(list(faery.events_stream_from_file(path)))
    for theirs, ours in (("x", "x"), ("y", "y"), ("on", "p")):
        assert np.array_equal(found[theirs], EVENTS[ours])


def test_faulty_events_are_counted(tmp_path):
    events = EVENTS.astype([("x", "<i4"), ("y", "<i4"), ("p", "<i2"), ("t", "<i8")])
    events["x"][5], events["y"][6], events["x"][8] = 640, 480, -1
    events["t"][20] = events["t"][19] - 40
    with open_events(write(tmp_path, event_file([events[:1000], events[1000:]])), max_faulty_events=0.1) as reader:
        assert reader.faults == Faults(outside=3, late=1)
        assert reader.read().size == EVENTS.size - 3


def test_an_interrupted_recording_is_read_up_to_its_last_complete_packet(tmp_path):
    whole = event_file(PARTS, indexed=False)
    for cut in (1, 100, len(event_packet(PARTS[-1])), len(event_packet(PARTS[-1])) + 3):
        with open_events(write(tmp_path, whole[:-cut])) as reader:
            assert np.array_equal(reader.read(), EVENTS[:2990])
            assert reader.faults == Faults(truncated=1)


def test_a_damaged_index_is_not_needed(tmp_path):
    data = bytearray(event_file(PARTS, compression=3))
    data[-20:] = b"\xff" * 20
    with open_events(write(tmp_path, bytes(data))) as reader:
        assert np.array_equal(reader.read(), EVENTS)


def test_a_damaged_packet_is_named(tmp_path):
    data = event_file([EVENTS[:10], EVENTS[10:]], compression=1)
    place = data.index(b"\x04\x22\x4d\x18", data.index(b"\x04\x22\x4d\x18") + 4)  # the second frame of LZ4
    path = write(tmp_path, data[:place] + b"\0\0\0\0" + data[place + 4 :])
    with pytest.raises(ValueError, match=rf"a.aedat4: the packet at byte {place} is damaged: "):
        open_events(path).read()


def test_other_streams_are_skipped_and_images_have_times(tmp_path):
    packets = [
        (1, frame_packet(START + 5), 1, START + 5),
        (0, event_packet(EVENTS[:40]), 40, START),
        (2, b"\x04\0\0\0\0\0\0\0", 1, START),
        (1, frame_packet(START + 9), 1, START + 9),
        (0, event_packet(EVENTS[40:]), 2960, START),
    ]
    path = write(tmp_path, aedat4(packets, SIZE, ("FRME", 640, 480), ("IMUS", 1, 1), compression=3))
    with open_events(path) as reader:
        assert np.array_equal(reader.read(), EVENTS)
        assert reader.frame_times().tolist() == [START + 5, START + 9]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (aedat4([], ("FRME", 640, 480)), "got streams 0 FRME, allowed: one stream of events"),
        (aedat4([], SIZE, SIZE), "got streams 0 EVTS, 1 EVTS, allowed: one stream"),
        (event_file(PARTS)[:40], "the header is damaged: the file ends at byte 40"),
        (b"#!AER-DAT4.1\r\n" + bytes(40), "the header is damaged: no AEDAT4 header"),
    ],
)
def test_what_is_not_readable(tmp_path, data, message):
    with pytest.raises(ValueError, match=rf"a.aedat4: {message}"):
        open_events(write(tmp_path, data))


def test_an_unknown_compression(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules["aedat4_samples"].COMPRESS, 9, bytes)
    with pytest.raises(ValueError, match="got compression 9, allowed: 0 .none., 1, 2 .LZ4., 3, 4 .Zstandard."):
        open_events(write(tmp_path, event_file(PARTS, compression=9)))


@pytest.mark.parametrize(("compression", "package"), [(0, "flatbuffers"), (1, "lz4"), (3, "zstandard")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, compression, package):
    real = builtins.__import__

    def no_import(name, *args, **options):
        if name.partition(".")[0] == package:
            raise ImportError(f"No module named {package!r}", name=package)
        return real(name, *args, **options)

    path = write(tmp_path, event_file(PARTS, compression=compression))
    monkeypatch.setattr(builtins, "__import__", no_import)
    with pytest.raises(ValueError, match=f"needs the package {package}: pip install flatbuffers lz4 zstandard"):
        open_events(path)


def test_a_recording_without_events(tmp_path):
    for parts in ([], [EVENTS[:0]]):
        for indexed in (True, False):
            with open_events(write(tmp_path, event_file(parts, indexed=indexed))) as reader:
                assert (reader.read().size, reader.first_t, reader.last_t) == (0, None, None)
