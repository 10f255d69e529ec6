"""Label files `X_bbox.npy`: boxes of one recording in sensor pixels and recording time."""

from pathlib import Path
from typing import Literal

import numpy as np

from detector.events.types import BBOX_dtype
from detector.utils.atomic_write import atomic_write

__all__ = ["TimeUnit", "field_columns", "load_labels", "save_labels", "to_microseconds"]

TimeUnit = Literal["us", "ms", "s", "ns"]

PER_UNIT = {"us": (1, 1), "ms": (1_000, 1), "s": (1_000_000, 1), "ns": (1, 1_000)}
"""Microseconds of a time unit, as numerator and denominator."""

UNIT_ADVICE = "whole microseconds; for other units give --label_time_unit s, ms or ns (time_unit in load_labels)"

LEGACY_NAMES = {"t": ("ts", "timestamp"), "class_confidence": ("confidence",)}
"""Names that older files use for fields of `BBOX_dtype`."""


def load_labels(path: str | Path, time_unit: TimeUnit = "us", offset: int = 0) -> np.ndarray:
    """Read boxes by field name: legacy names, other field orders and packed records are all understood.

    Args:
        path: a `.npy` file of structured boxes.
        time_unit: what its times count; times are rounded to microseconds, except that microseconds with fractions
            are refused.
        offset: microseconds that are added to its times.

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
    return _to_bbox(raw, str(path), time_unit, offset)


def save_labels(path: str | Path, labels: np.ndarray) -> None:
    """Write boxes as `BBOX_dtype` sorted by t; the file appears only when it is whole.

    Args:
        path: file to write, replaced if it is there.
        labels: (M,) structured boxes, any field order.

    Raises:
        ValueError: fields are missing or hold what they cannot mean.
    """
    boxes = _to_bbox(np.asarray(labels), "labels", "us", 0)
    with atomic_write(path) as part, part.open("wb") as file:
        np.save(file, boxes)


def field_columns(raw: np.ndarray, source: str) -> dict[str, str]:
    """The field of `raw` that holds each field of `BBOX_dtype`.

    Raises:
        ValueError: a field is missing or holds no numbers; the message begins with `source`.
    """
    found = raw.dtype.names or ()
    columns = {
        name: next((column for column in (name, *LEGACY_NAMES.get(name, ())) if column in found), name)
        for name in BBOX_dtype.names or ()
    }
    if not set(columns.values()) <= set(found):
        names = ", ".join(found) or f"none (dtype {raw.dtype})"
        raise ValueError(f"{source}: label fields found: {names}; required: {', '.join(columns)}")
    for column in columns.values():
        if raw.dtype[column].kind not in "iuf" or raw.dtype[column].shape:
            raise ValueError(f"{source}: label field {column} has dtype {raw.dtype[column]}, allowed: numbers")
    return columns


def to_microseconds(times: np.ndarray, time_unit: TimeUnit, source: str, offset: int = 0) -> np.ndarray:
    """Times of any numeric type as int64 microseconds; errors as in `load_labels`, `source` begins their message.

    Args:
        times: (M,) in units of `time_unit`; floats are rounded to the nearest microsecond.
        time_unit: microseconds must be whole numbers, also where they are stored as floats.
        source: what an error names, such as the file and the field.
        offset: microseconds that are added.
    """
    if time_unit not in PER_UNIT:
        raise ValueError(f"label_time_unit: got {time_unit!r}, allowed: {', '.join(PER_UNIT)}")
    _check_values(source, times, np.dtype(np.int64), whole=time_unit == "us", advice=UNIT_ADVICE)
    factor, divisor = PER_UNIT[time_unit]
    if not times.size:
        return np.zeros(0, np.int64)
    limits = np.iinfo(np.int64)
    ends = [round(int(end) * factor / divisor) + offset for end in (times.min(), times.max())]
    if ends[0] < limits.min // 2 or ends[1] > limits.max // 2:
        raise ValueError(f"{source} runs from {times.min()} to {times.max()} {time_unit}, allowed: times of 64 bits")
    if times.dtype.kind == "f":
        return np.rint(times.astype(np.float64) * factor / divisor).astype(np.int64) + offset
    scaled = times.astype(np.int64) * factor
    return (scaled + divisor // 2) // divisor + offset


def _to_bbox(raw: np.ndarray, source: str, time_unit: TimeUnit, offset: int) -> np.ndarray:
    """A sorted copy of `raw` as `BBOX_dtype`; `source` is what an error names."""
    columns = field_columns(raw, source)
    flat = raw.reshape(-1)
    times = to_microseconds(flat[columns["t"]], time_unit, f"{source}: label field {columns['t']}", offset)
    order = np.argsort(times, kind="stable")
    boxes = np.zeros(raw.size, BBOX_dtype)  # filled by field: the bytes between fields stay 0, equal files are equal
    boxes["t"] = times[order]
    for name, column in columns.items():
        if name != "t":
            values, target = flat[column], BBOX_dtype[name]
            _check_values(f"{source}: label field {column}", values, target, whole=target.kind in "iu")
            boxes[name] = values[order]
    return boxes


def _check_values(source: str, values: np.ndarray, target: np.dtype, *, whole: bool, advice: str = "") -> None:
    """Values must survive the cast: an unsigned -1, an integer NaN or a fraction would turn into another number."""
    if not values.size:
        return
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{source} holds NaN or infinity, allowed: finite numbers")
    if whole and values.dtype.kind == "f":
        fractions = np.flatnonzero(values != np.rint(values))
        if fractions.size:
            first = values[fractions[0]]
            raise ValueError(
                f"{source} holds fractions, the first {first!s} in box {fractions[0]}, "
                f"allowed: {advice or 'whole numbers'}"
            )
    limits = np.iinfo(target) if target.kind in "iu" else np.finfo(target)
    low, high = values.min(), values.max()
    if target.kind in "iu":
        low, high = int(low), int(high)
    if low < limits.min or high > limits.max:
        raise ValueError(f"{source} runs from {low} to {high}, allowed: {limits.min} to {limits.max}")
