import numpy as np
import pytest

from detector.data.check.inventory import DataFile, FileContent
from detector.data.check.label_file import check_labels, near_duplicates
from detector.events import BBOX_dtype, EventCD, write_dat
from detector.events.frames import Frames


def boxes(*rows):
    """Rows of t, x, y, w, h, class_id, track_id."""
    return np.array([(*row, 1.0) for row in rows], BBOX_dtype)


def test_boxes_that_are_nearly_equal():
    found = near_duplicates(
        boxes(
            (5, 10, 20, 100, 50, 0, 1),
            (5, 61, 20, 100, 50, 0, 7),
            (5, 11, 20, 100, 50, 0, 2),  # an overlap of 99 / 101 with the first one
            (4, 10, 20, 100, 50, 0, 4),
            (4, 10, 20.5, 100, 50, 0, 9),  # 49.5 / 50.5
        )
    )
    assert found.tolist() == [[3, 4], [0, 2]]


def test_boxes_that_are_different_objects():
    assert near_duplicates(boxes()).tolist() == []
    pairs = [
        ((5, 10, 20, 100, 50, 0, 1), (5, 13, 20, 100, 50, 0, 2)),  # 97 / 103
        ((5, 10, 20, 100, 50, 0, 1), (6, 11, 20, 100, 50, 0, 2)),
        ((5, 10, 20, 100, 50, 0, 1), (5, 11, 20, 100, 50, 1, 2)),
        ((5, 10, 20, 100, 50, 0, 1), (5, 11, 20, 100, 50, 0, 1)),  # one track twice is another finding
        ((5, 10, 20, 100, 50, 0, 1), (5, 10, 20, 100, 50, 0, 2)),  # as are equal boxes
    ]
    assert [near_duplicates(boxes(*pair)).tolist() for pair in pairs] == [[]] * 5


def test_pairs_of_nearly_equal_boxes_are_a_warning(tmp_path):
    labels = boxes((300_000, 10, 20, 40, 30, 0, 5), (300_000, 10.5, 20, 40, 30, 0, 8), (600_000, 9, 9, 9, 9, 0, 5))
    (found,) = findings_of(labels, tmp_path)
    assert (found.severity, found.kind, found.path) == ("warning", "box nearly twice", tmp_path / "a_bbox.npy")
    assert found.found == "1 times, first at t 300000 us: track_id 5 and 8, x 10, y 20"
    (pixels,) = found.evidence
    assert pixels.boxes["box"].tolist() == [[10, 20, 40, 30]] and pixels.sensor_size == (60, 80)
    assert pixels.boxes["nearly the same box"].tolist() == [[10.5, 20, 40, 30]]


def test_boxes_with_others_between_them():
    rows = [(5, 10 + step / 10, y, 100, 50, 0, step) for step, y in enumerate((20, 90, 150, 220, 20.2))]
    assert near_duplicates(boxes(*rows)).tolist() == [[0, 4]]


def findings_of(labels, folder, sensor_size=(60, 80)):
    np.save(folder / "a_bbox.npy", labels)
    return check_labels(DataFile(folder / "a.h5", None, True), FileContent(sensor_size), None).findings


def corners(number):
    """Boxes of 8 x 6 px on a sensor of 80 x 60 px, with x2, y2 in the place of w, h."""
    return boxes(*((step, 5 * step, 3 * step, 5 * step + 8, 3 * step + 6, 0, step) for step in range(number)))


@pytest.mark.parametrize(("number", "severity"), [(14, "error"), (10, "error"), (9, "warning")])
def test_corners_in_the_place_of_sizes_are_an_error(tmp_path, number, severity):
    (found,) = findings_of(corners(number), tmp_path)
    assert (found.severity, found.kind) == (severity, "box reaches beyond the sensor")
    assert found.cause == "w, h look like the bottom-right corner x2, y2: store the width x2 - x and the height y2 - y"


def test_relative_boxes_are_an_error(tmp_path):
    (found,) = findings_of(boxes((5, 0.1, 0.2, 0.3, 0.4, 0, 1), (9, 0.5, 0.5, 0.5, 0.5, 0, 1)), tmp_path)
    assert (found.severity, found.kind) == ("error", "odd labels")
    assert found.found.startswith("x, y, w, h are at most 1, as if relative to the image")


def test_centres_in_the_place_of_corners_are_a_warning(tmp_path):
    """Uncropped boxes of objects that leave the frame look the same."""
    labels = boxes(*((step, 10 + 5 * step, 30, 16, 12, 0, step) for step in range(13)))
    (found,) = findings_of(labels, tmp_path)
    assert (found.severity, found.kind) == ("warning", "box reaches beyond the sensor")
    assert found.cause.startswith("x, y look like the centres of the boxes")


