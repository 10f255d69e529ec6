import numpy as np
import pytest

from detector.data.check.inventory import DataFile, FileContent
from detector.data.check.label_file import check_labels, near_duplicates
from detector.events import BBOX_dtype, EventCD, write_dat


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
