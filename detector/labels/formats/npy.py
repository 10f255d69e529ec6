"""Label files `X_bbox.npy`: one numpy array of structured boxes."""

from pathlib import Path

import numpy as np

from detector.labels.boxes import to_boxes
from detector.labels.label_format import LabelFormat
from detector.utils.atomic_write import atomic_write

__all__ = ["NPY", "save_labels"]


def _read(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


NPY = LabelFormat("_bbox.npy", _read)
"""Prophesee's label format. Labels in dataset folders have this format."""


def save_labels(path: str | Path, labels: np.ndarray) -> None:
    """Write boxes as `BBOX_dtype`, sorted by t. The file appears only when it is complete.

    Args:
        path: file to write; an existing file is replaced.
        labels: (M,) structured boxes, with the fields in any order.

    Raises:
        ValueError: a field is missing or contains values that are not allowed.
    """
    boxes = to_boxes(np.asarray(labels), "labels")
    with atomic_write(path) as part, part.open("wb") as file:
        np.save(file, boxes)
