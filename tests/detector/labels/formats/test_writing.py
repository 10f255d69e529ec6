import numpy as np
import pytest

from detector.labels.formats.reading import indexed_names
from detector.labels.formats.writing import (
    box_rows,
    has_scores,
    has_tracks,
    index_names,
    number_times,
    require_images,
    scores_of,
    size_of_images,
    write_folder,
    write_times,
)
from detector.labels.label_format import LabelFile


def boxes_of(**columns):
    boxes = np.zeros(len(next(iter(columns.values()))), [(name, "f4" if name != "t" else "i8") for name in columns])
    for name, values in columns.items():
        boxes[name] = values
    return boxes


def test_images_are_numbered_from_0_with_those_without_boxes():
    content = LabelFile(boxes_of(t=[70, 20, 70]), empty=np.array([50, 90.0]))
    times, images = number_times(content)
    assert (times.tolist(), images.tolist()) == ([20, 50, 70, 90], [2, 0, 2])
    assert times.dtype == np.int64
    times, images = number_times(LabelFile(boxes_of(t=[])))
    assert (times.tolist(), images.tolist()) == ([], [])


def test_a_folder_needs_an_image():
    require_images(LabelFile(boxes_of(t=[3])))
    require_images(LabelFile(boxes_of(t=[]), empty=np.array([3])))
    with pytest.raises(ValueError, match="there are no labels to write, needed: at least one box or one image without"):
        require_images(LabelFile(boxes_of(t=[])))


def test_rows_are_exact_python_numbers():
    boxes = boxes_of(t=[5, 7], x=[0.1, 2], y=[3, 4])
    rows = list(box_rows(boxes, "y", "t", "x"))
    assert rows == [(3.0, 5, float(np.float32(0.1))), (4.0, 7, 2.0)]
    assert [type(value) for value in rows[0]] == [float, int, float]


@pytest.mark.parametrize(("tracks", "found"), [([0, 0], False), ([0, 4], True), ([], False)])
def test_tracks_are_ids_other_than_0(tracks, found):
    assert has_tracks(boxes_of(track_id=tracks)) is found
    assert has_tracks(boxes_of(t=tracks)) is False


@pytest.mark.parametrize(
    ("scores", "found", "written"),
    [
        ([1, 1], False, [1, 1]),
        ([0, 0], False, [1, 1]),
        ([0, 1], True, [0, 1]),
        ([1, 2], True, [1, 2]),
        ([0.25, 0.25], True, [0.25, 0.25]),
        ([], False, []),
    ],
)
def test_scores_are_not_all_1_or_all_0(scores, found, written):
    boxes = boxes_of(class_confidence=scores)
    assert has_scores(boxes) is found and scores_of(boxes) == written


def test_boxes_without_a_field_of_scores():
    assert not has_scores(boxes_of(t=[3, 4])) and scores_of(boxes_of(t=[3, 4])) == [1, 1]


def test_the_size_of_images():
    assert size_of_images(LabelFile(boxes_of(t=[]), image_size=(240, 304)), "YOLO") == (240, 304)
    with pytest.raises(ValueError, match="^YOLO labels are relative to the image size, needed: the height and width$"):
        size_of_images(LabelFile(boxes_of(t=[])), "YOLO")


def test_class_names_by_line(tmp_path):
    names = {3: "bus", 1: "car"}
    assert index_names(names) == "\ncar\n\nbus\n" and index_names({}) == ""
    (tmp_path / "classes.txt").write_text(index_names(names))
    assert indexed_names(tmp_path / "classes.txt") == names
    assert index_names({9999: "bus"}).count("\n") == 10_000


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({-1: "a", 2: "b"}, "class ids from -1 to 2, allowed: 0 to 9999"),
        ({0: "a", 10_000: "b"}, "class ids from 0 to 10000, allowed: 0 to 9999"),
        ({0: "a\nb"}, r"the class name 'a\\nb' does not fit into a line, allowed: a text of one line"),
        ({0: " "}, "the class name ' ' does not fit into a line"),
    ],
)
def test_names_that_do_not_fit_into_lines(names, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        index_names(names)


def test_a_file_of_times(tmp_path):
    write_times(tmp_path / "times.txt", np.array([50, 2**40]))
    assert (tmp_path / "times.txt").read_text() == "50\n1099511627776\n"


def test_a_folder_appears_when_it_is_complete(tmp_path):
    target = tmp_path / "new" / "labels"
    with write_folder(target) as part:
        (part / "a.txt").write_text("1")
        assert part.parent == target.parent and not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["labels"]
    assert (target / "a.txt").read_text() == "1"
    (tmp_path / "plain").mkdir()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode
    with write_folder(tmp_path / "plain") as part:  # it is empty
        (part / "b.txt").touch()
    assert (tmp_path / "plain" / "b.txt").is_file()


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), write_folder(tmp_path / "labels") as part:
        (part / "a.txt").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["folder", "file"])
def test_what_exists_is_not_replaced(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").touch()
    (tmp_path / "file").write_text("mine")
    message = f"{name}: exists already, allowed: a new or an empty folder"
    with pytest.raises(ValueError, match=message), write_folder(tmp_path / name):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "folder" / "mine.txt").is_file()
