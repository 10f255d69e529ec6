"""Label files `X_bbox.npy`: one numpy array of structured boxes."""

import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from detector.labels.boxes import to_boxes
from detector.labels.label_format import LabelFile, LabelFormat
from detector.utils.atomic_write import atomic_write

__all__ = ["NPY", "is_dsec", "npy_fields", "read_npy", "save_labels"]

BOX_FIELDS = {"x", "y", "w", "h", "class_id"}

TIME_FIELDS = {"t", "ts", "timestamp"}


def npy_fields(path: Path) -> tuple[str, ...]:
    """Return the names of the fields of an NPY file with boxes; an empty tuple for any other file."""
    try:
        with path.open("rb") as file:
            names = _read_header(file)[1].names or ()
    except (OSError, ValueError):
        return ()
    return names if set(names) >= BOX_FIELDS and TIME_FIELDS & set(names) else ()


def read_npy(path: Path) -> np.ndarray:
    """Read the array of an NPY file.

    Raises:
        ValueError: the file is not an NPY file, is cut off, or contains Python objects.
    """
    with path.open("rb") as file:
        shape, dtype = _read_header(file)
        stored = os.fstat(file.fileno()).st_size - file.tell()
        if dtype.hasobject:
            raise ValueError("the file contains Python objects, allowed: structured boxes")
        if math.prod(shape) * dtype.itemsize > stored:
            count = math.prod(shape)
            raise ValueError(f"the file contains a part of the {count} boxes in its header, allowed: a complete file")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


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


def is_dsec(path: Path, fields: tuple[str, ...]) -> bool:
    """Return whether a file with boxes has the name of one of DSEC-Detection, whose ids stand for other classes."""
    return bool(fields) and (path.name == "tracks.npy" or path.name.endswith("_tracks.npy"))


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and the dtype of the array in an NPY file."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except Exception as error:  # numpy raises any error for a damaged header
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"the file is not an NPY file: {reason}") from None
    return shape, dtype


def _matches(path: Path) -> bool:
    fields = npy_fields(path)
    return bool(fields) and not is_dsec(path, fields)


def _write(path: Path, content: LabelFile) -> None:
    """Write the boxes. Names and images without boxes have no place in this format."""
    save_labels(path, content.boxes)


NPY = LabelFormat("_bbox.npy", read_npy, matches=_matches, write=_write)
"""Prophesee's label format. Labels in dataset folders have this format."""
