import numpy as np
import pytest

from detector.events import BBOX_dtype
from detector.labels.formats.yolo import YOLO
from detector.labels.label_format import LabelFile


def fill(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_lines_of_a_box(tmp_path):
    found = YOLO.read(fill(tmp_path / "labels", rec_12="3 0.5 0.25 0.2 0.1\r\n\r\n0 0.75 0.5 0.5 1.0\r\n", rec_3=""))
    assert found.boxes.dtype.names == ("t", "x", "y", "w", "h", "class_id", "class_confidence")
    assert found.boxes["t"].tolist() == [12, 12]
    assert found.boxes["class_id"].tolist() == [3, 0]
    np.testing.assert_allclose(found.boxes["x"], [0.4, 0.5])
    np.testing.assert_allclose(found.boxes["y"], [0.2, 0.0])
    assert (found.boxes["w"].tolist(), found.boxes["h"].tolist()) == ([0.2, 0.5], [0.1, 1.0])
    assert (found.image_size, found.numbered, found.first_image) == ((1, 1), True, None)
    assert found.empty.tolist() == [3]


@pytest.mark.parametrize(
    ("text", "scores", "tracks"),
    [
        ("0 0.5 0.5 0.1 0.2 0.75\n0 0.5 0.5 0.1 0.2 1\n", [0.75, 1], None),
        ("0 0.5 0.5 0.1 0.2 7\n0 0.5 0.5 0.1 0.2 1\n", [1, 1], [7, 1]),
        ("0 0.5 0.5 0.1 0.2 0.75 7\n0 0.5 0.5 0.1 0.2 0.5 1\n", [0.75, 0.5], [7, 1]),
    ],
)
def test_scores_and_tracks(text, scores, tracks, tmp_path):
    boxes = YOLO.read(fill(tmp_path, rec_1=text)).boxes
    assert boxes["class_confidence"].tolist() == scores
    assert ("track_id" in boxes.dtype.names) == (tracks is not None)
    if tracks is not None:
        assert boxes["track_id"].tolist() == tracks


@pytest.mark.parametrize("text", ["2 0.1 0.2 0.5 0.3 0.2 0.8\n", "2 0.1 0.2 0.5 0.3 0.2 0.8 0.3 0.4\n"])
def test_polygons_become_boxes(text, tmp_path):
    found = YOLO.read(fill(tmp_path, rec_1=text))
    np.testing.assert_allclose([found.boxes[name][0] for name in "xywh"], [0.1, 0.2, 0.4, 0.6])
    assert found.notes == ("1 polygons were replaced by the boxes around them",)


@pytest.mark.parametrize(
    ("place", "name", "text", "names"),
    [
        ("labels", "classes.txt", "car\r\nlarge bus\n", {0: "car", 1: "large bus"}),
        (".", "obj.names", "car\n\nbus", {0: "car", 2: "bus"}),
        (".", "data.yaml", "nc: 2\nnames: ['no', bus]\n", {0: "no", 1: "bus"}),
        (".", "data.yaml", "path: ../x\nnames:\n  0: yes\n  5: bus\n", {0: "yes", 5: "bus"}),
        (".", "data.yaml", "train: images\n", {}),
    ],
)
def test_class_names(place, name, text, names, tmp_path):
    folder = fill(tmp_path / "labels" / "train", rec_1="0 0.5 0.5 0.1 0.2\n")
    (tmp_path / place / name).write_text(text)
    assert YOLO.read(folder).names == names
    assert YOLO.read(folder.parent).names == names


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a_1": "0 1 2 3"}, r"a_1.txt, line 1: got 4 numbers, allowed: class cx cy w h"),
        ({"a_1": "\n0 12 40 7 9"}, r"a_1.txt, line 2: got 12, which looks like pixels, allowed: coordinates divided"),
        ({"a_1": "0 2 2.5 0.1 0.1"}, r"a_1.txt, line 1: got 2.5, which looks like pixels"),
        ({"a_1": "0 0.5 nan 0.1 0.1"}, r"a_1.txt, line 1: got nan, which looks like pixels"),
        ({"a_1": "0.5 0.5 0.5 0.1 0.1"}, r"line 1: got the class 0.5, allowed: a whole number"),
        ({"a_1": "car 0.5 0.5 0.1 0.1"}, r"line 1: got 'car', allowed: a number"),
        ({"a_1": "0 0.5 1_0 0.1 0.1"}, r"line 1: got '1_0', allowed: a number"),
        ({"a_1": "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7"}, r"line 1: got 8 numbers, allowed"),
        ({"a_1": "", "b_01": ""}, r"a_1.txt and b_01.txt both have the image number 1, allowed: one file per image"),
        ({"a_1": "0 0.1 0.2 0.3 0.4 " + "1" * 200_000 + "x"}, r"line 1: got '1111.*, allowed: a number"),
        ({"left": ""}, r"'left.txt' does not contain an image number"),
        ({"classes": "car"}, r"contains no .txt files of images"),
        ({"a_1": "\0"}, r"a_1.txt contains NUL bytes"),
    ],
)
def test_errors(files, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        YOLO.read(fill(tmp_path, **files))


def test_errors_of_encoding_and_yaml(tmp_path):
    fill(tmp_path, rec_1="0 0.5 0.5 0.1 0.2\n")
    for text in ("names: [&a [b], *a]", "names: {a: b}", "names: [" * 2000):
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"^data.yaml"):
            YOLO.read(tmp_path)
    (tmp_path / "rec_2.txt").write_bytes(b"0 0.5 \xff")
    with pytest.raises(ValueError, match=r"rec_2.txt: byte 6 is not UTF-8"):
        YOLO.read(tmp_path)


