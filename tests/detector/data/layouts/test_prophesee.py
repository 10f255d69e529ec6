import h5py
import numpy as np
import pytest

from detector.config.groups import DataConfig
from detector.data.builder.dataset import build_dataset
from detector.data.layouts import find_layout
from detector.events import BBOX_dtype, EventCD, write_dat
from detector.labels import load_labels

GEN1_STEM, STEM = "17-04-04_11-00-13_cut_15_61500000_121500000", "moorea_2019-02-19_005_td_671500000_731500000"
ARCHIVE = "detection_dataset_duration_60s_ratio_1.0"


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_gen1_in_the_folders_of_its_archives(tmp_path):
    for part in ("train_a", "train", "val", "test"):
        touch(*(tmp_path / ARCHIVE / part / f"{part}_{GEN1_STEM}{end}" for end in ("_td.dat", "_bbox.npy")))
    found = find_layout("gen1").find(tmp_path)
    assert {source.name: source.split for source in found} == {
        f"test_{GEN1_STEM}": "test",
        f"train_{GEN1_STEM}": "train",
        f"train_a_{GEN1_STEM}": "train",
        f"val_{GEN1_STEM}": "val",
    }
    for source in found:
        assert source.recording.name == f"{source.name}_td.dat"
        assert source.labels == source.recording.with_name(f"{source.name}_bbox.npy")
        assert (source.sensor, source.label_format) == ((240, 304), "npy")


def test_one_megapixel_with_the_hdf5_files_of_rvt(tmp_path):
    touch(tmp_path / "val" / f"{STEM}_td.h5", tmp_path / "val" / f"{STEM}_bbox.npy")
    (found,) = find_layout("1mpx").find(tmp_path)
    assert (found.split, found.name, found.sensor) == ("val", STEM, (720, 1280))
    assert found.labels == tmp_path / "val" / f"{STEM}_bbox.npy"


def test_a_single_split_and_a_recording_in_two_formats(tmp_path):
    touch(tmp_path / "test" / f"{GEN1_STEM}_td.dat.h5", tmp_path / "test" / f"{GEN1_STEM}_td.dat")
    (found,) = find_layout("gen1").find(tmp_path / "test")
    assert (found.split, found.recording.name) == ("test", f"{GEN1_STEM}_td.dat")


@pytest.mark.parametrize(("name", "sensor", "wanted"), [("gen1", (240, 304), 1), ("1mpx", (720, 1280), 2)])
def test_a_build(tmp_path, name, sensor, wanted):
    layout = find_layout(name)
    for split in ("train", "val", "test"):
        folder = tmp_path / "in" / split
        folder.mkdir(parents=True)
        events = np.zeros(3, EventCD)
        events["t"], events["x"], events["y"], events["p"] = (10, 60_000, 149_999), 7, 11, 1
        write_dat(folder / f"{split}_td.dat", events, *sensor)
        boxes = np.zeros(2, BBOX_dtype)
        boxes["t"], boxes["x"], boxes["w"], boxes["h"], boxes["class_id"] = (50_000, 150_000), (3, 5), 40, 60, wanted
        np.save(folder / f"{split}_bbox.npy", boxes)
    data = DataConfig(delta_t=50_000, height=sensor[0], width=sensor[1])
    output = build_dataset(
        layout.find(tmp_path / "in"), tmp_path / "out", data, None, dict(layout.names), progress=False
    )
    for split in ("train", "val", "test"):
        with h5py.File(output / split / f"{split}.h5") as file:
            assert np.argwhere(file["data"][:]).tolist() == [[k, 1, 11, 7] for k in range(3)]
        boxes = load_labels(output / split / f"{split}_bbox.npy")
        assert boxes[["t", "x", "class_id"]].tolist() == [(50_000, 3, wanted), (150_000, 5, wanted)]


def test_links_are_followed(tmp_path):
    """The split of a linked recording is that of the link, wherever the file is."""
    touch(tmp_path / "disk" / "a_td.dat", tmp_path / "disk2" / "b_td.dat")
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "train" / "a_td.dat").symlink_to(tmp_path / "disk" / "a_td.dat")
    (tmp_path / "set" / "val").symlink_to(tmp_path / "disk2")
    (tmp_path / "set" / "train" / "again").symlink_to(tmp_path / "set")
    found = find_layout("gen1").find(tmp_path / "set")
    assert {source.name: source.split for source in found} == {"a": "train", "b": "val"}
