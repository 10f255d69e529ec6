from pathlib import Path

import pytest
from small_recordings import config, make_recording

from detector.data.builder.source import Source
from detector.labels import FoundLabels


def test_names_and_settings_of_a_source():
    assert Source.of(Path("in/street_td.dat")) == Source(Path("in/street_td.dat"))
    own = Source(Path("in/street_td.dat"), name="a", label_format="coco", event_columns="t,x,y,p")
    assert Source.of(own) is own
    assert (Source(Path("in/street_td.dat")).stem, own.stem) == ("street", "a")
    found = own.settings(config(event_format="DAT"))
    assert (found.label_format, found.event_format, found.event_columns) == ("coco", "DAT", "t,x,y,p")


def test_labels_are_given_or_beside_the_recording(tmp_path):
    recording = make_recording(tmp_path)
    beside = tmp_path / "street_bbox.npy"
    assert Source(recording).find_labels("auto") == FoundLabels(beside, "npy")
    other = beside.rename(tmp_path / "other.npy")
    assert Source(recording, labels=other).find_labels("auto") == FoundLabels(other, "npy")
    assert Source(recording, labels=other, label_format="coco").find_labels("auto").label_format == "coco"


def test_a_recording_without_labels(tmp_path):
    recording = make_recording(tmp_path, "street.raw")
    (tmp_path / "street_bbox.npy").unlink()
    message = "street.raw: the recording has no labels beside it, allowed: .*street_labels/.*; or give --labels PATH"
    with pytest.raises(FileNotFoundError, match=message):
        Source(recording).find_labels("auto")


def test_labels_of_a_folder_with_two_recordings(tmp_path):
    """The labels could belong to both, so the error names them and the name that they need."""
    recording = make_recording(tmp_path, "street.raw")
    make_recording(tmp_path, "road.raw")
    (tmp_path / "street_bbox.npy").unlink()
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0001.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    with pytest.raises(FileNotFoundError, match=r"street_labels/.* labels/"):
        Source(recording).find_labels("auto")