def sample():
    boxes = np.zeros(3, BBOX_dtype)
    boxes["t"], boxes["class_id"], boxes["class_confidence"] = [50, 50, 150], [2, 0, 2], 1
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = [0, 303.7, 5], [1 / 3, 70, 8], [10, 20, 30.3], [15, 25, 35]
    return boxes


def read_pixels(folder, height, width):
    """Boxes in pixels, computed as in `detector.labels.load`."""
    found = YOLO.read(folder)
    boxes = found.boxes.copy()
    for name, size in zip("xywh", (width, height) * 2, strict=True):
        boxes[name] *= size
    return found, boxes


@pytest.mark.parametrize("scores", [1, [0.25, 0.3, 1]])
def test_round_trip(scores, tmp_path):
    boxes = sample()
    boxes["class_confidence"] = scores
    YOLO.write(tmp_path / "a", LabelFile(boxes, {0: "car", 2: "bus"}, (240, 304), np.array([100])))
    names = ["classes.txt", "frame_000000.txt", "frame_000001.txt", "frame_000002.txt", "timestamps.txt"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "timestamps.txt").read_text() == "50\n100\n150\n"
    found, pixels = read_pixels(tmp_path / "a", 240, 304)
    assert found.names == {0: "car", 2: "bus"}
    assert found.boxes["t"].tolist() == [0, 0, 2]
    assert found.empty.tolist() == [1]
    for name in ("x", "y", "w", "h", "class_id", "class_confidence"):
        assert np.array_equal(pixels[name].astype(BBOX_dtype[name]), boxes[name]), name
    columns = 5 if scores == 1 else 6
    assert {len(line.split()) for line in (tmp_path / "a" / "frame_000000.txt").read_text().splitlines()} == {columns}


def test_writing_needs_the_image_size_and_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"YOLO labels are relative to the image size, needed: the height and width"):
        YOLO.write(tmp_path / "a", LabelFile(sample()))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes").write_text("keep")
    with pytest.raises(ValueError, match=r"b: exists already, allowed: a new or an empty folder"):
        YOLO.write(tmp_path / "b", LabelFile(sample(), {}, (240, 304)))
    with pytest.raises(ValueError, match=r"class ids from 0 to 12345, allowed: 0 to 9999"):
        YOLO.write(tmp_path / "c", LabelFile(sample(), {0: "a", 12345: "b"}, (240, 304)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


def test_triangles_with_whole_numbers_at_the_end(tmp_path):
    found = YOLO.read(fill(tmp_path, rec_1="0 0.1 0.1 0.5 0.1 0.3 1\n"))
    np.testing.assert_allclose([found.boxes[name][0] for name in "xywh"], [0.1, 0.1, 0.4, 0.9])
    assert found.notes == ("1 polygons were replaced by the boxes around them",)


def test_a_polygon_that_ends_in_scientific_notation(tmp_path):
    found = YOLO.read(fill(tmp_path, rec_1="0 0.5 0.5 0.6 0.2 0.2 1e-03\n"))
    np.testing.assert_allclose([found.boxes[name][0] for name in "xywh"], [0.2, 0.001, 0.4, 0.499])


def test_a_single_track(tmp_path):
    found = YOLO.read(fill(tmp_path, rec_1="0 0.5 0.5 0.1 0.2 0.75 1\n", rec_2="0 0.9 0.5 0.2 0.2 0.5 1\n"))
    assert found.boxes[["class_confidence", "track_id"]].tolist() == [(0.75, 1), (0.5, 1)]
    assert found.notes == ("lines of 7 numbers are boxes with score and track, not triangles",)


def test_keypoints_are_left_out(tmp_path):
    found = YOLO.read(fill(tmp_path, rec_1="3 0.5 0.25 0.2 0.1 0.45 0.3 2 0.55 0.2 0\n"))
    np.testing.assert_allclose([found.boxes[name][0] for name in "xywh"], [0.4, 0.2, 0.2, 0.1])
    assert found.notes == ("keypoints of 1 boxes are not used",)


def test_folders_of_several_recordings(tmp_path):
    for name, first in (("a", 1), ("b", 5)):
        fill(tmp_path / name, **{f"{first + k:06}": "0 0.5 0.5 0.2 0.2" for k in range(3)})
    with pytest.raises(ValueError, match="several recordings, folder a and folder b, allowed: one; split them into"):
        YOLO.read(tmp_path)
    fill(tmp_path / "b", f_1="")
    with pytest.raises(ValueError, match="both have the image number 1, allowed: .*give each recording its own folder"):
        YOLO.read(tmp_path)


def test_no_labels_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="there are no labels to write"):
        YOLO.write(tmp_path / "a", LabelFile(sample()[:0], {}, (240, 304)))
    assert list(tmp_path.iterdir()) == []
