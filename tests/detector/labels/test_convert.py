"""Conversion of label files by `convert_labels`; `tests/evforge/datasets/test_labels.py` has the command line."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detector.config.label_timing import LabelTiming
from detector.events import BBOX_dtype
from detector.labels import read_labels, save_labels
from detector.labels.convert import convert_labels, format_of_name

NAMES = {0: "walker", 3: "car", 4: "empty"}


@pytest.fixture
def source(tmp_path):
    """Two walkers and a car at 10 and 30 ms, and an image without boxes at 20 ms."""
    rows = [(10_000, 1, 2, 3, 4, 0, 5, 1), (10_000, 5, 1, 6, 2, 3, 6, 1), (20_000, 0, 0, 0, 0, 4, 0, 1)]
    rows.append((30_000, 2.5, 3, 4, 1, 0, 5, 1))
    save_labels(tmp_path / "given.npy", np.array(rows, BBOX_dtype))
    return tmp_path / "given.npy"


def recording(path="street.raw", height=8, width=12):
    return SimpleNamespace(path=Path(path), height=height, width=width, first_t=0, frame_times=lambda: np.zeros(0, int))


@pytest.mark.parametrize(
    ("name", "label_format"),
    [
        ("a_bbox.npy", "npy"),
        ("A.JSON", "coco"),
        ("a.csv", "csv"),
        ("a_gt.txt", "mot"),
        ("a_labels", "yolo"),
        ("labels", "yolo"),
        ("a_yolo", "yolo"),
        ("a_voc", "voc"),
        ("Annotations", "voc"),
        ("a_xml", "voc"),
    ],
)
def test_the_format_that_a_name_stands_for(name, label_format):
    assert format_of_name(Path("in") / name) == label_format


def test_names_that_stand_for_no_format():
    ends = r"\.npy \(npy\), \.json \(coco\), \.csv \(csv\), \.txt \(mot\), _labels \(yolo\), _voc \(voc\), or --to$"
    with pytest.raises(ValueError, match=r"^in/a\.bin: the name does not determine a label format, .* in " + ends):
        format_of_name(Path("in/a.bin"))


def test_boxes_and_images_without_boxes_are_written(tmp_path, source):
    done = convert_labels(source, tmp_path / "new" / "a.csv", names=NAMES)
    assert (done.boxes, done.times, done.names) == (3, 3, {0: "walker", 3: "car"})
    assert done.notes == ()
    found = read_labels(tmp_path / "new" / "a.csv")
    assert found.boxes["t"].tolist() == [10_000, 10_000, 30_000]
    assert [found.boxes[name].tolist() for name in "xywh"] == [[1, 5, 2.5], [2, 1, 3], [3, 6, 4], [4, 2, 1]]
    assert found.boxes["track_id"].tolist() == [5, 6, 5]
    assert found.empty.tolist() == [20_000]
    assert [found.names[key] for key in found.boxes["class_id"].tolist()] == ["walker", "car", "walker"]


def test_an_npy_file_marks_images_without_boxes(tmp_path, source):
    convert_labels(source, tmp_path / "a.csv", names=NAMES)
    done = convert_labels(tmp_path / "a.csv", tmp_path / "b.npy")
    empty = next(key for key, name in done.names.items() if name == "empty")
    labels = read_labels(tmp_path / "b.npy").boxes
    assert labels["t"].tolist() == [10_000, 10_000, 20_000, 30_000]
    assert np.flatnonzero(labels["class_id"] == empty).tolist() == [2]
    assert (done.boxes, done.times) == (3, 3)
    first, second = done.notes
    assert first == f'1 rows of class "empty" (id {empty}) stand for the labelled images without boxes'
    assert second.startswith("the format does not store class names; put the classes below into")


def test_ids_without_names_stay_without_names(tmp_path, source):
    done = convert_labels(source, tmp_path / "a.csv")
    assert (done.boxes, done.names) == (4, {})  # class 4 is not known to be "empty"
    assert done.notes == ("class ids without names: 0, 3, 4; give names by --label_map",)
    assert read_labels(tmp_path / "a.csv").names == {}
    partly = convert_labels(source, tmp_path / "b.csv", names={3: "car", 0: "class 0"})
    assert partly.names == {3: "car"} and partly.notes == ("class ids without names: 0, 4; give names by --label_map",)
    named = convert_labels(source, tmp_path / "a.json", names={3: "car"})
    assert named.names == {0: "class 0", 3: "car", 4: "class 4"} and named.notes == ()


def test_what_a_format_does_not_store(tmp_path, source):
    labels = np.load(source)
    labels["class_confidence"] = [0.5, 1, 1, 0.25]
    save_labels(source, labels)
    notes = convert_labels(source, tmp_path / "a_voc", names=NAMES, recording=recording()).notes
    assert notes == ("the format does not store track ids", "the format does not store scores")
    labels["class_confidence"], labels["track_id"] = 0, 0  # the values of fields that were not set
    save_labels(source, labels)
    assert convert_labels(source, tmp_path / "b_voc", names=NAMES, recording=recording()).notes == ()


def test_boxes_get_the_pixels_of_the_sensor(tmp_path, source):
    convert_labels(source, tmp_path / "a.json", names=NAMES, recording=recording())
    assert read_labels(tmp_path / "a.json").image_size == (8, 12)
    done = convert_labels(tmp_path / "a.json", tmp_path / "b.csv", recording=recording(height=16, width=24))
    assert read_labels(tmp_path / "b.csv").boxes["x"].tolist() == [2, 10, 5]
    assert done.notes == ("boxes scaled from 12 x 8 to 24 x 16 pixels",)
    done = convert_labels(tmp_path / "a.json", tmp_path / "c.csv")
    assert done.notes == ("without --recording, boxes are in pixels of images of 12 x 8, not of the sensor",)
    with pytest.raises(ValueError, match="YOLO labels are relative to the image size"):
        convert_labels(source, tmp_path / "d_labels", names=NAMES)


def test_numbered_images_need_their_times(tmp_path):
    (tmp_path / "a.txt").write_text("1,1,5,6,7,8,1,7,1\n3,1,5,6,7,8,1,3,1\n")
    done = convert_labels(tmp_path / "a.txt", tmp_path / "b.csv", timing=LabelTiming(fps=20))
    assert read_labels(tmp_path / "b.csv").boxes["t"].tolist() == [0, 100_000]
    assert (done.boxes, done.times) == (2, 2)
    assert done.notes[-1] == "class ids without names: 3, 7; give names by --label_map"
    named = convert_labels(tmp_path / "b.csv", tmp_path / "c.txt", names={3: "car", 7: "bus"})
    text = "MOT files with class names count classes from 1: class 1 of the MOT file is the class id 0"
    assert named.notes[-1] == text
    back = convert_labels(tmp_path / "c.txt", tmp_path / "d.csv")
    assert back.notes[-1] == text
    assert back.names == {3: "car", 7: "bus"}


@pytest.mark.parametrize(
    ("target", "label_format", "message"),
    [
        ("given.npy", None, "given.npy: source and target are the same, allowed: another target"),
        ("street.raw", "csv", "street.raw: the recording would be lost, allowed: another target"),
        ("old.csv", None, "old.csv: would be replaced, allowed: another target, or --overwrite"),
        ("new.txt", None, "new_timestamps.txt: would be replaced, allowed: another target, or --overwrite"),
        ("frames.csv", None, "frames.csv.frames.json: would be replaced, allowed: another target, or --overwrite"),
        ("full_labels", None, "full_labels: this folder exists, allowed: another target; folders are not replaced"),
        ("empty", "csv", "empty: this folder exists, allowed: another target; folders are not replaced"),
        ("a.bin", None, "a.bin: the name does not determine a label format"),
        ("a.bin", "fred", "--to: got fred, which is only read, allowed: npy, coco, yolo, "),
        ("a.bin", "kitti", "data.label_format: got 'kitti', allowed: auto, npy"),
    ],
)
def test_targets_that_are_refused(tmp_path, source, target, label_format, message):
    for name in ("street.raw", "old.csv", "new_timestamps.txt", "frames.csv.frames.json"):
        (tmp_path / name).write_text("mine")
    for name in ("full_labels/a", "empty"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=message):
        convert_labels(
            source, tmp_path / target, label_format, names=NAMES, recording=recording(tmp_path / "street.raw")
        )
    assert (tmp_path / "street.raw").read_text() == (tmp_path / "old.csv").read_text() == "mine"


def test_files_are_replaced_if_that_is_allowed(tmp_path, source):
    for name in ("a.csv", "a.csv.frames.json"):
        (tmp_path / name).write_text('{"first_t": 0, "delta_t": 7, "num_frames": 3}')
    convert_labels(source, tmp_path / "a.csv", names=NAMES, overwrite=True)
    assert not (tmp_path / "a.csv.frames.json").exists()  # it belonged to the earlier file
    assert read_labels(tmp_path / "a.csv").empty.tolist() == [20_000]
    (tmp_path / "b_labels").mkdir()
    convert_labels(source, tmp_path / "b_labels", names=NAMES, recording=recording())
    assert read_labels(tmp_path / "b_labels").boxes.size == 3
    with pytest.raises(ValueError, match="b_labels: this folder exists"):
        convert_labels(source, tmp_path / "b_labels", names=NAMES, recording=recording(), overwrite=True)


def test_sources_that_do_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.json: no such label file"):
        convert_labels(tmp_path / "none.json", tmp_path / "a.npy")


def test_the_folder_exists_when_a_format_outside_the_product_writes(tmp_path, source, monkeypatch):
    name = f"convert_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "import numpy as np\nfrom detector.labels import LabelFormat\n"
        "OWN = LabelFormat('_own.npy', np.load, write=lambda path, content: np.save(path, content.boxes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    convert_labels(source, tmp_path / "new" / "a_own.npy", label_format=f"{name}:OWN", names=NAMES)
    assert read_labels(tmp_path / "new" / "a_own.npy", f"{name}:OWN").boxes["t"].tolist() == [10_000, 10_000, 30_000]
