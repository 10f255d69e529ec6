import json
import sys

import h5py
import numpy as np
import pytest

from detector.config.groups import DataConfig
from detector.data.check.dataset import check_dataset
from detector.data.layouts import find_layout
from detector.data.layouts.rvt import DATA, REPRESENTATION
from detector.events import BBOX_dtype
from detector.labels import load_labels
from detector.preprocess.representation import representation_of

ENDS = [61_000, 111_000, 161_003, 211_006]
"""Ends of four frames. The labelled times are 111000 and 211006, the second and the fourth frame."""


def make_sequence(folder, file="event_representations.h5", shape=(20, 240, 304), **options):
    (folder / REPRESENTATION).mkdir(parents=True)
    (folder / "labels_v2").mkdir()
    frames = np.zeros((len(ENDS), *shape), np.uint8)
    frames[3, 13, 7, 5], frames[0, 0, 1, 2] = 9, 200  # ON events of the fourth micro-bin, OFF events of the first
    frames[1, 19, 9, 9] = len(folder.name)  # different in each sequence
    with h5py.File(folder / REPRESENTATION / file, "w") as target:
        target.create_dataset("data", data=frames, chunks=(1, *shape), maxshape=(None, *shape), **options)
    np.save(folder / REPRESENTATION / "timestamps_us.npy", np.array(ENDS))
    np.save(folder / REPRESENTATION / "objframe_idx_2_repr_idx.npy", np.array([1, 3]))
    labels = np.zeros(3, BBOX_dtype)
    labels["t"], labels["x"], labels["w"], labels["h"] = (111_000, 111_000, 211_006), (10, 20, 30), 50, 60
    labels["class_id"], labels["class_confidence"] = (0, 1, 1), 1
    np.savez(folder / "labels_v2" / "labels.npz", labels=labels, objframe_idx_2_label_idx=np.array([0, 2]))
    np.save(folder / "labels_v2" / "timestamps_us.npy", np.array([111_000, 211_006]))


def test_gen1_becomes_a_dataset(tmp_path):
    for k, split in enumerate(("train", "val", "test"), 1):
        make_sequence(tmp_path / "in" / split / f"{split * k}_30")
    find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)
    label_map = json.loads((tmp_path / "out" / "label_map_dictionary.json").read_text())
    assert label_map == {"0": "car", "1": "pedestrian"}
    with h5py.File(tmp_path / "out" / "val" / "valval_30.h5") as file:
        data, attributes = file["data"][:], dict(file["data"].attrs)
    assert data.shape == (4, 20, 240, 304)
    found = [(tuple(at), data[tuple(at)]) for at in np.argwhere(data).tolist()]
    assert found == [((0, 0, 1, 2), 10), ((1, 19, 9, 9), 9), ((3, 13, 7, 5), 9)]
    assert (attributes["preprocess"], attributes["divisor"], attributes["first_t"]) == ("stacked_histo", 10.0, 0)
    parameters = {"downsampling_factor": 0, "max_incr_per_pixel": 10, "num_utbins": 10}
    assert json.loads(attributes["preprocess_params"]) == parameters
    boxes = load_labels(tmp_path / "out" / "val" / "valval_30_bbox.npy")
    # at the ends of the second and the fourth frame
    expected = [(100_000, 10, 0), (100_000, 20, 1), (200_000, 30, 1)]
    assert boxes[["t", "x", "class_id"]].tolist() == expected


def test_the_dataset_passes_the_check(tmp_path):
    for k, split in enumerate(("train", "val", "test"), 1):
        make_sequence(tmp_path / "in" / split / f"{split * k}_30")
    find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)
    data = DataConfig(preprocess="stacked_histo", num_utbins=10, max_incr_per_pixel=10, height=240, width=304)
    findings = check_dataset(tmp_path / "out", data=data).findings
    assert [finding for finding in findings if finding.severity == "error"] == []


def test_the_channels_have_the_order_of_stacked_histo():
    frames = representation_of(DATA).empty(1, 20, 240, 304)
    columns = [np.array([value]) for value in (5, 7, 1, 16_000)]  # an ON event after 16 of 50 ms
    representation_of(DATA).fill(tuple(columns), frames, 50_000)
    assert np.argwhere(frames).tolist() == [[0, 13, 7, 5]]  # polarity * 10 + micro-bin


def test_one_megapixel_is_at_half_size_with_labels_in_sensor_pixels(tmp_path):
    name = "event_representations_ds2_nearest.h5"
    make_sequence(tmp_path / "in" / "test" / "moorea", name, (20, 360, 640), compression="gzip")
    find_layout("rvt_1mpx").convert(tmp_path / "in", tmp_path / "out", False)
    with h5py.File(tmp_path / "out" / "test" / "moorea.h5") as file:
        attributes = file["data"].attrs
        assert file["data"].shape == (4, 20, 360, 640)
        assert (attributes["event_input_height"], attributes["event_input_width"]) == (720, 1280)
        assert json.loads(attributes["preprocess_params"])["downsampling_factor"] == 1
    assert load_labels(tmp_path / "out" / "test" / "moorea_bbox.npy")["w"].tolist() == [50] * 3


