"""The labels of a recording are found beside it, whatever their format."""

from pathlib import Path

import numpy as np
import pytest

from detector.events import BBOX_dtype
from detector.labels import detect_format, find_labels, labels_path, save_labels
from detector.labels.find import frames_file, is_prediction, searched_names
from detector.utils.remote import Address

YOLO = "0 0.5 0.25 0.125 0.0625\n"
COCO = '{"images": [{"id": 1, "t": 5}], "annotations": [], "categories": [{"id": 1, "name": "car"}]}'
CSV = "t,x,y,w,h,class_id\n5,1,2,3,4,0\n"
EVENTS = "t,x,y,p\n5,1,2,1\n"


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "street_td.dat"
    path.write_bytes(b"% Version 2\n")
    return path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "found", "label_format"),
    [
        ("street.json", COCO, "street.json", "coco"),
        ("street_labels/street_000007.txt", YOLO, "street_labels", "yolo"),
        ("street_labels.csv", CSV, "street_labels.csv", "csv"),
        ("annotations.json", COCO, "annotations.json", "coco"),
        ("instances.json", COCO, "instances.json", "coco"),
        ("labels/000007.txt", YOLO, "labels", "yolo"),
    ],
)
def test_labels_beside_a_recording(tmp_path, recording, name, text, found, label_format):
    assert find_labels(recording) is None
    write(tmp_path / name, text)
    assert find_labels(recording) == (tmp_path / found, label_format, ())
    assert labels_path(recording) == tmp_path / found
    assert find_labels(recording, label_format).path == tmp_path / found
    assert find_labels(recording, "voc") is None


def test_own_labels_come_first_and_the_others_are_named(tmp_path, recording):
    write(tmp_path / "annotations.json", COCO)
    write(tmp_path / "street.json", COCO)
    save_labels(tmp_path / "street_bbox.npy", np.zeros(1, BBOX_dtype))
    found = find_labels(recording)
    assert (found.path.name, found.label_format) == ("street_bbox.npy", "npy")
    assert [path.name for path in found.others] == ["street.json", "annotations.json"]


def test_detections_of_a_model_come_last(tmp_path, recording):
    save_labels(tmp_path / "street_bbox.npy", np.zeros(1, BBOX_dtype))
    (tmp_path / "street_bbox.npy.frames.json").touch()
    write(tmp_path / "street.json", COCO.replace("{", '{"info": {"num_frames": 3}, ', 1))
    assert find_labels(recording).path.name == "street_bbox.npy"
    write(tmp_path / "street_labels/street_000007.txt", YOLO)
    found = find_labels(recording)
    assert found.path.name == "street_labels"
    assert [path.name for path in found.others] == ["street_bbox.npy", "street.json"]


def test_labels_of_a_folder_belong_to_its_only_recording(tmp_path, recording):
    write(tmp_path / "annotations.json", COCO)
    (tmp_path / "street.raw").touch()  # the same recording in another format
    assert find_labels(recording) is not None
    (tmp_path / "other.raw").touch()
    assert find_labels(recording) is None
    write(tmp_path / "other.json", COCO)
    assert find_labels(tmp_path / "other.raw").path.name == "other.json"


def test_a_table_of_events_is_not_a_label_file(tmp_path):
    events = tmp_path / "street.csv"
    write(events, EVENTS)
    assert find_labels(events) is None
    write(tmp_path / "street_labels.csv", EVENTS)
    assert find_labels(events) is None
    write(tmp_path / "street_labels.csv", CSV)
    assert find_labels(events).path.name == "street_labels.csv"
    write(tmp_path / "labels.csv", CSV)
    assert [path.name for path in find_labels(events).others] == ["labels.csv"]


def test_labels_at_an_address(tmp_path):
    folder = f"file://{tmp_path}"
    assert find_labels(Address(f"{folder}/street.raw")) is None
    write(tmp_path / "street.json", COCO)
    assert find_labels(Address(f"{folder}/street.raw")).path == Address(f"{folder}/street.json")


def test_format_of_a_path(tmp_path):
    write(tmp_path / "any name.txt", CSV)
    assert detect_format(tmp_path / "any name.txt") == "csv"
    write(tmp_path / "b.txt", "nothing\n")
    with pytest.raises(
        ValueError, match=r"b.txt: not a label file or folder of a known format, allowed: npy, coco, yolo"
    ):
        detect_format(tmp_path / "b.txt")
    with pytest.raises(FileNotFoundError, match=r"c.txt: no such label file"):
        detect_format(tmp_path / "c.txt")


def test_names_in_error_messages():
    names = searched_names(Path("in/street_td.dat")).split(", ")
    assert {"street_bbox.npy", "street.json", "street_labels/", "street_voc/", "street_bbox.csv"} <= set(names)
    assert names[names.index("street_coordinates.txt") + 1] == "or in a folder with one recording annotations.json"
    assert {"labels/", "Annotations/", "gt/gt.txt", "labels.csv"} <= set(names)
    assert searched_names(Path("street.raw"), "dsec_det") == (
        "street_tracks.npy, or in a folder with one recording tracks.npy, object_detections/left/tracks.npy"
    )
    assert searched_names(Address("file:///in/street.raw"), "coco") == "street.json"
    assert "/" not in searched_names(Address("file:///in/street.raw"))  # folders are not found there


@pytest.mark.parametrize(
    ("name", "text", "given", "wanted"),
    [
        ("labels/000007.txt", YOLO, "labels/", "street_labels/"),
        ("instances.json", COCO, "instances.json", "street.json"),
    ],
)
def test_labels_of_one_of_several_recordings_are_named_in_error_messages(
    tmp_path, recording, name, text, given, wanted
):
    (tmp_path / "b.raw").touch()
    (tmp_path / "c_td.dat").touch()
    (tmp_path / "c.raw").touch()
    assert "instead" not in searched_names(recording)
    write(tmp_path / name, text)
    assert find_labels(recording) is None
    assert searched_names(recording) == (
        f"{wanted} instead of {given}, which could belong to any of the 3 recordings in this folder"
    )
    (tmp_path / given.rstrip("/")).rename(tmp_path / wanted.rstrip("/"))
    assert find_labels(recording).path == tmp_path / wanted.rstrip("/")


def test_boxes_of_a_detector_have_its_frames(tmp_path):
    write(tmp_path / "a.json", '{"num_frames": 3, "annotations": []}')
    write(tmp_path / "b.json", COCO)
    (tmp_path / "c.json").touch()
    write(tmp_path / "d.csv", CSV)
    write(tmp_path / "e.csv", CSV)
    frames_file(tmp_path / "e.csv").touch()
    (tmp_path / "f.json").mkdir()
    names = ("a.json", "b.json", "c.json", "d.csv", "e.csv", "f.json", "none.json")
    assert [is_prediction(tmp_path / name) for name in names] == [True, False, False, False, True, False, False]
    assert is_prediction(Address("s3://bucket/a.json")) is False
