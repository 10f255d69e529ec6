"""Label files `X_bbox.npy`: boxes of one recording in sensor pixels and recording time."""

from pathlib import Path

import numpy as np

from detector.events.types import BBOX_dtype
from detector.utils.atomic_write import atomic_write

__all__ = ["load_labels", "save_labels"]

LEGACY_NAMES = {"t": "ts", "class_confidence": "confidence"}
"""Names that older files use for fields of `BBOX_dtype`."""


def load_labels(path: str | Path) -> np.ndarray:
    """Read boxes by field name: legacy names, other field orders and packed records are all understood.

    Args:
        path: a `.npy` file of structured boxes.

    Returns:
        (M,) array of `BBOX_dtype`, sorted by t; boxes of one time keep their order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no `.npy` file, or fields are missing or hold what they cannot mean.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such label file")
    try:
        with path.open("rb") as file:
            raw = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a whole .npy file of labels: {' '.join(str(error).split())}") from None
    return _to_bbox(raw, str(path))


def save_labels(path: str | Path, labels: np.ndarray) -> None:
    """Write boxes as `BBOX_dtype` sorted by t; the file appears only when it is whole.

    Args:
        path: file to write, replaced if it is there.
        labels: (M,) structured boxes, any field order.

    Raises:
        ValueError: fields are missing or hold what they cannot mean.
    """
    boxes = _to_bbox(np.asarray(labels), "labels")
    with atomic_write(path) as part, part.open("wb") as file:
        np.save(file, boxes)


def _to_bbox(raw: np.ndarray, source: str) -> np.ndarray:
    """A sorted copy of `raw` as `BBOX_dtype`; `source` is what an error names."""
    found = raw.dtype.names or ()
    columns = {name: name if name in found else LEGACY_NAMES.get(name, name) for name in BBOX_dtype.names or ()}
    if not set(columns.values()) <= set(found):
        names = ", ".join(found) or f"none (dtype {raw.dtype})"
        raise ValueError(f"{source}: label fields found: {names}; required: {', '.join(columns)}")
    order = np.argsort(raw[columns["t"]].reshape(-1), kind="stable")
    boxes = np.zeros(raw.size, BBOX_dtype)  # filled by field: the bytes between fields stay 0, equal files are equal
    for name, column in columns.items():
        values = raw[column].reshape(-1)
        _check_column(source, column, values, BBOX_dtype[name])
        boxes[name] = values[order]
    return boxes


def _check_column(source: str, name: str, values: np.ndarray, target: np.dtype) -> None:
    """Values must survive the cast: an unsigned -1 or an integer NaN would turn into another number."""
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{source}: label field {name} has dtype {values.dtype}, allowed: numbers")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{source}: label field {name} holds NaN or infinity, allowed: finite numbers")
    if target.kind == "f" or not values.size:
        return
    limits = np.iinfo(target)
    low, high = int(values.min()), int(values.max())
    if low < limits.min or high > limits.max:
        raise ValueError(
            f"{source}: label field {name} runs from {low} to {high}, allowed: {limits.min} to {limits.max}"
        )
