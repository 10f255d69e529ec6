import json
from argparse import Namespace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.distributed as dist

from detector.config import Config
from detector.data_factory import get_classes_from_json, psee_data, setup_psee_classes, setup_psee_load_labels
from detector.events.types import BBOX_dtype
from detector.preprocess.representation import representation_of

LABEL_MAP = {"0": "pedestrian", "1": "car", "2": "empty"}
HEIGHT, WIDTH, DELTA_T = 24, 32, 50_000


def write_pair(split: Path, name: str, num_frames: int = 20, attrs: dict | None = None, data=None, rows=None) -> None:
    rng = np.random.default_rng(len(name) + num_frames)
    if data is None:
        data = rng.integers(0, 6, (num_frames, 2, HEIGHT, WIDTH), dtype=np.uint8)
    if rows is None:
        rows = [((k + 1) * DELTA_T, 2, 4, 10, 12, k % 2, k % 2, 1) for k in range(num_frames)]
    with h5py.File(split / f"{name}.h5", "w") as file:
        file["data"] = data
        file["data"].attrs.update(attrs or {})
    np.save(split / f"{name}_bbox.npy", np.array(rows, BBOX_dtype))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "label_map_dictionary.json").write_text(json.dumps(LABEL_MAP))
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
        for index, length in enumerate((20, 9, 33)):
            write_pair(tmp_path / split, f"rec{index}", length)
    return tmp_path


def settings(folder: Path, **leaves) -> Namespace:
    small = {"num_tbins": 4, "batch_size": 2, "num_workers": 0, "min_box_diag": 0, "min_box_side": 0}
    overrides = {f"data.{key}": value for key, value in {"dataset_path": str(folder), **small, **leaves}.items()}
    return Config().with_overrides(overrides).to_hparams()


def test_classes_leave_out_the_empty_label(folder):
    assert get_classes_from_json(folder) == ["pedestrian", "car"]
    classes, lookup = setup_psee_classes(folder / "label_map_dictionary.json")
    assert classes == ["pedestrian", "car"]
    assert lookup.tolist() == [1, 2, -1]


def test_wanted_classes_are_numbered_in_their_order(folder):
    (folder / "label_map_dictionary.json").write_text(json.dumps({"0": "bus", "2": "car", "5": "truck"}))
    classes, lookup = setup_psee_classes(folder / "label_map_dictionary.json", ["truck", "bus"])
    assert classes == ["truck", "bus"]
    assert lookup.tolist() == [2, -1, -1, -1, -1, 1]


@pytest.mark.parametrize("name", ["cyclist", "empty"])
def test_an_unknown_class_is_refused_with_the_known_ones(folder, name: str):
    with pytest.raises(ValueError, match=rf"data.classes: got '{name}', allowed: pedestrian, car \(the names in"):
        setup_psee_classes(folder / "label_map_dictionary.json", ["car", name])


@pytest.mark.parametrize("label_map", [{"0": "car", "1": "car"}, {"0": "empty"}, {}, {"-1": "car"}])
def test_a_label_map_without_distinct_classes_is_refused(folder, label_map: dict):
    (folder / "label_map_dictionary.json").write_text(json.dumps(label_map))
    with pytest.raises(ValueError, match="label_map_dictionary.json: classes are .*allowed: distinct names"):
        get_classes_from_json(folder)


def test_load_labels_has_the_reference_defaults(folder):
    load_labels, classes = setup_psee_load_labels(folder / "label_map_dictionary.json", 2)
    assert classes == ["pedestrian", "car"]
    assert (load_labels.num_tbins, load_labels.min_box_diag, load_labels.interpolation) == (2, 30, True)
    labels = np.array([(10, 0, 0, 18, 24, 1, 0, 1), (10, 0, 0, 18, 23, 0, 0, 1)], BBOX_dtype)
    boxes, labeled = load_labels(labels, 0, height=100, width=100, delta_t=10)
    assert boxes[0].tolist() == [[0, 0, 18, 24, 2]]
    assert labeled.tolist() == [True, False]


@pytest.mark.parametrize(
    ("leaves", "dtype", "divisor", "reversible", "signed"),
    [
        ({}, "uint8", 5, True, False),
        ({"preprocess": "stacked_histo"}, "uint8", 5, True, False),
        ({"preprocess": "diff"}, "int8", 5, True, True),
        ({"preprocess": "timesurface"}, "uint8", 255, False, False),
        ({"preprocess": "event_cube"}, "uint8", 255, True, False),
        ({"preprocess": "event_cube", "split_polarity": False}, "int8", 127, True, True),
    ],
)
def test_representations_differ_in_their_bytes_and_in_what_time_does(
    folder, leaves: dict, dtype: str, divisor: float, reversible: bool, signed: bool
):
    hparams = settings(folder, **leaves)
    channels = representation_of(Config.from_hparams(hparams).data).channels
    for path in (folder / "train").glob("*.h5"):
        write_pair(folder / "train", path.stem, data=np.ones((20, channels, HEIGHT, WIDTH), dtype))
    dataset = psee_data(hparams, "train").dataset.dataset
    assert (dataset.augment.reversible, dataset.augment.signed) == (reversible, signed)
    assert (dataset.dtype, dataset.divisor) == (dtype, divisor)
    batch = next(iter(psee_data(hparams, "train", keep_dtype=True)))
    assert (str(batch["inputs"].dtype), batch["divisor"]) == (f"torch.{dtype}", divisor)


