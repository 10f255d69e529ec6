"""Classes and loaders of a dataset folder; all of its files are checked when a loader is made."""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from detector.config import Config
from detector.config.checks import require, require_choice, require_equal
from detector.config.groups import DataConfig
from detector.data.dataset import SequenceDataset
from detector.data.label_map import LABEL_MAP_NAME, read_label_map
from detector.data.loader import SequenceLoader
from detector.data.sequence_file import OpenFile, SequenceFile
from detector.data.targets import TargetLoader
from detector.data.tensor_file import read_attributes
from detector.labels import load_labels
from detector.preprocess.binning import FLOATS
from detector.preprocess.representation import representation_of

__all__ = ["get_classes_from_json", "psee_data", "setup_psee_classes", "setup_psee_load_labels"]

MODES = ("train", "val", "test")


def get_classes_from_json(dataset_path: str | Path) -> list[str]:
    """Names of the classes of a dataset, in the order of their ids, without the "empty" frame label.

    Args:
        dataset_path: folder that contains `label_map_dictionary.json`.

    Raises:
        FileNotFoundError: the label map does not exist.
        ValueError: the label map is invalid.
    """
    return setup_psee_classes(Path(dataset_path) / LABEL_MAP_NAME)[0]


def setup_psee_classes(label_map_path: str | Path, wanted_classes: list[str] = []) -> tuple[list[str], np.ndarray]:  # noqa: B006
    """Names of the classes to detect, and the lookup of their labels by label map id.

    Args:
        label_map_path: JSON file of ids and names.
        wanted_classes: names, in the order of the labels 1..K; all except the "empty" frame label if not given.

    Returns:
        Names of the classes 1..K, and an int64 array (largest id + 1,): class 1..K of each id, -1 for unwanted ids.

    Raises:
        FileNotFoundError: the label map does not exist.
        ValueError: the label map is invalid, or a wanted class is not in it.
    """
    label_map = read_label_map(label_map_path)
    known = [name for name in label_map.values() if name != "empty"]
    if not known:
        raise ValueError(f"{label_map_path}: classes are {label_map}, allowed: distinct names, one at least not empty")
    for name in wanted_classes:
        require(name in known, "data.classes", name, f"{', '.join(known)} (the names in {label_map_path})")
    classes = list(wanted_classes) or known
    lookup = np.full(max(label_map) + 1, -1, np.int64)
    for key, name in label_map.items():
        if name in classes:
            lookup[key] = classes.index(name) + 1
    return classes, lookup


def setup_psee_load_labels(
    label_map_path: str | Path,
    num_tbins: int,
    wanted_classes: list[str] = [],  # noqa: B006
    min_box_diag_network: float = 30,
    interpolation: bool = True,
    *,
    min_box_side: float = 0,
) -> tuple[TargetLoader, list[str]]:
    """Make the callable that computes targets from the labels of a file and a range of its frames.

    Args:
        label_map_path: JSON file of ids and names.
        num_tbins: number of frames of a range.
        wanted_classes: names; all except the "empty" frame label if not given.
        min_box_diag_network: boxes with a smaller diagonal in network pixels are dropped.
        interpolation: frames without a label get boxes interpolated along tracks.
        min_box_side: boxes with a smaller width or height in network pixels are dropped.

    Returns:
        The callable, see `TargetLoader.__call__`, and the names of the classes 1..K.

    Raises:
        FileNotFoundError: the label map does not exist.
        ValueError: the label map is invalid, or a wanted class is not in it.
    """
    classes, lookup = setup_psee_classes(label_map_path, wanted_classes)
    return TargetLoader(lookup, num_tbins, min_box_diag_network, min_box_side, interpolation), classes


def psee_data(hparams: argparse.Namespace, mode: str, *, counts: bool = False) -> SequenceLoader:
    """Loader of a split of a dataset folder: streams of tensor files as batches of T frames.

    Training files are shuffled, cut and augmented; evaluation files are streamed as a whole. Batches depend only on the
    seed, the epoch and the step. Ranks are those of `torch.distributed` at the time of the call.

    Args:
        hparams: flat settings, see `Config.to_hparams`.
        mode: "train", "val" or "test".
        counts: do not scale `inputs`, see `SequenceLoader`.

    Returns:
        Loader of dicts, see `SequenceDataset.__getitem__`.

    Raises:
        FileNotFoundError: the folder, its label map, the split or the labels of a file are missing.
        ValueError: a file contradicts the settings, the label map or another file, or no box remains for training.
    """
    require_choice("mode", mode, MODES)
    train = mode == "train"
    config = Config.from_hparams(hparams)
    data, folder = config.data, Path(config.data.dataset_path)
    if not data.dataset_path or not folder.is_dir():
        raise FileNotFoundError(f"data.dataset_path: got {data.dataset_path!r}, allowed: an existing dataset folder")
    targets, classes = setup_psee_load_labels(
        folder / LABEL_MAP_NAME,
        data.num_tbins,
        data.classes,
        data.min_box_diag,
        train and data.interpolation,
        min_box_side=data.min_box_side,
    )
    files = _check_split(folder, mode, data)
    if train:
        _check_boxes(folder / mode, files, targets, classes)
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    dataset = SequenceDataset(
        files,
        targets,
        data.batch_size,
        train=train,
        augment=representation_of(data) if train and data.augment else None,
        reversal=data.reversal,
        seed=config.train.seed,
        rank=rank,
        world_size=world_size,
    )
    return SequenceLoader(dataset, data.num_workers, counts)


