"""One recording or tensor file at a time, without its labels."""

import h5py
import numpy as np
import pytest

from detector.data.check import contents
from detector.data.check.contents import read_contents
from detector.data.check.event_faults.sketch import event_hashes, frame_hashes
from detector.data.check.inventory import DataFile
from detector.events import EventCD, write_dat
from detector.events.frames import Frames

HEIGHT, WIDTH = 12, 16
NO_TIMES = np.zeros(0, np.int64)


def make_events(count=1000):
    """An event per millisecond from 70 ms on; a quarter of them ON; no two rows have the same pixels."""
    events = np.zeros(count, EventCD)
    number = np.arange(count)
    events["t"], events["p"] = 70_000 + 1000 * number, number % 4 == 0
    events["x"], events["y"] = number % WIDTH, number // WIDTH % HEIGHT
    return events


def recording(path, events=None):
    write_dat(path, make_events() if events is None else events, HEIGHT, WIDTH)
    return DataFile(path, None, False)


def tensors(path, frames, **attributes):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=frames).attrs.update(attributes)
    return DataFile(path, None, True)


def read(file, times=()):
    return read_contents(file, np.array(times, np.int64), lambda size: None)


def kinds(found):
    return [(finding.severity, finding.kind) for finding in found.findings]


def test_a_recording(tmp_path):
    file, sizes, events = recording(tmp_path / "a_td.dat"), [], make_events()
    found = read_contents(file, np.array([300_000]), sizes.append)
    assert found.findings == []
    # 1069 ms is in the 21st bin of 50 ms after 50 ms.
    assert found.content.grid == Frames(50_000, 50_000, 21)
    assert (found.content.sensor_size, found.content.events) == ((HEIGHT, WIDTH), (70_000, 1_069_000))
    assert found.content.header is None
    assert found.rarer_polarity == 0.25
    assert sum(sizes) == pytest.approx(file.path.stat().st_size, abs=len(sizes))
    assert (found.activity.start, found.activity.sensor_size) == (70_000, (HEIGHT, WIDTH))
    corners = np.array([[0, 0, WIDTH, HEIGHT], [3, 0, 4, HEIGHT], [0, 2, WIDTH, 3]])
    counted = found.activity.count(corners, np.full(3, 570_000), 1_000_000)
    inside = events["x"] == 3, events["y"] == 2
    assert counted.tolist() == [1000, *(np.count_nonzero(one) for one in inside)]
    run = events[events["t"] < 100_000]  # of the first read
    keys = ((run["t"] - 70_000) << 31) + (run["y"].astype(np.int64) << 16) + (run["x"].astype(np.int64) << 1) + run["p"]
    assert found.sketch.complete and np.isin(event_hashes(keys), found.sketch.hashes).all()


def test_only_labelled_recordings_are_compared_with_labels(tmp_path):
    found = read(recording(tmp_path / "a_td.dat"))
    assert found.activity is None
    assert found.sketch.hashes.size > 0 and found.content.events == (70_000, 1_069_000)


def test_the_rarer_polarity(tmp_path):
    events = make_events()
    events["p"] = 1 - events["p"]
    assert read(recording(tmp_path / "a_td.dat", events)).rarer_polarity == 0.25
    events["p"] = 1
    found = read(recording(tmp_path / "b_td.dat", events))
    assert found.rarer_polarity == 0


def test_the_rate_of_a_pixel_is_of_the_time_between_first_and_last_event(tmp_path):
    events = make_events(10_001)  # 10 s
    events["x"][::2], events["y"][::2] = 3, 2
    (found,) = [each for each in read(recording(tmp_path / "a_td.dat", events)).findings if each.kind == "hot pixels"]
    number = np.count_nonzero((events["x"] == 3) & (events["y"] == 2))
    assert f"worst (3, 2) {number / 10:,.0f} Hz" in found.found


def test_an_empty_recording(tmp_path):
    found = read(recording(tmp_path / "a_td.dat", make_events(0)), [5])
    assert kinds(found) == [("error", "empty recording")]
    assert (found.content.sensor_size, found.content.events, found.sketch) == ((HEIGHT, WIDTH), None, None)
    assert found.rarer_polarity == 0.5


def test_faulty_events(tmp_path):
    file = recording(tmp_path / "a_td.dat")
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-3])
    (found,) = read(file).findings
    assert (found.severity, found.kind, found.allowed) == ("warning", "faulty events", "none")
    assert found.found == "1 cut off at the end of the file (dropped)"
    outside = bytearray(whole)
    outside[-8 * 500 + 6] = 0xFF
    file.path.write_bytes(outside)
    (found,) = read(file).findings
    assert (found.severity, found.found) == ("warning", "1 outside the sensor (dropped)")
    outside[-8 * 500 + 6 : -8 * 480 + 6 : 8] = b"\xff" * 20
    file.path.write_bytes(outside)
    refused = read(file)
    (found,) = refused.findings
    assert (found.severity, found.kind) == ("error", "recording cannot be read")
    assert "events are faulty: 20 outside the sensor (dropped)" in found.found
    assert found.allowed.endswith("more with a larger data.max_faulty_events")
    assert (refused.content.sensor_size, refused.content.events) == ((HEIGHT, WIDTH), None)


