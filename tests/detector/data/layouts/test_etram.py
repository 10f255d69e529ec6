import h5py
import numpy as np
import pytest

from detector.config.groups import DataConfig
from detector.data.builder.dataset import build_dataset
from detector.data.layouts import find_layout
from detector.events import BBOX_dtype
from detector.labels import load_labels


def make_recording(folder, name, class_id, suffix=".h5"):
    folder.mkdir(parents=True, exist_ok=True)
    if suffix == ".h5":
        with h5py.File(folder / f"{name}_td.h5", "w") as file:
            for column, values in (("x", (1279, 3)), ("y", (719, 5)), ("p", (0, 1)), ("t", (12, 130_000))):
                file[f"events/{column}"] = np.array(values, "i8" if column == "t" else "u2")
            file["events/width"], file["events/height"] = 1280, 720
    else:
        (folder / f"{name}_td{suffix}").touch()
    make_labels(folder, name, class_id)


def make_labels(folder, name, class_id):
    folder.mkdir(parents=True, exist_ok=True)
    boxes = np.zeros(2, BBOX_dtype)
    boxes["t"], boxes["x"], boxes["w"], boxes["h"], boxes["class_id"] = (33_333, 100_000), (8, 9), 30, 40, class_id
    np.save(folder / f"{name}_bbox.npy", boxes)


def test_the_names_of_the_recordings_state_the_split(tmp_path):
    static = tmp_path / "Static"
    for part, name in (("train_h5_6", "train_night_0040"), ("val_h5_1", "val_day_001"), ("test_h5_1", "test_day_002")):
        make_recording(static / "HDF5" / part, name, 2)
    make_recording(static / "RAW" / "train_1", "train_night_0040", 2, ".raw")
    make_recording(static / "RAW" / "train_1", "train_day_001", 2, ".raw")
    make_labels(static / "Eight_class_annotations" / "eight_class_annotations_train", "train_night_0040", 7)
    found = {source.name: source for source in find_layout("etram").find(tmp_path)}
    assert {name: source.split for name, source in found.items()} == {
        "train_night_0040": "train",
        "train_day_001": "train",
        "val_day_001": "val",
        "test_day_002": "test",
    }
    assert found["train_night_0040"].recording.suffix == ".h5"
    assert found["train_day_001"].recording.suffix == ".raw"
    assert "Eight" not in str(found["train_night_0040"].labels)
    eight = {source.name: source.labels for source in find_layout("etram_8").find(tmp_path)}
    annotations = static / "Eight_class_annotations" / "eight_class_annotations_train"
    assert eight["train_night_0040"] == annotations / "train_night_0040_bbox.npy"
    assert not eight["train_day_001"].exists(), "labels with three classes are not used as labels with eight"


def test_eight_classes_need_their_annotations(tmp_path):
    make_recording(tmp_path / "train_h5_1", "train_day_0001", 0)
    with pytest.raises(FileNotFoundError, match="eight_class_annotations_train/train_day_0001_bbox.npy"):
        find_layout("etram_8").find(tmp_path)


@pytest.mark.parametrize(("name", "class_id", "label"), [("etram", 2, "micromobility"), ("etram_8", 6, "tram")])
def test_a_build(tmp_path, name, class_id, label):
    make_recording(tmp_path / "in" / "HDF5" / "val_h5_1", "val_day_001", 2)
    make_labels(tmp_path / "in" / "class annotations" / "eight_class_annotations_val", "val_day_001", 6)
    layout = find_layout(name)
    assert layout.names[class_id] == label
    data = DataConfig(delta_t=50_000, height=360, width=640)
    output = build_dataset(
        layout.find(tmp_path / "in"), tmp_path / "out", data, None, dict(layout.names), progress=False
    )
    with h5py.File(output / "val" / "val_day_001.h5") as file:
        assert np.argwhere(file["data"][:]).tolist() == [[0, 0, 359, 639], [2, 1, 2, 1]]
    boxes = load_labels(output / "val" / "val_day_001_bbox.npy")
    assert boxes[["t", "x", "class_id"]].tolist() == [(33_333, 8, class_id), (100_000, 9, class_id)]


def test_labels_with_eight_classes_are_recognized_by_any_folder(tmp_path):
    make_recording(tmp_path / "RAW" / "train_1", "train_day_0001", 0, ".raw")
    (tmp_path / "RAW" / "train_1" / "train_day_0001_bbox.npy").unlink()
    make_labels(tmp_path / "HDF5" / "train_h5_1", "train_day_0001", 1)
    make_labels(tmp_path / "Eight_class_annotations" / "train", "train_day_0001", 7)
    (three,), (eight,) = (find_layout(name).find(tmp_path) for name in ("etram", "etram_8"))
    assert three.labels == tmp_path / "HDF5" / "train_h5_1" / "train_day_0001_bbox.npy"
    assert eight.labels == tmp_path / "Eight_class_annotations" / "train" / "train_day_0001_bbox.npy"
    make_labels(tmp_path / "labels", "train_day_0001", 2)
    with pytest.raises(ValueError, match="HDF5/.*0001_bbox.npy and .*labels/.*0001_bbox.npy are labels of the same"):
        find_layout("etram").find(tmp_path)
