"""Each format recognizes its own files and no other ones."""

import numpy as np
import pytest

from detector.config.extensions import LABEL_FORMATS
from detector.events import BBOX_dtype, EventCD
from detector.labels.label_format import LabelFile, find_format

FORMATS = {name: find_format(name) for name in LABEL_FORMATS}
DSEC_TYPE = [(name, "<f8") for name in ("x", "y", "h", "w")]


def content():
    boxes = np.zeros(3, BBOX_dtype)
    boxes["t"], boxes["class_id"], boxes["class_confidence"], boxes["track_id"] = [50_000, 50_000, 150_000], 1, 1, 7
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = [3.5, 40, 5], [6, 70.25, 8], [10, 20, 30], [15, 25, 35]
    return LabelFile(boxes, {0: "car", 1: "bus"}, (240, 304), np.array([100_000]))


def write_sample(name, folder):
    path = folder / f"sample{FORMATS[name].suffix}"
    if name == "dsec_det":
        dtype = [("t", "<u8"), *DSEC_TYPE, ("class_id", "u1"), ("class_confidence", "<f8"), ("track_id", "<u8")]
        np.save(path, np.array([(50_000, 3.5, 6, 15, 10, 2, 1, 9)], dtype))
    elif name == "fred":
        path.write_text("0.033333: 1.5, 2.0, 11.5, 32.0, 4\n")
    else:
        FORMATS[name].write(path, content())
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_only_the_own_format_matches(name, tmp_path):
    path = write_sample(name, tmp_path)
    found = [
        other for other, format_ in FORMATS.items() if format_.is_folder == path.is_dir() and format_.matches(path)
    ]
    assert found == [name]


@pytest.mark.parametrize("name", FORMATS)
def test_matches_never_raises(name, tmp_path):
    paths = [write_sample(other, tmp_path) for other in FORMATS]
    paths += [tmp_path / "missing", tmp_path]
    for count, data in enumerate([b"", b"\0" * 100, b"\xff\xfe{", b"\x93NUMPY\x01\x00\xff\xff{", b"[" * 10_000, b"\n"]):
        paths.append(tmp_path / f"damaged_{count}")
        paths[-1].write_bytes(data)
    for path in paths:
        assert FORMATS[name].matches(path) in (True, False)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("events.csv", "x,y,p,t\n1,2,1,1000\n"),
        ("events.csv", "t,x,y,p\n1000,1,2,1\n"),
        ("bare.csv", "1,2,1,1000\n3,4,0,1001\n"),
        ("map.json", '{"0": "car", "1": "bus"}'),
        ("frames.json", '{"first_t": 0, "delta_t": 50000, "num_frames": 3}'),
        ("labelme.json", '{"version": "5.0", "shapes": [{"label": "car", "points": [[1, 2], [3, 4]]}]}'),
        ("tasks.json", '[{"id": 1, "annotations": [{"id": 2, "result": []}]}]'),
        ("datumaro.json", '{"info": {}, "categories": {"label": {}}, "items": []}'),
        ("times.txt", "50000\n100000\n"),
        ("times.txt", "0 50000 frame.png\n"),
        ("kitti.txt", "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"),
    ],
)
def test_other_files_match_no_format(file, text, tmp_path):
    path = tmp_path / file
    path.write_text(text)
    assert [name for name, format_ in FORMATS.items() if not format_.is_folder and format_.matches(path)] == []


def test_events_in_an_npy_file_match_no_format(tmp_path):
    np.save(tmp_path / "events.npy", np.zeros(3, EventCD))
    assert [name for name, format_ in FORMATS.items() if format_.matches(tmp_path / "events.npy")] == []


@pytest.mark.parametrize("name", ["yolo", "voc"])
def test_folders_of_other_files_do_not_match(name, tmp_path):
    assert not FORMATS[name].matches(tmp_path)
    for file, text in [
        ("timestamps.txt", "1\n"),
        ("kitti_1.txt", "Car 0.00 0\n"),
        ("annotations.xml", "<annotations/>"),
    ]:
        (tmp_path / file).write_text(text)
    assert not FORMATS[name].matches(tmp_path)
