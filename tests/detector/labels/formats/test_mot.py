import numpy as np
import pytest

from detector.events import BBOX_dtype
from detector.labels.formats.mot import MOT
from detector.labels.label_format import LabelFile


def read(tmp_path, text, labels=None):
    (tmp_path / "gt.txt").write_text(text)
    if labels is not None:
        (tmp_path / "labels.txt").write_text(labels)
    return MOT.read(tmp_path / "gt.txt")


def test_ground_truth_of_mot17(tmp_path):
    text = "1,2,912,484,97,109,0,7,1\n1,3,1338.5,418,167,379,1,1,0.25\n4,3,586,447,85,263,1,1,1\n6,2,1,2,3,4,0,8,1\n"
    found = read(tmp_path, text)
    assert found.boxes.dtype.names == ("t", "track_id", "x", "y", "w", "h", "class_confidence", "class_id")
    assert found.boxes.tolist() == [(1, 3, 1338.5, 418, 167, 379, 1, 1), (4, 3, 586, 447, 85, 263, 1, 1)]
    assert (found.numbered, found.first_image, found.names, found.image_size) == (True, 1, {}, None)
    assert found.empty.tolist() == []  # the only box of image 6 is not evaluated
    assert found.notes == ("2 boxes with the flag 0 (not evaluated) are not used, nor images that have no others",)


def test_export_of_cvat_with_class_names(tmp_path):
    found = read(tmp_path, "1,1,1363,569,103,241,1,3,0.86014\r\n2,-1,5,6,7,8,1,1,0\r\n", "cat\ndog\nperson\n")
    assert found.names == {0: "cat", 1: "dog", 2: "person"}
    assert found.boxes[["track_id", "class_id"]].tolist() == [(1, 2), (0, 0)]


def test_detections(tmp_path):
    found = read(tmp_path, "1, -1, 794.2, 47.5, 71.2, 174.8, 67.5, -1, -1, -1\n2, -1, 1, 2, 3, 4, 0, -1, -1, -1\n")
    assert found.boxes.dtype.names == ("t", "x", "y", "w", "h", "class_confidence", "class_id")
    assert found.boxes.tolist() == [(1, 794.2, 47.5, 71.2, 174.8, 67.5, 0), (2, 1, 2, 3, 4, 0, 0)]


@pytest.mark.parametrize(
    ("text", "scores", "classes"),
    [
        ("1,3,794.27,247.59,71.245,174.88,-1,-1,-1,-1\n", [1], [0]),
        ("1,3,794.27,247.59,71.245,174.88\n", [1], [0]),
        ("1,3,7,2,7,1,0.5\n2,3,7,2,7,1,0,\n", [0.5, 0], [0, 0]),
        ("1,1,1,2,3,4,1,-4.5,7.25,0\n1,2,1,2,3,4,1,3,7,0\n", [1, 1], [0, 0]),
        ("0,1,1,2,3,4,1,4,0,1\n", [1], [4]),
    ],
)
def test_missing_columns(text, scores, classes, tmp_path):
    found = read(tmp_path, text)
    assert found.boxes["class_confidence"].tolist() == scores
    assert found.boxes["class_id"].tolist() == classes
    assert bool(found.notes) == ("4.5" in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4,5\n", r"line 1: got 5 numbers with commas, allowed: image, track, left, top, width, height"),
        ("1 2 3 4 5 6 7\n", r"line 1: got 1 numbers with commas"),
        ("\n1,2,3,4,5,6,7,8,9,10,11,12,13\n", r"line 2: got 13 numbers"),
        ("1.5,2,3,4,5,6,1\n", r"line 1: got the image 1.5 and the track 2, allowed: whole numbers"),
        ("1,0.5,3,4,5,6,1\n", r"line 1: got the image 1 and the track 0.5"),
        ("nan,1,3,4,5,6,1\n", r"line 1: got the image nan"),
        ("1,inf,3,4,5,6,1\n", r"line 1: got the image 1 and the track inf"),
        ("1,2,x,4,5,6,1\n", r"line 1: got 'x', allowed: a number"),
    ],
)
def test_errors(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_boxes_without_class_and_class_names(tmp_path):
    with pytest.raises(ValueError, match=r"a box has no class, allowed: classes from 1, whose names are in the lines"):
        read(tmp_path, "1,1,2,3,4,5,1,-1,1\n", "cat\n")


@pytest.mark.parametrize("names", [{}, {0: "car", 2: "large bus"}])
@pytest.mark.parametrize(("scores", "tracks"), [(1, 0), ([1, 0.3, 0.7], [7, 0, 8])])
def test_round_trip(names, scores, tracks, tmp_path):
    boxes = np.zeros(3, BBOX_dtype)
    boxes["t"], boxes["class_id"], boxes["class_confidence"], boxes["track_id"] = (
        [50, 50, 150],
        [2, 0, 2],
        scores,
        tracks,
    )
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = [0.1, -4.7, 5], [1 / 3, 70, 8], [10, 20, 30.3], [15, 25, 35]
    MOT.write(tmp_path / "a.txt", LabelFile(boxes, names, (240, 304), np.array([100])))
    assert (tmp_path / "a_timestamps.txt").read_text() == "50\n100\n150\n"
    assert (tmp_path / "a_labels.txt").exists() == bool(names)
    found = MOT.read(tmp_path / "a.txt")
    assert (found.names, found.empty.tolist()) == (names, [2])
    assert found.boxes["t"].tolist() == [1, 1, 3]
    for name in set(found.boxes.dtype.names) - {"t"}:
        assert np.array_equal(found.boxes[name].astype(BBOX_dtype[name]), boxes[name]), name
    assert ("track_id" in found.boxes.dtype.names) == (tracks != 0)


def test_boxes_without_class_among_others(tmp_path):
    found = read(tmp_path, "1,1,2,3,4,5,1,-1,1\n2,1,2,3,4,5,1,3,1\n3,1,2,3,4,5,1,-1,1\n")
    assert found.boxes["class_id"].tolist() == [0, 3, 0]
    assert found.notes == ("2 boxes without class (-1) get the class id 0",)
