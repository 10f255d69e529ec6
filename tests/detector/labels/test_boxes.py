from pathlib import Path

import numpy as np
import pytest

from detector.events import BBOX_dtype
from detector.labels import labels_path, load_labels, save_labels
from detector.labels.boxes import to_boxes, to_microseconds
from detector.utils.remote import Address

LIMIT = np.iinfo(BBOX_dtype["class_id"]).max

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


@pytest.mark.parametrize(
    ("times", "unit", "wanted"),
    [
        ([2, -3], "us", [2, -3]),
        ([2, -3], "ms", [2_000, -3_000]),
        ([2, -3], "s", [2_000_000, -3_000_000]),
        ([1_499, 1_500, -500, -501], "ns", [1, 2, 0, -1]),
        ([0.25, -1.5], "s", [250_000, -1_500_000]),
        ([1_400.0, 1_600.0], "ns", [1, 2]),
        ([4_611_686_018_427, -4_611_686_018_427], "s", [4_611_686_018_427_000_000, -4_611_686_018_427_000_000]),
    ],
)
def test_times_in_microseconds(times, unit, wanted):
    assert to_microseconds(np.array(times), unit, "a").tolist() == wanted


@pytest.mark.parametrize("times", [[3, 5], [3.0, 5.0]])
def test_an_offset_is_added_in_microseconds(times):
    assert to_microseconds(np.array(times), "ms", "a", -7).tolist() == [2_993, 4_993]


@pytest.mark.parametrize("times", [[0, 4_611_686_018_428], [-4_611_686_018_428, 0]])
def test_times_of_more_than_64_bits(times):
    message = rf"^a runs from {times[0]} to {times[1]} s, allowed: times of 64 bits"
    with pytest.raises(ValueError, match=message):
        to_microseconds(np.array(times), "s", "a")
    assert to_microseconds(np.zeros(0), "s", "a").tolist() == []
    with pytest.raises(ValueError, match="label_time_unit: got 'min', allowed: us, ms, s, ns"):
        to_microseconds(np.array([1]), "min", "a")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("class_id", -1, "label field class_id runs from -1 to 4294967295, allowed: 0 to 4294967295"),
        ("class_id", 2**32, "label field class_id runs from 0 to 4294967296, allowed: 0 to 4294967295"),
        ("class_id", 1.5, "label field class_id holds fractions, the first 1.5 in box 1, allowed: whole numbers"),
        ("x", 1e39, "label field x runs from 0.0 to 1e\\+39, allowed: "),
        ("x", np.nan, "label field x holds NaN or infinity, allowed: finite numbers"),
    ],
)
def test_values_that_the_boxes_cannot_hold(name, value, message):
    kind = np.dtype(type(value)).char if isinstance(value, float) else "i8"
    raw = np.zeros(3, [(field, kind if field == name else BBOX_dtype[field]) for field in BBOX_dtype.names])
    raw[name][1] = value
    raw[name][2] = LIMIT if (value == -1) else 0
    with pytest.raises(ValueError, match=f"^a: {message}"):
        to_boxes(raw, "a")
    raw[name][1] = 0
    assert to_boxes(raw, "a")[name].tolist() == raw[name].tolist()
