import dataclasses

import numpy as np
import pytest

from detector.config.extensions import LABEL_FORMATS
from detector.labels.label_format import LabelFile, LabelFormat, find_format

OWN = """
from detector.labels import LabelFormat

BOXES = LabelFormat("_boxes.txt", open)
NO_FORMAT = open
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module outside the product, under a name that no other test uses."""
    name = f"label_format_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_formats_by_name():
    suffixes = {name: find_format(name).suffix for name in LABEL_FORMATS}
    assert suffixes["npy"] == "_bbox.npy" and suffixes["coco"] == ".json"
    assert len(set(suffixes.values())) == len(suffixes) == 8
    assert {name for name in LABEL_FORMATS if find_format(name).is_folder} == {"yolo", "voc"}
    assert {name for name in LABEL_FORMATS if find_format(name).write is None} == {"dsec_det", "fred"}


def test_a_format_by_its_import_path(module):
    found = find_format(f"{module}:BOXES")
    assert (found.suffix, found.read) == ("_boxes.txt", open)
    assert (found.patterns, found.matches, found.write, found.is_folder) == ((), None, None, False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kitti", "data.label_format: got 'kitti', allowed: auto, npy.* import path"),
        ("no_such_module:BOXES", "data.label_format: got 'no_such_module:BOXES', which cannot be imported .*No module"),
        ("{}:NO_FORMAT", "data.label_format: .*:NO_FORMAT is a builtin_function_or_method, allowed: a LabelFormat"),
    ],
)
def test_names_of_no_format(module, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        find_format(name.format(module))
    assert "\n" not in str(caught.value)


def test_a_label_file_states_only_what_its_format_gives():
    files = [LabelFile(np.zeros(count, [("t", "<i8")])) for count in (1, 2)]
    for file in files:
        assert (file.names, file.image_size, file.numbered) == ({}, None, False)
        assert (file.first_image, file.time_unit) == (None, None)
        assert (file.empty.dtype, file.empty.shape, file.notes) == (np.int64, (0,), ())
    assert files[0].names is not files[1].names


@pytest.mark.parametrize("record", [LabelFile(np.zeros(0)), LabelFormat(".txt", open)])
def test_records_cannot_be_changed(record):
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.names = {0: "car"}