def test_the_other_dataset_is_refused(tmp_path):
    make_sequence(tmp_path / "in" / "test" / "moorea", shape=(20, 360, 640))
    with pytest.raises(ValueError, match=r"data has shape \(4, 20, 360, 640\), expected: uint8 \(T, 20, 240, 304\)"):
        find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)
    with pytest.raises(FileNotFoundError, match="event_representations_ds2_nearest.h5: no such file of tensors"):
        find_layout("rvt_1mpx").convert(tmp_path / "in", tmp_path / "out", False)
    assert not list((tmp_path / "out").glob("*/*"))


def test_a_missing_filter_is_named(tmp_path, monkeypatch):
    make_sequence(tmp_path / "in" / "val" / "a", compression="gzip")
    monkeypatch.setattr("detector.data.layouts.rvt._available", lambda number: number != 1)
    with pytest.raises(ValueError, match="compressed by HDF5 filter 1, which is missing: pip install hdf5plugin"):
        find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)


def test_the_plugin_is_not_imported_for_filters_that_are_available(tmp_path, monkeypatch):
    (tmp_path / "hdf5plugin.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hdf5plugin", raising=False)
    make_sequence(tmp_path / "in" / "val" / "a", compression="gzip")
    find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)
    assert (tmp_path / "out" / "val" / "a.h5").is_file()


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_on_a_terminal_when_asked_for(tmp_path, capsys, monkeypatch, progress):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    make_sequence(tmp_path / "in" / "val" / "a")
    find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", progress)
    assert ("1/1" in capsys.readouterr().err) == progress


def test_blosc_is_read_where_its_filter_is_installed(tmp_path):
    plugin = pytest.importorskip("hdf5plugin")
    make_sequence(tmp_path / "in" / "val" / "a", **plugin.Blosc("zstd", 1, plugin.Blosc.SHUFFLE))
    find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)
    with h5py.File(tmp_path / "out" / "val" / "a.h5") as file:
        assert file["data"][3, 13, 7, 5] == 9


def test_a_second_run_keeps_the_tensor_files(tmp_path):
    make_sequence(tmp_path / "in" / "val" / "a")
    layout = find_layout("rvt_gen1")
    layout.convert(tmp_path / "in", tmp_path / "out", False)
    target = tmp_path / "out" / "val" / "a.h5"
    before = target.stat().st_mtime_ns
    target.with_name("a_bbox.npy").unlink()
    layout.convert(tmp_path / "in", tmp_path / "out", False)
    assert target.stat().st_mtime_ns == before
    assert len(load_labels(target.with_name("a_bbox.npy"))) == 3


def test_labels_that_do_not_fit_the_frames_are_refused(tmp_path):
    make_sequence(tmp_path / "in" / "val" / "a")
    np.save(tmp_path / "in" / "val" / "a" / REPRESENTATION / "objframe_idx_2_repr_idx.npy", np.array([1, 4]))
    with pytest.raises(ValueError, match=r"labels\.npz: labels of 2 times, expected: 2 of 4 frames"):
        find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)


@pytest.mark.parametrize("name", ["labels_v2/labels.npz", f"{REPRESENTATION}/timestamps_us.npy"])
def test_missing_files_are_named(tmp_path, name):
    make_sequence(tmp_path / "in" / "val" / "a")
    (tmp_path / "in" / "val" / "a" / name).unlink()
    with pytest.raises(FileNotFoundError, match=name.rpartition("/")[2]):
        find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)


@pytest.mark.parametrize("name", ["labels_v2/labels.npz", f"{REPRESENTATION}/timestamps_us.npy"])
def test_damaged_files_are_named(tmp_path, name):
    sequence = tmp_path / "in" / "val" / "a"
    make_sequence(sequence)
    content = (sequence / name).read_bytes()
    (sequence / name).write_bytes(content[:20] if name.endswith("npz") else b"")
    with pytest.raises(ValueError, match=r"val/a: damaged or incomplete labels or times \(.*\), download it again"):
        find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)


def test_a_missing_array_and_overlapping_labels_are_named(tmp_path):
    sequence = tmp_path / "in" / "val" / "a"
    make_sequence(sequence)
    with np.load(sequence / "labels_v2" / "labels.npz") as file:
        labels = file["labels"]
    np.savez(sequence / "labels_v2" / "labels.npz", labels=labels, objframe_idx_2_label_idx=np.array([2, 1]))
    with pytest.raises(ValueError, match=r"labels.npz: the labelled times do not contain each box once, expected: inc"):
        find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)
    np.savez(sequence / "labels_v2" / "labels.npz", labels=labels)
    with pytest.raises(ValueError, match=r"val/a: damaged or incomplete labels or times \(KeyError: .*label_idx"):
        find_layout("rvt_gen1").convert(tmp_path / "in", tmp_path / "out", False)