def test_unknown_classes_have_the_ids_of_the_file(tmp_path):
    path = tmp_path / "a.csv"
    rows = ["1000,5,5,9,9,0,car", "2000,5,5,9,9,3,bus", "2000,30,5,9,9,8,van", "3000,5,5,9,9,3,bus"]
    path.write_text("\n".join(["t,x,y,w,h,class_id,class_name", *rows]) + "\n")
    write_dat(tmp_path / "a_td.dat", np.zeros(5, EventCD), 60, 80)
    file = DataFile(tmp_path / "a_td.dat", None, False, labels=path)
    found = check_labels(file, FileContent(), {4: "car", 7: "tram"}).findings
    (finding,) = (each for each in found if each.kind == "class not in the label map")
    assert (finding.found, finding.allowed) == ("3 times, first class bus at t 2000 us", "4 car, 7 tram")


def rows(**changes):
    """Boxes of 8 x 6 px of two tracks, at 100, 200, 300 and 400 us; `changes` apply to the box with the index 4."""
    labels = boxes(*((t, 10 + 40 * k, t / 10, 8, 6, k, k) for t in (100, 200, 300, 400) for k in (0, 1)))
    for name, value in changes.items():
        labels[name][4] = value
    return labels


def kinds_of(labels, folder):
    """Kinds of the findings for a sensor of 80 x 60 px, and frames that begin at 50 us and end at 450 us."""
    np.save(folder / "a_bbox.npy", labels)
    content = FileContent((60, 80), Frames(50, 100, 4))
    found = check_labels(DataFile(folder / "a.h5", None, True), content, {0: "car", 1: "bus"})
    return [(each.severity, each.kind, each.found) for each in found.findings]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"x": 73}, None),  # a pixel beyond the sensor
        ({"x": 73.5}, ("warning", "box reaches beyond the sensor", "x 73.5, y 30, w 8, h 6 at t 300 us")),
        ({"x": 80}, ("error", "box outside the sensor", "x 80, y 30, w 8, h 6 at t 300 us")),
        ({"x": -8}, ("error", "box outside the sensor", "x -8, y 30, w 8, h 6 at t 300 us")),
        ({"x": -1}, None),
        ({"x": -1.5}, ("warning", "box reaches beyond the sensor", "x -1.5, y 30, w 8, h 6 at t 300 us")),
        ({"y": 55}, None),
        ({"y": 55.5}, ("warning", "box reaches beyond the sensor", "x 10, y 55.5, w 8, h 6 at t 300 us")),
        ({"y": 60}, ("error", "box outside the sensor", "x 10, y 60, w 8, h 6 at t 300 us")),
        ({"y": -6}, ("error", "box outside the sensor", "x 10, y -6, w 8, h 6 at t 300 us")),
        ({"y": -1}, None),
        ({"w": 0, "x": 90}, ("error", "box of no area", "x 90, y 30, w 0, h 6 at t 300 us")),
        ({"h": 0}, ("error", "box of no area", "x 10, y 30, w 8, h 0 at t 300 us")),
        ({"class_id": 1, "track_id": 5}, None),
        (
            {"class_id": 1},
            ("warning", "track changes its class", "2 times, first track_id 0 is of class_id 1 from t 300 us"),
        ),
        ({"track_id": 1}, ("error", "track twice at one time", "track_id 1 at t 300 us")),
        ({"t": 199}, ("error", "label times fall", "from 200 to 199 us at box 4")),
    ],
)
def test_one_fault_of_a_label_file(tmp_path, changes, expected):
    found = kinds_of(rows(**changes), tmp_path)
    if expected is None:
        assert found == []
    else:
        assert expected in found


@pytest.mark.parametrize(
    ("move", "expected"),
    [
        (-51, [("error", "label before the start", "2 times, first t 49 us")]),
        (-50, [("warning", "label at the start", "2 times, first t 50 us")]),
        (-49, []),
        (50, []),
        (51, [("error", "label after the end", "2 times, first t 451 us")]),
    ],
)
def test_labels_at_the_borders_of_the_frames(tmp_path, move, expected):
    labels = rows()
    labels["t"] += move
    assert kinds_of(labels, tmp_path) == expected


def test_boxes_twice_and_boxes_without_tracks(tmp_path):
    labels = rows()
    twice = np.concatenate([labels[:3], labels[2:]])
    twice["track_id"][3] = 9
    assert kinds_of(twice, tmp_path) == [("warning", "box twice", "x 10, y 20 at t 200 us")]
    labels["track_id"] = 7
    assert kinds_of(labels, tmp_path) == [("warning", "no track ids", "all 8 boxes have track_id 7")]
