import numpy as np
import pytest

from detector.labels.formats.dsec_det import DSEC_DET
from detector.labels.formats.npy import NPY

FIELDS = [
    *[("t", "<u8"), ("x", "<f8"), ("y", "<f8"), ("h", "<f8"), ("w", "<f8")],
    *[("class_id", "u1"), ("class_confidence", "<f8"), ("track_id", "<u8")],
]


def save(path, count=1):
    np.save(path, np.array([(50_000, 1.5, 20, 4, 30, 2, 0.5, 9)] * count, FIELDS))
    return path


def test_tracks(tmp_path):
    path = save(tmp_path / "a_tracks.npy")
    assert DSEC_DET.matches(path)
    assert not NPY.matches(path)
    found = DSEC_DET.read(path)
    assert found.boxes[["t", "x", "y", "w", "h", "class_id"]].tolist() == [(50_000, 1.5, 20, 30, 4, 2)]
    assert (found.names[0], found.names[2], found.names[7], len(found.names)) == ("pedestrian", "car", "train", 8)
    assert (found.time_unit, found.numbered, found.image_size) == ("us", False, None)


def test_fields_in_another_order_are_recognized_by_the_name_of_the_file(tmp_path):
    order = ["t", "x", "y", "w", "h", "class_id", "class_confidence", "track_id"]
    np.save(tmp_path / "tracks.npy", np.zeros(2, [(name, dict(FIELDS)[name]) for name in order]))
    np.save(tmp_path / "x_bbox.npy", np.load(tmp_path / "tracks.npy"))
    assert DSEC_DET.matches(tmp_path / "tracks.npy")
    assert not DSEC_DET.matches(tmp_path / "x_bbox.npy")


def test_cut_files(tmp_path):
    path = save(tmp_path / "tracks.npy", count=5)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a part of the 5 boxes in its header, allowed: a complete file"):
        DSEC_DET.read(path)
    np.save(path, np.zeros(2, object))
    with pytest.raises(ValueError, match=r"the file contains Python objects"):
        DSEC_DET.read(path)


def test_the_order_of_fields_does_not_make_tracks_of_dsec(tmp_path):
    path = save(tmp_path / "labels.npy")
    assert NPY.matches(path)
    assert not DSEC_DET.matches(path)
