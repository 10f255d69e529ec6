import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_recordings import (
    DELTA_T,
    HEIGHT,
    NAMES,
    START,
    WIDTH,
    config,
    count,
    files_in,
    make_events,
    make_labels,
    make_recording,
    tensors,
)

from detector.data.builder import recording as build_recording
from detector.data.builder.dataset import build_dataset
from detector.data.check.dataset import check_dataset
from detector.labels import load_labels, save_labels


@pytest.mark.parametrize("name", ["street_td.dat", "street.dat", "street.raw"])
def test_a_whole_recording_in_the_split_of_its_folder(tmp_path, name):
    recording = make_recording(tmp_path / "in" / "val", name, times=(START, START + 1, 3_200_000, 3_200_001))
    (tmp_path / "in" / "label_map_dictionary.json").write_text('{"3": "car", "0": "walker"}')
    output = build_dataset([recording], tmp_path / "out", config(), progress=False)
    assert output == tmp_path / "out"
    assert files_in(output) == ["label_map_dictionary.json", "val/street.h5", "val/street_bbox.npy"]
    data, attributes = tensors(output / "val" / "street.h5")
    assert data.dtype == np.uint8
    assert np.array_equal(data, count(make_events(), START, 20))
    digest = attributes.pop("sha256")
    assert len(digest) == 64
    assert json.loads(attributes.pop("preprocess_params")) == {"downsampling_factor": 0, "max_incr_per_pixel": 5.0}
    assert attributes.pop("tool_version")
    assert attributes == {
        "preprocess": "histo",
        "max_incr_per_pixel": 5.0,
        "divisor": 5.0,
        "delta_t": DELTA_T,
        "event_input_height": HEIGHT,
        "event_input_width": WIDTH,
        "first_t": START,
    }
    # A label belongs to a frame that ends at or after it and starts before it.
    assert load_labels(output / "val" / "street_bbox.npy")["t"].tolist() == [START + 1, 3_200_000]
    assert json.loads((output / "label_map_dictionary.json").read_text()) == {"0": "walker", "3": "car"}


def test_chunks_hold_one_frame_each(tmp_path):
    output = build_dataset([make_recording(tmp_path / "train")], tmp_path / "out", config(), None, NAMES, False)
    with h5py.File(output / "train" / "street.h5") as file:
        assert file["data"].chunks == (1, 2, HEIGHT, WIDTH)
        assert file["data"].compression == "lzf"


def test_cuts_count_from_the_start_of_the_stream(tmp_path):
    times = (1_300_000, 2_200_000, 2_200_001, 2_500_000, 2_600_000, 2_700_000)
    recording = make_recording(tmp_path, times=times)
    cuts = {"train": (0, 1.01), "val": (1.03, 1.3), "test": (1.5, 2.0)}
    output = build_dataset([recording], tmp_path / "out", config(), cuts, NAMES, progress=False)
    expected = {
        "train/street_1200000_2200000": (START, 10, [1_300_000, 2_200_000]),
        "val/street_2200000_2500000": (2_200_000, 3, [2_200_001, 2_500_000]),
        "test/street_2700000_3200000": (2_700_000, 5, []),
    }
    assert [name for name in files_in(output) if name.endswith("h5")] == sorted(f"{name}.h5" for name in expected)
    for name, (start, frames, label_times) in expected.items():
        data, attributes = tensors(output / f"{name}.h5")
        assert np.array_equal(data, count(make_events(), start, frames))
        assert attributes["first_t"] == start
        assert load_labels(output / f"{name}_bbox.npy")["t"].tolist() == label_times


def test_a_cut_may_end_shortly_after_the_last_event(tmp_path):
    recording = make_recording(tmp_path)
    output = build_dataset([recording], tmp_path / "out", config(), {"test": (1.5, 3.0)}, NAMES, progress=False)
    data, _ = tensors(output / "test" / "street_2700000_4200000.h5")
    assert data.shape[0] == 15
    assert data[:5].any()
    assert not data[5:].any()


