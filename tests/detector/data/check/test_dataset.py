import json
import shutil

import h5py
import numpy as np
import pytest

from detector.data.check.dataset import check_dataset
from detector.events import BBOX_dtype, EventCD, write_dat, write_evt2
from detector.labels import LabelTiming, save_labels

HEIGHT, WIDTH, DELTA_T, FRAMES = 60, 80, 50_000, 20
NAMES = {"0": "car", "1": "walker", "2": "empty"}
END = FRAMES * DELTA_T


def make_labels(times=range(100_000, END + 1, 100_000)):
    """A car on track 1 and a walker on track 2 at each time: half of the frames are labelled."""
    rows = [(t, 10 + 20 * c, 10, 12, 30, c, c + 1, 1.0) for t in times for c in (0, 1)]
    return np.array(rows, BBOX_dtype)


def write_raw(path, labels):
    """As it is: `save_labels` would sort, and refuse what cannot be."""
    np.save(path, labels)


def write_tensors(path, shape=(FRAMES, 2, HEIGHT, WIDTH), value=1, dtype=np.uint8, sha256=None, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=np.full(shape, value, dtype))
        attributes = {"preprocess": "histo", "delta_t": DELTA_T, "first_t": 0, "sha256": sha256 or path.stem}
        data.attrs.update({**attributes, **changes})
    save_labels(path.with_name(f"{path.stem}_bbox.npy"), make_labels())


def make_events(times=range(0, END, 1000)):
    events = np.zeros(len(times), EventCD)
    events["t"] = times
    events["x"] = events["t"] // 1000 % WIDTH
    events["y"] = events["t"] // 1000 % HEIGHT
    return events