def test_times_that_decrease(tmp_path):
    file = recording(tmp_path / "a_td.dat")
    content = bytearray(file.path.read_bytes())
    for place in range(500, 480, -1):
        content[-8 * place : -8 * place + 4] = bytes(4)
    file.path.write_bytes(content)
    (found,) = read(file).findings
    assert (found.severity, found.kind) == ("error", "recording cannot be read")
    assert "time falls from" in found.found


def test_what_is_no_recording(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"nothing of the kind")
    found = read(DataFile(tmp_path / "a.raw", None, False))
    assert kinds(found) == [("error", "recording cannot be read")]
    assert found.content.sensor_size is None


def make_frames(number=6):
    """Frames of 3 channels; frame k has k + 1 pixels other than 0 in channel 0 and one in each other channel."""
    frames = np.zeros((number, 3, HEIGHT // 2, WIDTH // 2), np.uint8)
    for index in range(number):
        frames[index, 0].flat[: index + 1] = 2
        frames[index, 1:, 5, 7] = 3 + index
    return frames


ATTRIBUTES = {"delta_t": 50_000, "first_t": 200_000, "event_input_height": HEIGHT, "event_input_width": WIDTH}


def test_a_tensor_file(tmp_path):
    frames = make_frames()
    found = read(tensors(tmp_path / "a.h5", frames, sha256="7", **ATTRIBUTES), [300_000])
    assert found.findings == []
    assert (found.content.sensor_size, found.content.grid) == ((HEIGHT, WIDTH), Frames(200_000, 50_000, 6))
    assert (found.content.events, found.content.header.sha256) == (None, "7")
    assert (found.activity.start, found.activity.end, found.activity.step) == (200_000, 500_000, 50_000)
    # Active pixels of each frame: k + 1 and one that channels 1 and 2 share.
    counts = [int(found.activity.image(225_000 + 50_000 * k, 50_000).sum()) for k in range(6)]
    assert counts == [2, 3, 4, 5, 6, 7]
    wanted = np.sort(np.concatenate([frame_hashes(frame) for frame in frames]))
    assert found.sketch.hashes.tolist() == wanted.tolist()


def test_frames_around_the_labels_are_read_of_large_tensor_files(tmp_path, monkeypatch):
    frames = make_frames(20)
    monkeypatch.setattr(contents, "MAX_BYTES", 5 * frames[0].nbytes - 1)
    file = tensors(tmp_path / "a.h5", frames, **{**ATTRIBUTES, "delta_t": 4_000_000})
    found = read(file)  # no labels: the first frames
    assert (found.activity.start, found.activity.end) == (200_000, 16_200_000)
    assert found.sketch.hashes.size == 4
    # The part of 16 s begins a quarter before the label, at the start of frame 14.
    late = read(file, [60_200_000])
    assert (late.activity.start, late.activity.end) == (56_200_000, 72_200_000)
    inside = np.concatenate([frame_hashes(frame) for frame in frames[14:18]])
    assert late.sketch.hashes.tolist() == sorted(inside.tolist())


def test_a_tensor_file_without_a_known_time(tmp_path):
    found = read(tensors(tmp_path / "a.h5", make_frames()), [300_000])
    assert (found.findings, found.activity, found.sketch) == ([], None, None)
    assert (found.content.grid, found.content.sensor_size) == (None, (HEIGHT // 2, WIDTH // 2))


@pytest.mark.parametrize(("active", "number"), [(1999, 0), (2000, 1)])
def test_channels_that_are_always_zero(tmp_path, active, number):
    frames = np.zeros((2, 4, 30, 40), np.uint8)
    frames[:, 1].flat[: active - 100] = 1
    frames[1, 3].flat[:100] = 5
    findings = read(tensors(tmp_path / "a.h5", frames, **ATTRIBUTES)).findings
    assert len(findings) == number
    for found in findings:
        assert (found.severity, found.kind) == ("warning", "empty channels")
        assert found.found == "channels 0, 2 of 4 are 0 in all frames that were read"
        (bars,) = found.evidence
        assert bars.values == {"channel 0": 0, "channel 1": active - 100, "channel 2": 0, "channel 3": 100}
        assert bars.marked == ("channel 0", "channel 2")


def test_values_that_are_not_finite(tmp_path):
    frames = make_frames().astype(np.float16)
    assert read(tensors(tmp_path / "a.h5", frames, **ATTRIBUTES)).findings == []
    frames[3, 1, 5, 5], frames[5, 0, 0, 0] = np.nan, np.inf
    (found,) = read(tensors(tmp_path / "a.h5", frames, **ATTRIBUTES)).findings
    assert (found.severity, found.kind) == ("error", "tensor value not finite")
    assert (found.found, found.allowed) == ("2 times, first NaN or infinity in frame 3", "finite numbers")


def test_broken_tensor_files(tmp_path):
    file = tensors(tmp_path / "a.h5", make_frames(), **ATTRIBUTES)
    file.path.write_bytes(file.path.read_bytes()[:-100])
    (found,) = read(file).findings
    assert (found.severity, found.kind) == ("error", "tensor file cannot be read")
    assert found.found.startswith("not a complete HDF5 file")
    with h5py.File(file.path, "w") as content:
        content["frames"] = np.zeros(3)
    (found,) = read(file).findings
    assert (found.found, found.allowed) == ("contains frames", "a dataset named data")