@pytest.mark.parametrize("sizes", [{"height": 4}, {"width": 6}, {"height": 4, "width": 6}])
def test_smaller_tensors_sum_pixels_and_labels_stay_in_sensor_pixels(tmp_path, sizes):
    recording = make_recording(tmp_path / "train")
    output = build_dataset([recording], tmp_path / "out", config(**sizes), None, NAMES, progress=False)
    data, attributes = tensors(output / "train" / "street.h5")
    assert np.array_equal(data, count(make_events(), START, 20, shift=1))
    assert json.loads(attributes["preprocess_params"])["downsampling_factor"] == 1
    assert load_labels(output / "train" / "street_bbox.npy")["w"].tolist() == [4, 4, 4]


def test_a_recording_that_breaks_while_it_is_read_leaves_nothing(tmp_path):
    recording = make_recording(tmp_path / "in")
    content = bytearray(recording.read_bytes())
    content[-8 * 1500 + 6 : -8 * 1488 + 6 : 8] = b"\xff" * 12  # y of events in the middle
    recording.write_bytes(content)
    with pytest.raises(ValueError, match="street_td.dat: 12 of 3,000 events are faulty: 12 outside the sensor"):
        build_dataset([recording], tmp_path / "new", config(), {"train": (0, 2)}, NAMES, progress=False)
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match="street_td.dat: 12 of 3,000 events are faulty: 12 outside the sensor"):
        build_dataset([recording], tmp_path / "old", config(), {"train": (0, 2)}, NAMES, progress=False)
    assert list((tmp_path / "old").iterdir()) == []


def test_a_build_that_breaks_while_it_writes_leaves_no_new_folders(tmp_path, monkeypatch):
    def breaks(piece):
        assert piece.target.parent.is_dir()
        raise ValueError("broken")

    recording = make_recording(tmp_path / "in")
    monkeypatch.setattr(build_recording, "_frames", breaks)
    (tmp_path / "old" / "val").mkdir(parents=True)
    (tmp_path / "old" / "val" / "a.h5.0123abcd.part").write_bytes(b"of a killed process")
    for name in ("new", "old"):
        with pytest.raises(ValueError, match="broken"):
            build_dataset([recording], tmp_path / name, config(), {"train": (0, 2)}, NAMES, progress=False)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "old").rglob("*")) == [tmp_path / "old" / "val"]