def write_recording(path, events=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    events = make_events() if events is None else events
    if events.size:
        events["p"][seed] = 1  # no two recordings are equal
    (write_evt2 if path.suffix == ".raw" else write_dat)(path, events, HEIGHT, WIDTH)
    save_labels(path.with_name(f"{path.stem.removesuffix('_td')}_bbox.npy"), make_labels())


@pytest.fixture
def tensors(tmp_path):
    """Two tensor files in each split, without a fault."""
    for split in ("train", "val", "test"):
        for index in range(2):
            write_tensors(tmp_path / split / f"{split}{index}.h5")
    (tmp_path / "label_map_dictionary.json").write_text(json.dumps(NAMES))
    return tmp_path


@pytest.fixture
def recordings(tmp_path):
    """A recording in each split, without a fault."""
    for seed, split in enumerate(("train", "val", "test")):
        write_recording(tmp_path / split / f"{split}0{'.raw' if split == 'val' else '_td.dat'}", seed=seed)
    (tmp_path / "label_map_dictionary.json").write_text(json.dumps(NAMES))
    return tmp_path


def only(folder, severity, kind):
    """The one finding that there is."""
    (finding,) = check_dataset(folder).findings
    assert (finding.severity, finding.kind) == (severity, kind)
    text = str(finding)
    assert text.startswith(severity)
    assert ", allowed: " in text
    assert "\n" not in text
    return finding


def test_nothing_is_found_in_sound_tensor_files(tensors):
    assert check_dataset(tensors).findings == []
    assert check_dataset(tensors / "train").findings == []
    assert check_dataset(tensors / "val" / "val0.h5", tensors / "val" / "val1.h5").findings == []


def test_nothing_is_found_in_sound_recordings(recordings, capsys):
    assert check_dataset(recordings).findings == []
    assert check_dataset(recordings / "val" / "val0.raw").findings == []
    assert capsys.readouterr().err == ""
    assert check_dataset(recordings, progress=True).findings == []
    assert "check: 100%" in capsys.readouterr().err


def change(folder, **values):
    """Change the third box of a label file, which is a car at 200 ms."""
    labels = make_labels()
    for name, value in values.items():
        labels[name][2] = value
    write_raw(folder / "train" / "train0_bbox.npy", labels)


@pytest.mark.parametrize(
    ("values", "severity", "kind", "found", "allowed"),
    [
        ({"x": np.nan}, "error", "value not finite", "x nan in box 2", "finite numbers"),
        ({"class_confidence": np.inf}, "error", "value not finite", "class_confidence inf in box 2", "finite numbers"),
        ({"w": 0}, "error", "box of no area", "x 10, y 10, w 0, h 30 at t 200000 us", "width and height above 0"),
        ({"h": -3}, "error", "box of no area", "x 10, y 10, w 12, h -3 at t 200000 us", "width and height above 0"),
        (
            {"x": 80},
            "error",
            "box outside the sensor",
            "x 80, y 10, w 12, h 30 at t 200000 us",
            "within the sensor, 80",
        ),
        ({"y": -30}, "error", "box outside the sensor", "x 10, y -30, w 12, h 30 at", "within the sensor, 80 x 60"),
        ({"x": 70}, "warning", "box reaches beyond the sensor", "x 70, y 10, w 12, h 30 at", "within the sensor, 80"),
        ({"class_id": 7}, "error", "class not in the label map", "class_id 7 at t 200000 us", "0 car, 1 walker, 2 emp"),
        ({"track_id": 2}, "error", "track twice at one time", "track_id 2 at t 200000 us", "one box per track"),
    ],
)
def test_one_box_is_wrong(tensors, values, severity, kind, found, allowed):
    change(tensors, **values)
    if "class_id" in values or values.get("track_id"):
        finding = check_dataset(tensors).findings[0]  # a class or track that changes on the way is another matter
        assert (finding.severity, finding.kind) == (severity, kind)
    else:
        finding = only(tensors, severity, kind)
    assert finding.path == tensors / "train" / "train0_bbox.npy"
    assert finding.found.startswith(found)
    assert finding.allowed.startswith(allowed)


@pytest.mark.parametrize("values", [{"x": 69}, {"x": -1}, {"y": 31}, {"y": -0.5}])
def test_boxes_may_touch_the_edge_or_reach_a_pixel_beyond(tensors, values):
    change(tensors, **values)
    assert check_dataset(tensors).findings == []


def test_repeated_faults_are_one_line_with_the_first(tensors):
    labels = make_labels()
    labels["w"][[3, 5, 9]] = 0
    write_raw(tensors / "train" / "train0_bbox.npy", labels)
    finding = only(tensors, "error", "box of no area")
    assert finding.found == "3 times, first x 30, y 10, w 0, h 30 at t 200000 us"


def test_frame_labels_of_class_empty_need_no_box(tensors):
    change(tensors, class_id=2, w=0, h=0, track_id=2)
    assert check_dataset(tensors).findings == []


def test_labels_before_the_start_and_after_the_end(tensors):
    write_tensors(tensors / "train" / "train0.h5", first_t=250_000)
    findings = check_dataset(tensors).findings
    assert [(f.kind, f.found) for f in findings] == [("label before the start", "4 times, first t 100000 us")]
    assert findings[0].allowed == "250000 to 1250000 us"
    write_tensors(tensors / "train" / "train0.h5", shape=(19, 2, HEIGHT, WIDTH))
    assert only(tensors, "error", "label after the end").found == "2 times, first t 1000000 us"


def test_labels_after_the_end_of_a_recording(recordings):
    save_labels(recordings / "val" / "val0_bbox.npy", make_labels([*range(100_000, END, 100_000), END, END + 1]))
    finding = only(recordings, "error", "label after the end")
    assert (finding.found, finding.allowed) == (f"2 times, first t {END + 1} us", f"0 to {END} us")


def test_a_label_at_the_start_belongs_to_no_frame(tensors):
    save_labels(tensors / "train" / "train0_bbox.npy", make_labels([0, *range(100_000, END + 1, 100_000)]))
    assert only(tensors, "warning", "label at the start").found == "2 times, first t 0 us"


def test_labels_earlier_than_events_are_told_with_their_cause(recordings):
    events = make_events()
    events["t"] += 2_000_000
    write_recording(recordings / "val" / "val0.raw", events, seed=1)
    finding = only(recordings, "error", "label before the start")
    assert finding.found == "20 times, first t 100000 us"
    assert "seem about 2.0 s earlier than the events" in str(finding)
    assert str(finding).endswith("give `build` --label_offset 2000000")


def with_times(times, dtype):
    labels = make_labels(range(len(times)))
    labels = labels.astype([(name, dtype if name == "t" else BBOX_dtype[name]) for name in BBOX_dtype.names])
    labels["t"] = np.repeat(times, 2)
    return labels


def test_label_times_in_seconds(tensors):
    write_raw(tensors / "train" / "train0_bbox.npy", with_times(np.arange(1, 11) / 10, "<f8"))
    finding = check_dataset(tensors / "train").findings[0]
    assert (finding.severity, finding.kind) == ("error", "unreadable labels")
    assert finding.found == "label field t holds fractions, the first 0.1 in box 0"
    assert "--label_time_unit s" in finding.allowed


def test_label_times_of_recordings_in_other_units(recordings):
    write_raw(recordings / "val" / "val0_bbox.npy", with_times(np.arange(1, 11) / 10, "<f8"))
    assert check_dataset(recordings / "val" / "val0.raw", timing=LabelTiming("s")).findings == []
    write_raw(recordings / "val" / "val0_bbox.npy", with_times([k * 20 for k in range(1, 51)], "<i8"))  # milliseconds
    assert "look like milliseconds" in only(recordings / "val" / "val0.raw", "warning", "odd labels").found


@pytest.mark.parametrize("times", [[], [0], [7], [1, 2, 3], [END], [END + 5], [0.1, 0.2], [-3, -2], [2**62]])
@pytest.mark.parametrize("frames", [1, 2])
def test_few_labels_and_frames_divide_nothing_by_zero(tensors, times, frames):
    for split in ("train", "val", "test"):
        for path in sorted((tensors / split).glob("*.h5")):
            write_tensors(path, shape=(frames, 2, HEIGHT, WIDTH), delta_t=END)
            write_raw(path.with_name(f"{path.stem}_bbox.npy"), with_times(times, "<f8" if 0.1 in times else "<i8"))
    with np.errstate(all="raise"):
        check_dataset(tensors)
        check_dataset(tensors / "train" / "train0.h5")


@pytest.mark.parametrize("times", [[], [70_000], [70_000] * 3, [0, 1]])
def test_recordings_of_no_duration_divide_nothing_by_zero(recordings, times):
    write_recording(recordings / "val" / "val0.raw", make_events(times), seed=0)
    for label_times in ([], [70_000], [80_000, 90_000]):
        save_labels(recordings / "val" / "val0_bbox.npy", make_labels(label_times))
        with np.errstate(all="raise"):
            check_dataset(recordings)


def test_boxes_that_come_twice(tensors):
    labels = make_labels()
    write_raw(tensors / "train" / "train0_bbox.npy", np.insert(labels, 1, labels[0]))
    kinds = {finding.kind: finding.found for finding in check_dataset(tensors).findings}
    assert kinds["box twice"] == "x 10, y 10 at t 100000 us"


def test_fractions_of_ids_are_refused_beside_other_findings(tensors):
    labels = make_labels()
    labels = labels.astype([(name, "<f8" if name == "track_id" else BBOX_dtype[name]) for name in BBOX_dtype.names])
    labels["track_id"][3], labels["x"][3] = 2.5, 70
    write_raw(tensors / "train" / "train0_bbox.npy", labels)
    kinds = {finding.kind: finding.found for finding in check_dataset(tensors).findings}
    assert kinds["unreadable labels"] == "label field track_id holds fractions, the first 2.5 in box 3"
    assert "box reaches beyond the sensor" in kinds


def test_label_times_that_fall(tensors):
    write_raw(tensors / "train" / "train0_bbox.npy", np.roll(make_labels(), 2))
    assert only(tensors, "error", "label times fall").found == "from 1000000 to 100000 us at box 2"


def test_tracks_that_change_their_class(tensors):
    labels = make_labels()
    labels["class_id"] = np.where((labels["track_id"] == 1) & (labels["t"] >= 500_000), 1, labels["class_id"])
    write_raw(tensors / "train" / "train0_bbox.npy", labels)
    finding = only(tensors, "warning", "track changes its class")
    assert finding.found == "track_id 1 is of class_id 1 from t 500000 us"


def test_files_without_track_ids(tensors):
    labels = make_labels()
    labels["track_id"] = 0
    write_raw(tensors / "train" / "train0_bbox.npy", labels)
    assert only(tensors, "warning", "no track ids").found == "all 20 boxes have track_id 0"


def test_unreadable_label_files_do_not_end_the_check(tensors):
    (tensors / "train" / "train0_bbox.npy").write_bytes(b"\x93NUMPY")
    np.save(tensors / "val" / "val1_bbox.npy", np.zeros(3, [("t", "<i8"), ("x", "<f4")]))
    first, second = check_dataset(tensors).findings
    assert first.kind == second.kind == "unreadable labels"
    assert first.found.startswith("not a complete label file of format npy")
    assert (second.found, second.allowed[:10]) == ("label fields found: t, x", "t, x, y, w")


def test_legacy_label_files_are_sound(tensors):
    labels = make_labels()
    names = {"t": "ts", "class_confidence": "confidence"}
    legacy = np.zeros(labels.size, [(names.get(name, name), BBOX_dtype[name]) for name in BBOX_dtype.names])
    for name in BBOX_dtype.names:
        legacy[names.get(name, name)] = labels[name]
    write_raw(tensors / "train" / "train0_bbox.npy", legacy)
    assert check_dataset(tensors).findings == []


def test_signed_class_ids_below_zero(tensors):
    labels = make_labels()
    kinds = [(name, "<i4" if name == "class_id" else BBOX_dtype[name]) for name in BBOX_dtype.names]
    signed = labels.astype(kinds)
    signed["class_id"][4] = -1
    write_raw(tensors / "train" / "train0_bbox.npy", signed)
    kinds_found = [finding.kind for finding in check_dataset(tensors).findings]
    assert "class not in the label map" in kinds_found


def test_broken_label_maps(tensors):
    path = tensors / "label_map_dictionary.json"
    path.write_text("[]")
    assert only(tensors, "error", "unreadable label map").path == path


def test_label_map_is_needed_by_tensors_and_wished_for_by_recordings(tmp_path):
    write_tensors(tmp_path / "a" / "x.h5")
    assert only(tmp_path / "a", "error", "no label map").path == tmp_path / "a"
    write_recording(tmp_path / "b" / "x.raw")
    only(tmp_path / "b" / "x.raw", "warning", "no label map")


def test_classes_of_label_files_replace_a_missing_label_map_of_recordings(tmp_path):
    write_recording(tmp_path / "x.raw")
    (tmp_path / "x_bbox.npy").unlink()
    rows = "".join(f"{t},1,1,3,3,0,car\n" for t in range(100_000, 900_000, 100_000))
    (tmp_path / "x_bbox.csv").write_text(f"t,x,y,w,h,class_id,class_name\n{rows}")
    assert "no label map" not in [finding.kind for finding in check_dataset(tmp_path).findings]


def test_evidence_is_kept_for_three_findings_of_a_kind(tmp_path):
    (tmp_path / "label_map_dictionary.json").write_text(json.dumps(NAMES))
    for seed in range(5):
        events = make_events()
        often = np.arange(events.size) % 5 > 0
        events["x"][often], events["y"][often] = seed, 1  # four of five events are in one pixel
        write_recording(tmp_path / f"{seed}_td.dat", events, seed)
    found = [bool(each.evidence) for each in check_dataset(tmp_path).findings if each.kind == "hot pixels"]
    assert found == [True, True, True, False, False]


def test_one_time_of_a_source_in_two_splits(tensors):
    labels = make_labels([*range(1_000_000, 1_900_001, 100_000)])
    write_tensors(tensors / "val" / "val0.h5", sha256="train0", first_t=900_000)
    save_labels(tensors / "val" / "val0_bbox.npy", labels)
    finding = only(tensors, "error", "in two splits")
    assert finding.found == f"900000 to 1000000 us of the source are in {tensors / 'train' / 'train0.h5'} too"
    write_tensors(tensors / "val" / "val0.h5", sha256="train0", first_t=1_000_000)
    save_labels(tensors / "val" / "val0_bbox.npy", make_labels(range(1_100_000, 2_000_001, 100_000)))
    assert check_dataset(tensors).findings == []


def test_a_copied_recording_in_two_splits(recordings):
    shutil.copy(recordings / "train" / "train0_td.dat", recordings / "test" / "copy_td.dat")
    save_labels(recordings / "test" / "copy_bbox.npy", make_labels())
    assert only(recordings, "error", "in two splits").found.startswith("same content as")


def test_files_without_labels_and_labels_without_files(recordings):
    (recordings / "train" / "train0_bbox.npy").rename(recordings / "train" / "other_bbox.npy")
    stray, missing = check_dataset(recordings).findings
    assert (stray.kind, stray.path) == ("labels without a recording", recordings / "train" / "other_bbox.npy")
    assert (missing.kind, missing.found) == ("recording without labels", "none beside it")
    assert missing.allowed.startswith("train0_bbox.npy, train0.json, ")
    assert stray.severity == missing.severity == "error"


def test_empty_recordings(recordings):
    write_recording(recordings / "train" / "train0_td.dat", make_events([]))
    assert only(recordings, "error", "empty recording").path == recordings / "train" / "train0_td.dat"


def test_tensor_files_that_tell_nothing_are_sound(tensors):
    with h5py.File(tensors / "val" / "val1.h5", "a") as file:
        for name in list(file["data"].attrs):
            del file["data"].attrs[name]
    assert check_dataset(tensors).findings == []


def test_classes_that_a_split_lacks(tensors):
    for index in range(2):
        labels = make_labels()
        save_labels(tensors / "val" / f"val{index}_bbox.npy", labels[labels["class_id"] == 1])
    finding = only(tensors, "warning", "split lacks a class")
    assert (finding.path, finding.found) == (tensors / "val", "no box of car")


def test_findings_about_several_files_name_the_dataset_or_the_folder_of_the_first_file(tensors):
    write_tensors(tensors / "val" / "train0.h5", sha256="other")
    kind = "one name in two splits"
    assert only(tensors, "warning", kind).path == tensors
    found = check_dataset(tensors / "train", tensors / "val" / "train0.h5").findings
    assert [each.path for each in found if each.kind == kind] == [tensors / "train"]


def test_sensor_size_of_recordings_that_do_not_tell_it(tmp_path):
    events = np.stack([make_events()[name] for name in ("t", "x", "y", "p")], axis=1)
    np.savetxt(tmp_path / "a.csv", events, fmt="%d", delimiter=",")
    save_labels(tmp_path / "a_bbox.npy", make_labels())
    (tmp_path / "label_map_dictionary.json").write_text(json.dumps(NAMES))
    assert only(tmp_path, "error", "recording cannot be read")
    assert check_dataset(tmp_path, sensor=(HEIGHT, WIDTH)).findings == []


def test_paths_that_hold_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such recording"):
        check_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no recording or tensor file in it, needed: "):
        check_dataset(tmp_path)