def test_another_seed_gives_other_batches(folder):
    hparams = settings(folder)
    first = next(iter(psee_data(hparams, "train")))
    hparams.seed = 1
    assert not torch.equal(next(iter(psee_data(hparams, "train")))["inputs"], first["inputs"])


def test_evaluation_is_neither_augmented_nor_shuffled(folder):
    for mode in ("val", "test"):
        loader = psee_data(settings(folder, num_tbins=33, batch_size=8), mode)
        batch = next(iter(loader))
        assert [info.name for info, _ in batch["video_infos"]] == ["rec2", "rec0", "rec1"]
        with h5py.File(folder / mode / "rec2.h5") as file:  # beside the loader, which holds it open
            expected = torch.from_numpy(file["data"][:]).float() / 5
        assert torch.equal(batch["inputs"][:, 0], expected)
        assert len(loader) == 1


def test_ranks_come_from_torch_distributed(folder, monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    names = []
    for rank in range(3):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        loader = psee_data(settings(folder, num_tbins=33), "val")
        names += [info.name for batch in loader for info, _ in batch["video_infos"]]
    assert names == ["rec2", "rec0", "rec1"]


def test_files_without_extra_attributes_and_float_files_are_taken(folder):
    write_pair(folder / "val", "rec3", data=np.full((50, 2, HEIGHT, WIDTH), 0.5, np.float16))
    batch = next(iter(psee_data(settings(folder), "val")))
    assert batch["video_infos"][0][0].name == "rec3"
    assert batch["inputs"][:, 0].unique().tolist() == [0.5]
    assert batch["inputs"].dtype == torch.float32


def test_attributes_give_time_and_scale(folder):
    rows = [(120_000, 20, 8, 40, 40, 0, 0, 1)]
    attrs = {"first_t": 100_000, "delta_t": 50_000, "event_input_height": 2 * HEIGHT, "event_input_width": 2 * WIDTH}
    write_pair(folder / "val", "rec3", 50, {**attrs, "preprocess": "histo", "max_incr_per_pixel": 5.0}, rows=rows)
    batch = next(iter(psee_data(settings(folder), "val")))
    info, _ = batch["video_infos"][0]
    assert (info.name, info.first_t, info.scale) == ("rec3", 100_000, 0.5)
    assert batch["frame_is_labeled"][:, 0].tolist() == [True, False, False, False]
    assert batch["labels"][0][0].tolist() == [[10, 4, 30, 24, 1]]


def test_interpolation_is_for_training_only(folder):
    rows = [(50_000, 0, 0, 10, 10, 0, 0, 1), (200_000, 6, 0, 10, 10, 0, 0, 1)]
    for split in ("train", "val"):
        for path in (folder / split).iterdir():
            path.unlink()
        write_pair(folder / split, "rec", 7, rows=rows)
    for split, expected in (("train", 4), ("val", 2)):
        hparams = settings(folder, interpolation=True, augment=False, num_tbins=7)
        labeled = sum(int(batch["frame_is_labeled"].sum()) for batch in psee_data(hparams, split))
        assert labeled == expected


@pytest.mark.parametrize(
    ("attrs", "shape", "message"),
    [
        ({"delta_t": 10_000}, None, r"bad.h5: delta_t is 10000, allowed by data.delta_t: 50000"),
        ({"preprocess": "diff"}, None, r"bad.h5: preprocess is diff, allowed by data.preprocess: histo"),
        ({"max_incr_per_pixel": 20.0}, None, r"bad.h5: max_incr_per_pixel is 20.0, allowed by .*: 5.0"),
        ({"event_input_width": 4 * WIDTH}, None, r"bad.h5: frames are 32x24 of a 128x24 sensor, allowed: its aspect"),
        ({}, (4, 2, HEIGHT), r"bad.h5: data has shape \(4, 2, 24\), allowed: \(T, C, H, W\)"),
        ({}, (0, 2, HEIGHT, WIDTH), r"bad.h5: data has shape \(0, 2, 24, 32\), allowed: .* at least 1"),
        ({"preprocess": "diff"}, None, r"bad.h5: preprocess is diff, allowed by data.preprocess: histo"),
        ({}, (4, 1, HEIGHT, WIDTH), r"bad.h5: channels is 1, allowed by data.preprocess histo: 2"),
        ({}, (4, 2, HEIGHT, 16), r"rec0.h5: height, width is \(24, 32\), allowed by .*bad.h5: \(24, 16\)"),
    ],
)
@pytest.mark.parametrize("mode", ["train", "val"])
def test_a_file_that_contradicts_is_refused(folder, mode: str, attrs: dict, shape: tuple | None, message: str):
    data = None if shape is None else np.zeros(shape, np.uint8)
    write_pair(folder / mode, "bad", attrs=attrs, data=data)
    with pytest.raises(ValueError, match=message) as error:
        psee_data(settings(folder), mode)
    assert "\n" not in str(error.value)


def test_a_size_other_than_the_configured_one_is_refused(folder):
    with pytest.raises(
        ValueError, match=r"rec0.h5: height, width is .* allowed by data.height, data.width: \(48, 32\)"
    ):
        psee_data(settings(folder, height=48), "train")


def test_other_dtypes_are_refused(folder):
    write_pair(folder / "val", "bad", data=np.zeros((4, 2, HEIGHT, WIDTH), np.int16))
    with pytest.raises(ValueError, match=r"bad.h5: dtype: got 'int16', allowed: one of uint8, float16, float32"):
        psee_data(settings(folder), "val")


def test_files_that_are_no_tensor_files_are_refused(folder):
    with h5py.File(folder / "val" / "rec0.h5", "w") as file:
        file["events"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"rec0.h5: contains events, needed: a dataset named data"):
        psee_data(settings(folder), "val")
    (folder / "val" / "rec0.h5").write_bytes(b"half of a file")
    with pytest.raises(ValueError, match=r"rec0.h5: not a complete HDF5 file"):
        psee_data(settings(folder), "val")


def test_labels_that_the_label_map_does_not_know_are_refused(folder):
    write_pair(folder / "val", "rec0", rows=[(10, 0, 0, 9, 9, 7, 0, 1)])
    with pytest.raises(ValueError, match=r"rec0_bbox.npy: class_id is 7, allowed by label_map.*0: 'pedestrian'"):
        psee_data(settings(folder), "val")


def test_a_few_boxes_of_unknown_classes_are_unwanted(folder):
    write_pair(folder / "val", "rec0", rows=[(t, 0, 0, 9, 9, k, 0, 1) for t, k in ((9, 0), (10, 7), (10, 2**32 - 1))])
    with pytest.warns(
        UserWarning, match="2 of 3 boxes have a class_id that is not in label_map_.*, the smallest is 7:"
    ):
        psee_data(settings(folder), "val")


def test_missing_labels_are_named(folder):
    (folder / "train" / "rec1_bbox.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"rec1.h5: no labels found, allowed: rec1_bbox.npy beside the file"):
        psee_data(settings(folder), "train")


def test_missing_folders_are_named(folder):
    for path in ("", str(folder / "nowhere")):
        hparams = settings(folder)
        hparams.dataset_path = path
        with pytest.raises(FileNotFoundError, match=rf"data.dataset_path: got '{path}', allowed: an existing"):
            psee_data(hparams, "train")
    for path in (folder / "val").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"val: contains no tensor file"):
        psee_data(settings(folder), "val")
    (folder / "val").rmdir()
    with pytest.raises(FileNotFoundError, match=r"val: no such folder"):
        psee_data(settings(folder), "val")
    with pytest.raises(ValueError, match=r"mode: got 'validation', allowed: one of train, val, test"):
        psee_data(settings(folder), "validation")
    (folder / "label_map_dictionary.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"label_map_dictionary.json: no such label map"):
        psee_data(settings(folder), "train")


@pytest.mark.parametrize("leaves", [{"min_box_diag": 100}, {"min_box_side": 11}])
def test_a_training_without_a_single_box_is_refused(folder, leaves: dict):
    with pytest.raises(ValueError, match=r"train: contains no box to train on, allowed: boxes of pedestrian, car"):
        psee_data(settings(folder, **leaves), "train")
    assert len(psee_data(settings(folder, **leaves), "val")) > 0


def test_small_boxes_are_kept_unless_a_limit_is_given(folder):
    labels = np.array([(10, 1, 1, 0.25, 40, 1, 0, 1)], BBOX_dtype)
    for options, count in (({}, 1), ({"min_box_side": 0.25}, 1), ({"min_box_side": 0.5}, 0)):
        load_labels, _ = setup_psee_load_labels(folder / "label_map_dictionary.json", 1, **options)
        assert len(load_labels(labels, 0, height=100, width=100, delta_t=10)[0][0]) == count


@pytest.mark.parametrize(("width", "accepted"), [(2 * WIDTH - 2, False), (2 * WIDTH - 1, True), (2 * WIDTH, True)])
def test_the_scales_may_differ_by_the_rounding_of_a_row(folder, width: int, accepted: bool):
    # 48 rows become 24.4 rows at the scale 32 / 63, 49 rows become 25.3 rows at 32 / 62.
    height = 2 * HEIGHT if accepted else 2 * HEIGHT + 1
    write_pair(folder / "val", "rec3", attrs={"event_input_height": height, "event_input_width": width})
    if accepted:
        assert psee_data(settings(folder), "val").dataset.dataset.files[-1].scale == WIDTH / width
    else:
        with pytest.raises(ValueError, match=rf"frames are 32x24 of a {width}x{height} sensor, allowed: its aspect"):
            psee_data(settings(folder), "val")
