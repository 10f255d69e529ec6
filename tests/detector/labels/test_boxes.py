from pathlib import Path

import numpy as np
import pytest

from detector.events import BBOX_dtype
from detector.labels import labels_path, load_labels, save_labels
from detector.utils.remote import Address

OWN_FORMATS = """
import numpy as np
from detector.labels import LabelFormat

FIELDS = {"class_id": "u1", "x": "f8", "y": "f8", "w": "f8", "h": "f8", "track_id": "i4", "class_confidence": "f4"}

def read_text(path):
    return np.loadtxt(path, dtype=[("t", "f8"), *FIELDS.items()], ndmin=1)

BOXES = LabelFormat("_boxes.txt", read_text)
NO_TIMES = LabelFormat("_boxes.txt", lambda path: np.zeros(2, list(FIELDS.items())))
"""


@pytest.fixture
def formats(tmp_path, monkeypatch):
    """A module outside the product, under a name that no other test uses."""
    name = f"formats_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN_FORMATS)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_format_outside_the_product_reads_as_npy_does(tmp_path, formats):
    rows = [(3_000, 1.0, 2.0, 3.0, 4.0, 1, 7, 0.5), (1_000, 5.0, 6.0, 7.0, 8.0, 0, 8, 1.0)]
    boxes = np.array(rows, BBOX_dtype)
    save_labels(tmp_path / "a_bbox.npy", boxes)
    path = tmp_path / "a_boxes.txt"
    path.write_text("0.003 1 1 2 3 4 7 0.5\n0.001 0 5 6 7 8 8 1\n")
    found = load_labels(path, "s", label_format=f"{formats}:BOXES")
    assert found.dtype == BBOX_dtype
    assert np.array_equal(found, load_labels(tmp_path / "a_bbox.npy"))
    assert load_labels(path, "s", -5, f"{formats}:BOXES")["t"].tolist() == [995, 2_995]


def test_the_label_file_of_a_recording(formats):
    assert labels_path(Path("in/street_td.dat")) == Path("in/street_bbox.npy")
    assert labels_path(Path("street.raw"), f"{formats}:BOXES") == Path("street_boxes.txt")
    assert labels_path(Address("s3://b/street_td.dat")) == Address("s3://b/street_bbox.npy")


@pytest.mark.parametrize(
    ("label_format", "message"),
    [
        ("{}:NO_TIMES", "a.txt: label fields found: class_id, .*; required: t, x"),
        ("{}:BOXES", "a.txt: not a complete label file of format .*BOXES: the dtype passed requires"),
    ],
)
def test_errors_of_formats_are_one_line(tmp_path, formats, label_format, message):
    (tmp_path / "a.txt").write_text("nonsense\n")
    with pytest.raises(ValueError, match=message) as caught:
        load_labels(tmp_path / "a.txt", label_format=label_format.format(formats))
    assert "\n" not in str(caught.value)


def test_values_of_a_format_outside_the_product_are_checked(tmp_path, formats):
    (tmp_path / "a.txt").write_text("0.5 1 1 2 3 4 7 0.5\n")
    with pytest.raises(ValueError, match=r"a.txt: label field t holds fractions, the first 0.5 in box 0"):
        load_labels(tmp_path / "a.txt", label_format=f"{formats}:BOXES")
