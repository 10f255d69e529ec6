"""Class names and data loaders of a dataset folder. When a loader is made, all files of its split are checked."""

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
    """Return the class names of a dataset, ordered by class id.

    The name "empty" is left out, because it marks frames without objects.

    Args:
        dataset_path: folder that contains `label_map_dictionary.json`.

    Raises:
        FileNotFoundError: the label map does not exist.
        ValueError: the label map is invalid.
    """
    return setup_psee_classes(Path(dataset_path) / LABEL_MAP_NAME)[0]


def setup_psee_classes(label_map_path: str | Path, wanted_classes: list[str] = []) -> tuple[list[str], np.ndarray]:  # noqa: B006
    """Return the names of the classes to detect, and a table that converts class ids of the label map to labels 1..K.

    Args:
        label_map_path: JSON file of class ids and names.
        wanted_classes: names of the classes to detect, in the order of the labels 1..K. If empty, all names of the
            label map are used except "empty", which marks frames without objects.

    Returns:
        The names of the labels 1..K, and an int64 array of length (largest class id + 1). The array is indexed by class
        id and contains the label 1..K, or -1 for ids that are not wanted.

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
    """Make a `TargetLoader`, which converts the labels of a file to training targets of consecutive frames.

    Args:
        label_map_path: JSON file of class ids and names.
        num_tbins: number of consecutive frames per call of the `TargetLoader`.
        wanted_classes: names of the classes to detect. If empty, all names of the label map are used except
            "empty", which marks frames without objects.
        min_box_diag_network: boxes with a smaller diagonal in network pixels are dropped.
        interpolation: whether frames without labels get boxes, which are interpolated along tracks.
        min_box_side: boxes with a smaller width or height in network pixels are dropped.

    Returns:
        The `TargetLoader`, and the names of the labels 1..K.

    Raises:
        FileNotFoundError: the label map does not exist.
        ValueError: the label map is invalid, or a wanted class is not in it.
    """
    classes, lookup = setup_psee_classes(label_map_path, wanted_classes)
    return TargetLoader(lookup, num_tbins, min_box_diag_network, min_box_side, interpolation), classes


def psee_data(hparams: argparse.Namespace, mode: str, *, keep_dtype: bool = False) -> SequenceLoader:
    """Make the data loader of one split of a dataset folder. Its batches hold T frames of each of B parallel streams.

    Training files are shuffled, split into segments and augmented. Evaluation files are read from start to end. For
    given files and settings, a batch depends only on the seed, the epoch and the step. The loader uses the rank and
    world size that `torch.distributed` has at the time of the call.

    Args:
        hparams: namespace of settings, as returned by `Config.to_hparams`.
        mode: the split: "train", "val" or "test".
        keep_dtype: whether `inputs` keep the data type of the files. If False, they are scaled to float32.

    Returns:
        A loader that yields dicts, see `SequenceDataset.__getitem__`.

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
    return SequenceLoader(dataset, data.num_workers, keep_dtype)


def _check_split(folder: Path, mode: str, data: DataConfig) -> list[SequenceFile]:
    """Check the files of a split and return them sorted by name.

    Raises:
        FileNotFoundError: the folder of the split or a label file is missing.
        ValueError: there is no file, frame sizes differ, or a file contradicts the settings or the label map.
    """
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
    """Warn about boxes with a class id that is not in the label map.

    Raises:
        ValueError: all boxes have such a class id, which means that the label map belongs to another dataset.
    """
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
    """Check that a tensor file agrees with the settings, and return a description of the file.

    Raises:
        FileNotFoundError: the label file is missing.
        ValueError: the file contradicts the settings.
    """
    labels_path = path.with_name(f"{path.stem}_bbox.npy")
    if not labels_path.is_file():
        raise FileNotFoundError(f"{path}: no labels found, allowed: {labels_path.name} beside the file")
    (num_frames, num_channels, height, width), dtype, attrs = read_attributes(path)
    wanted = representation_of(data)
    require_choice(f"{path}: dtype", dtype.name, dict.fromkeys((wanted.dtype, *FLOATS)))
    require_equal(path, "channels", num_channels, wanted.channels, f"data.preprocess {data.preprocess}")
    stored = {**json.loads(attrs.get("preprocess_params", "{}")), **attrs}
    divisor = wanted.divisor
    require_equal(path, "divisor", attrs.get("divisor", divisor), divisor, f"data.preprocess {data.preprocess}")
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
    """Return the number of network pixels per sensor pixel.

    Raises:
        ValueError: the horizontal and the vertical scale differ by more than the rounding of the frame height.
    """
    sensor_height = int(attrs.get("event_input_height", height))
    sensor_width = int(attrs.get("event_input_width", width))
    scale = width / sensor_width
    if abs(sensor_height * scale - height) >= 1:
        raise ValueError(
            f"{path}: frames are {width}x{height} of a {sensor_width}x{sensor_height} sensor, allowed: its aspect ratio"
        )
    return scale


def _check_boxes(split: Path, files: list[SequenceFile], targets: TargetLoader, classes: list[str]) -> None:
    """Raise a ValueError if the files contain no box to train on."""
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