@pytest.mark.parametrize(
    ("cuts", "changes", "message"),
    [
        ({"training": (0, 1)}, {}, "cuts: unknown split training, allowed: train, val, test"),
        ({"train": (1, 1)}, {}, "cut train: got 1 to 1 s, allowed: 0 <= start < end"),
        ({"train": (-1, 1)}, {}, "cut train: got -1 to 1 s"),
        ({"train": (0, float("nan"))}, {}, "cut train: got 0 to nan s"),
        ({"train": (0, 1), "val": (0.9, 1.5)}, {}, "cuts: train ends at 1 s, val starts at 0.9 s, allowed: no overlap"),
        ({"test": (2.0, 2.1)}, {}, "street_td.dat: cut test 2 to 2.1 s, allowed: within the recording, 0 to 2 s"),
        ({"test": (1.0, 3.2)}, {}, "street_td.dat: cut test 1 to 3.2 s, allowed: within the recording, 0 to 2 s"),
        ({"test": (1.0, 1.01)}, {}, "cut test: got 1 to 1.01 s, allowed: at least a frame of 100000 us"),
        (None, {}, r"street_td.dat: its folder in is not a split, allowed: train, val, test, or cuts"),
        ({"train": (0, 1)}, {"height": 5}, "data.height, data.width: got 5, None for .*: 8 x 12, 4 x 6, 2 x 3$"),
        ({"train": (0, 1)}, {"height": 1}, "data.height, data.width: got 1, None"),
        ({"train": (0, 1)}, {"height": 4, "width": 12}, "data.height, data.width: got 4, 12"),
        ({"train": (0, 1)}, {"height": 16, "width": 24}, "data.height, data.width: got 16, 24"),
        ({"train": (0, 1)}, {"max_incr_per_pixel": 2.5}, "data.max_incr_per_pixel: got 2.5, allowed: whole numbers"),
        ({"train": (0, 1)}, {"max_incr_per_pixel": 300}, "data.max_incr_per_pixel: got 300"),
        ({"train": (0, 1)}, {"preprocess": "diff", "max_incr_per_pixel": 128}, "whole numbers from 1 to 127"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, cuts, changes, message):
    recording = make_recording(tmp_path / "in")
    with pytest.raises(ValueError, match=message) as caught:
        build_dataset([recording], tmp_path / "out", config(**changes), cuts, NAMES, progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def refuse(recordings, output, error, message, label_map=NAMES):
    with pytest.raises(error, match=message) as caught:
        build_dataset(recordings, output, config(), {"train": (0, 2)}, label_map, progress=False)
    assert "\n" not in str(caught.value)
    assert not output.exists() or output.is_file()


def test_missing_things_are_named_before_work_starts(tmp_path):
    good = make_recording(tmp_path / "a")
    refuse([], tmp_path / "out", ValueError, "recordings: got none")
    refuse([good, tmp_path / "none.raw"], tmp_path / "out", FileNotFoundError, "none.raw: no such recording")
    bad = make_recording(tmp_path / "b", "bad.raw")
    (tmp_path / "b" / "bad_bbox.npy").unlink()
    missing = "bad.raw: the recording has no labels beside it, allowed: bad_bbox.npy, "
    refuse([good, bad], tmp_path / "out", FileNotFoundError, missing)
    np.save(tmp_path / "b" / "bad_bbox.npy", np.zeros(1, [("t", "<i8")]))
    refuse([good, bad], tmp_path / "out", ValueError, "bad_bbox.npy: label fields found: t; required: t, x, y")
    save_labels(tmp_path / "b" / "bad_bbox.npy", make_labels([2_000_000], class_id=7))
    refuse([good, bad], tmp_path / "out", ValueError, "class_id 7 is not in the label map, allowed: 0 walker, 3 car")
    save_labels(tmp_path / "b" / "bad_bbox.npy", make_labels([10**12]))
    refuse([good, bad], tmp_path / "out", ValueError, "bad_bbox.npy: labels from 1000000000000 .* within the recording")


def test_recordings_that_cannot_be_used(tmp_path):
    empty = make_recording(tmp_path / "a", "empty.raw", events=make_events()[:0])
    refuse([empty], tmp_path / "out", ValueError, "empty.raw: the recording holds no events")
    cut = make_recording(tmp_path / "b")
    cut.write_bytes(b"% Version 2\n% Height 8\n% Width 12\n\x0c")
    refuse([cut], tmp_path / "out", ValueError, "street_td.dat: not a DAT or RAW recording: event type and size are")
    twin = make_recording(tmp_path / "c")
    other = make_recording(tmp_path / "d", "street.raw")
    refuse(
        [twin, other], tmp_path / "out", ValueError, "street_td.dat and .*street.raw would both become .*train/street"
    )
    (tmp_path / "file").write_text("")
    refuse([twin], tmp_path / "file", ValueError, "file: output is a file, allowed: a folder")


def test_faulty_events_are_counted_and_printed(tmp_path, capsys):
    recording = make_recording(tmp_path / "in" / "train")
    content = bytearray(recording.read_bytes())
    content[-8 * 1500 + 6 : -8 * 1495 + 6 : 8] = b"\xff" * 5
    recording.write_bytes(content[:-3])
    build_dataset([recording], tmp_path / "out", config(), None, NAMES, progress=False)
    error = capsys.readouterr().err
    wanted = "5 outside the sensor (dropped), 1 cut off at the end of the file (dropped)"
    assert error == f"{recording}: faulty events: {wanted}\n"
    with pytest.raises(ValueError, match="street_td.dat: 6 of 2,999 events are faulty: 5 outside"):
        build_dataset([recording], tmp_path / "new", config(max_faulty_events=0), None, NAMES, progress=False)
    build_dataset([make_recording(tmp_path / "ok" / "train")], tmp_path / "ok2", config(), None, NAMES, progress=False)
    assert capsys.readouterr().err == ""


def test_labels_of_a_recording_are_never_replaced(tmp_path):
    recording = make_recording(tmp_path / "train", times=(0, 2_000_000))
    with pytest.raises(ValueError, match="street_bbox.npy: would replace a recording's own labels, give another"):
        build_dataset([recording], tmp_path, config(), None, NAMES, progress=False)
    assert load_labels(tmp_path / "train" / "street_bbox.npy")["t"].tolist() == [0, 2_000_000]


def test_label_maps(tmp_path):
    recording = make_recording(tmp_path / "a" / "x")
    output = tmp_path / "out"
    refuse([recording], output, FileNotFoundError, "street_td.dat: no label_map_dictionary.json beside it", None)
    refuse([recording], output, ValueError, "label_map: the label map is empty", {})
    (tmp_path / "a" / "label_map_dictionary.json").write_text("[]")
    refuse([recording], output, ValueError, "label_map_dictionary.json: not a label map", None)
    (tmp_path / "a" / "label_map_dictionary.json").write_text('{"3": "car"}')
    other = make_recording(tmp_path / "b", "other.raw")
    (tmp_path / "b" / "label_map_dictionary.json").write_text('{"3": "van"}')
    refuse(
        [recording, other], output, ValueError, "label map {3: 'van'} differs from {3: 'car'} of .*, allowed: one", None
    )
    build_dataset([recording], output, config(), {"train": (0, 2)}, None, progress=False)
    with pytest.raises(ValueError, match="out/label_map_dictionary.json: label map .* differs"):
        build_dataset([recording], output, config(), {"train": (0, 2)}, NAMES, progress=False)


def test_progress_is_shown_on_a_terminal_when_asked_for(tmp_path, capsys, monkeypatch):
    recording = make_recording(tmp_path / "train")
    build_dataset([recording], tmp_path / "quiet", config(), None, NAMES, progress=False)
    assert capsys.readouterr().err == ""
    build_dataset([recording], tmp_path / "file", config(), None, NAMES)
    assert "20/20" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    build_dataset([recording], tmp_path / "loud", config(), None, NAMES)
    assert "20/20" in capsys.readouterr().err


OWN_FORMATS = """
import numpy as np
from detector.events import ArrayReader
from detector.labels import LabelFormat

def events(path, height, width):
    with np.load(path) as file:
        return ArrayReader(path, [file[name] for name in "xypt"], height, width)

def boxes(path):
    with np.load(path) as file:
        return file["boxes"]

BOXES = LabelFormat("_boxes.npz", boxes)
"""


def test_recordings_and_labels_of_formats_outside_the_product(tmp_path, monkeypatch):
    (tmp_path / "own_formats.py").write_text(OWN_FORMATS)
    monkeypatch.syspath_prepend(tmp_path)
    recording = make_recording(tmp_path / "known" / "train")
    expected = build_dataset([recording], tmp_path / "expected", config(), None, NAMES, progress=False)
    own = tmp_path / "own" / "train" / "street.npz"
    own.parent.mkdir(parents=True)
    np.savez(own, **{name: make_events()[name] for name in "xypt"})
    np.savez(own.with_name("street_boxes.npz"), boxes=make_labels((1_300_000, 2_000_000, 2_500_000)))
    data = config(event_format="own_formats:events", label_format="own_formats:BOXES")
    sensor = HEIGHT, WIDTH
    found = build_dataset([own], tmp_path / "found", data, None, NAMES, progress=False, sensor=sensor)
    assert files_in(found) == files_in(expected)
    (frames, attributes), (expected_frames, expected_attributes) = (
        tensors(folder / "train" / "street.h5") for folder in (found, expected)
    )
    assert np.array_equal(frames, expected_frames)
    assert {**attributes, "sha256": ""} == {**expected_attributes, "sha256": ""}
    labels = Path("train") / "street_bbox.npy"
    assert (found / labels).read_bytes() == (expected / labels).read_bytes()
    assert [finding.kind for finding in check_dataset(own.parent, sensor=sensor, data=data).findings] == [
        "no label map"
    ]
    own.with_name("street_boxes.npz").rename(own.with_name("road_boxes.npz"))
    kinds = [finding.kind for finding in check_dataset(own.parent, sensor=sensor, data=data).findings]
    assert kinds == ["labels without a recording", "recording without labels", "no label map"]
