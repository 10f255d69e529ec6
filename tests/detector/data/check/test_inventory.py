import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from detector.data.check.inventory import find_data, give_labels, read_tensor_header, stray_labels
from detector.events.frames import Frames
from detector.labels import LabelTiming


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16", "float32"])
def test_every_type_that_is_built_is_read(tmp_path, dtype):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros((2, 1, 3, 4), dtype)
    header = read_tensor_header(tmp_path / "a.h5")
    assert (header.shape, header.dtype.name) == ((2, 1, 3, 4), dtype)


@pytest.mark.parametrize(
    ("place", "is_tensor"), [("data", True), ("CD/events", False), ("events/t", False), ("t", False)]
)
def test_hdf5_recordings_are_told_from_tensor_files(tmp_path, place, is_tensor):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[place] = np.zeros(3)
    (found,) = find_data(tmp_path / "a.h5")
    assert found.is_tensor == is_tensor


def test_header_of_a_tensor_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros((5, 2, 3, 4), "uint8")
        file["data"].attrs.update(delta_t=50_000, first_t=200_000, event_input_height=6, event_input_width=8)
    header = read_tensor_header(tmp_path / "a.h5")
    assert header.grid == Frames(200_000, 50_000, 5)
    assert header.sensor_size == (6, 8)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = np.zeros((5, 2, 3, 4), "uint8")
        file["data"].attrs["delta_t"] = 50_000
    header = read_tensor_header(tmp_path / "b.h5")
    assert (header.grid, header.sensor_size) == (Frames(0, 50_000, 5), (3, 4))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["data"] = np.zeros((5, 2, 3, 4), "int16")
    with pytest.raises(ValueError, match="c.h5: data has dtype int16, allowed: uint8, int8, float16, float32"):
        read_tensor_header(tmp_path / "c.h5")


def test_tables_of_events_are_recordings_and_tables_of_labels_are_not(tmp_path):
    (tmp_path / "a.csv").write_text("t,x,y,p\n1,2,3,1\n")
    (tmp_path / "labels.csv").write_text("t,x,y,w,h,class_id\n1,2,3,4,5,0\n")
    (tmp_path / ".b.raw").touch()
    (tmp_path / "c.json").touch()
    assert [file.path.name for file in find_data(tmp_path)] == ["a.csv"]


def write_coco(path, ids):
    """Boxes in all images but the last one, which is without boxes."""
    images = [{"id": index, "file_name": f"{index}.png", "width": 12, "height": 8} for index in ids]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 3, 4]} for i in ids[:-1]]
    categories = [{"id": 1, "name": "car"}]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))


@pytest.mark.parametrize(
    ("ids", "first", "expected"),
    [([0, 1, 5], None, [0, 1, 5]), ([1, 2, 7], None, [0, 1, 6]), ([4, 6, 8], 3, [1, 3, 5]), ([2, 4], None, [2, 4])],
)
def test_numbers_of_labelled_images(tmp_path, ids, first, expected):
    (tmp_path / "a.raw").write_bytes(b"")
    write_coco(tmp_path / "a.json", ids)
    (found,) = find_data(tmp_path / "a.raw", timing=LabelTiming(fps=25, first_image=first))
    assert found.image_numbers().tolist() == expected


def test_labels_without_image_numbers(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"")
    (found,) = find_data(tmp_path / "a.raw", timing=LabelTiming(fps=25))
    assert found.image_numbers() is None
    (tmp_path / "a_bbox.npy").write_bytes(b"no labels")
    assert found.image_numbers() is None
    (tmp_path / "a_bbox.npy").unlink()
    write_coco(tmp_path / "a.json", [1, 2])
    assert found.image_numbers().tolist() == [0, 1]
    (without,) = find_data(tmp_path / "a.raw")
    assert without.image_numbers() is None


def test_own_labels_that_are_not_used_are_not_stray(tmp_path):
    for name in ("a_td.dat", "a_bbox.npy", "b_bbox.npy", "other.csv"):
        (tmp_path / name).write_bytes(b"")
    (found,) = find_data(tmp_path / "a_td.dat")
    used = replace(found, labels=tmp_path / "other.csv")
    assert list(stray_labels([found])) == list(stray_labels([used])) == [tmp_path / "b_bbox.npy"]


def test_labels_are_given_to_a_single_recording(tmp_path):
    for name in ("a.raw", "b.raw", "boxes.csv"):
        (tmp_path / name).write_bytes(b"")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["data"] = np.zeros(3)
    one, two, tensor = (find_data(tmp_path / name)[0] for name in ("a.raw", "b.raw", "c.h5"))
    assert give_labels([one, two], None) == [one, two]
    (found,) = give_labels([one], str(tmp_path / "boxes.csv"))
    assert (found.path, found.labels_path) == (tmp_path / "a.raw", tmp_path / "boxes.csv")
    with pytest.raises(ValueError, match=r"^--labels: got x.csv for 2 files, allowed: a single recording$"):
        give_labels([one, two], "x.csv")
    with pytest.raises(ValueError, match=r"^--labels: got x.csv for a tensor file, allowed: a single recording$"):
        give_labels([tensor], "x.csv")
    with pytest.raises(FileNotFoundError, match=r"none.csv: no such label file$"):
        give_labels([one], tmp_path / "none.csv")
