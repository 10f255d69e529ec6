"""Splits of a dataset as inputs of an MLflow run, which fill the column "Dataset" of MLflow's list of runs."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.config import Config
from detector.data.fingerprint import data_fingerprint
from detector.data.label_map import LABEL_MAP_NAME, class_names, read_label_map
from detector.data.layout import LABELS_END, SPLITS
from detector.data.tensor_file import read_attributes
from detector.labels import load_labels
from detector.utils.decoration import decoration

__all__ = ["dataset_inputs"]

SMALL_BYTES = 100e6
"""Size of the tensor files of a split up to which all frames may be read."""

FIELDS = ("t", "x", "y", "w", "h", "class_id")
"""Columns of the labels in the schema that MLflow shows."""


def dataset_inputs(config: Config, splits: Iterable[str] = SPLITS) -> list[dict[str, str]]:
    """Describe splits of a dataset for MLflow.

    The digest is the fingerprint of the split, see `data_fingerprint`. If this would require reading all frames of a
    large split, the digest is a hash of the names, sizes and times of the files, and starts with "files-". An error is
    printed as a warning, and the result is then empty, because a training does not need this description.

    Args:
        config: configuration, which defines the dataset and the classes.
        splits: names of splits. Splits without a tensor file are left out.

    Returns:
        One dict per split, with `context` (name of the split) and the arguments of `mlflow.entities.Dataset`.
    """
    found: list[dict[str, str]] = []
    folder = Path(config.data.dataset_path)
    with decoration("the description of the dataset"):
        ids = {name: key for key, name in read_label_map(folder / LABEL_MAP_NAME).items()}
        classes = {ids[name]: name for name in class_names(config.data)}
        for split in splits:
            files = sorted((folder / split).glob("*.h5"))
            if files:
                found.append(_describe(folder, split, files, classes))
    return found


def _describe(folder: Path, split: str, files: Sequence[Path], classes: dict[int, str]) -> dict[str, str]:
    read = [read_attributes(path) for path in files]
    labels = [path for path in (file.with_name(f"{file.stem}{LABELS_END}") for file in files) if path.is_file()]
    boxes = np.concatenate([load_labels(path)["class_id"] for path in labels] or [np.zeros(0, np.int64)])
    numbers = {name: int((boxes == key).sum()) for key, name in classes.items()}
    (_, *shape), dtype, _ = read[0]
    fast = all("sha256" in attributes for _, _, attributes in read)
    fast = fast or sum(path.stat().st_size for path in files) <= SMALL_BYTES
    profile = {
        "recordings": len(files),
        "frames": sum(size[0] for size, _, _ in read),
        "boxes": sum(numbers.values()),
        "boxes of a class": numbers,
    }
    return {
        "name": folder.name,
        "digest": data_fingerprint(folder / split) if fast else _digest_of_files([*files, *labels]),
        "source_type": "local",
        "source": json.dumps({"uri": str(folder / split)}),
        "schema": json.dumps(_schema(shape, str(dtype))),
        "profile": json.dumps(profile),
        "context": split,
    }


def _digest_of_files(files: Sequence[Path]) -> str:
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return f"files-{hashlib.sha256(json.dumps(states).encode()).hexdigest()[:16]}"


def _schema(shape: Sequence[int], dtype: str) -> dict[str, Any]:
    """Return the schema of the frames (features) and the labels (targets) in the form that MLflow's pages read."""
    frames = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *shape]}, "name": "frames"}
    boxes = {
        "type": "tensor",
        "tensor-spec": {"dtype": "float32", "shape": [-1, len(FIELDS)]},
        "name": ", ".join(FIELDS),
    }
    return {"mlflow_tensorspec": {"features": json.dumps([frames]), "targets": json.dumps([boxes])}}