def _check_split(folder: Path, mode: str, data: DataConfig) -> list[SequenceFile]:
    """The files of a split by name; raises an error unless they have one size and classes of the label map."""
    split = folder / mode
    if not split.is_dir():
        raise FileNotFoundError(
            f"{split}: no such folder, allowed: a dataset folder with the folders {', '.join(MODES)}"
        )
    files = [_check_file(path, data) for path in sorted(split.glob("*.h5"))]
    if not files:
        raise ValueError(f"{split}: contains no tensor file, allowed: at least one .h5 file with its _bbox.npy file")
    size = data.height or files[0].height, data.width or files[0].width
    origin = "data.height, data.width" if data.height or data.width else str(files[0].path)
    label_map = read_label_map(folder / LABEL_MAP_NAME)
    for file in files:
        require_equal(file.path, "height, width", (file.height, file.width), size, origin)
        _check_classes(file.labels_path, label_map)
    return files


def _check_classes(labels_path: Path, label_map: dict[int, str]) -> None:
    """Warn about boxes of unknown classes; if all are unknown, raise an error: the label map is of another dataset."""
    class_id = load_labels(labels_path)["class_id"]
    unknown = class_id[~np.isin(class_id, list(label_map))]
    if unknown.size and unknown.size == class_id.size:
        raise ValueError(f"{labels_path}: class_id is {unknown.min()}, allowed by {LABEL_MAP_NAME}: {label_map}")
    if unknown.size:
        warnings.warn(
            f"{labels_path}: {unknown.size} of {class_id.size} boxes have a class_id that is not in "
            f"{LABEL_MAP_NAME}, the smallest is {unknown.min()}: these boxes are not used as targets",
            stacklevel=2,
        )


def _check_file(path: Path, data: DataConfig) -> SequenceFile:
    """Description of a tensor file; raises an error unless the file agrees with the settings."""
    labels_path = path.with_name(f"{path.stem}_bbox.npy")
    if not labels_path.is_file():
        raise FileNotFoundError(f"{path}: no labels found, allowed: {labels_path.name} beside the file")
    (num_frames, num_channels, height, width), dtype, attrs = read_attributes(path)
    wanted = representation_of(data)
    require_choice(f"{path}: dtype", dtype.name, dict.fromkeys((wanted.dtype, *FLOATS)))
    require_equal(path, "channels", num_channels, wanted.channels, f"data.preprocess {data.preprocess}")
    stored = {**json.loads(attrs.get("preprocess_params", "{}")), **attrs}
    settings = {"preprocess": data.preprocess, "delta_t": data.delta_t, **wanted.parameters}
    for name, value in settings.items():
        require_equal(path, name, stored.get(name, value), value, f"data.{name}")
    return SequenceFile(
        path,
        labels_path,
        num_frames,
        num_channels,
        height,
        width,
        wanted.divisor if dtype.name == wanted.dtype else 1.0,
        int(attrs.get("first_t", 0)),
        data.delta_t,
        _scale(path, height, width, attrs),
        dtype.name,
    )


def _scale(path: Path, height: int, width: int, attrs: dict[str, Any]) -> float:
    """Network pixels per sensor pixel, which must be equal in both directions, apart from rounded sizes."""
    sensor_height = int(attrs.get("event_input_height", height))
    sensor_width = int(attrs.get("event_input_width", width))
    scale = width / sensor_width
    if abs(sensor_height * scale - height) >= 1:
        raise ValueError(
            f"{path}: frames are {width}x{height} of a {sensor_width}x{sensor_height} sensor, allowed: its aspect ratio"
        )
    return scale


def _check_boxes(split: Path, files: list[SequenceFile], targets: TargetLoader, classes: list[str]) -> None:
    """Raise a ValueError if there is no box to train on."""
    for file in files:
        source = OpenFile(file)
        for start in range(0, file.num_frames, targets.num_tbins):
            if any(map(len, source.load_targets(targets, start)[0])):
                return
    raise ValueError(
        f"{split}: contains no box to train on, allowed: boxes of {', '.join(classes)} inside the frames and times of "
        f"the files, with at least data.min_box_diag ({targets.min_box_diag}) and "
        f"data.min_box_side ({targets.min_box_side})"
    )
