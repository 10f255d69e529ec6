"""Find, read and check the label file of a recording."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np

from detector.config.extensions import LABEL_FORMATS
from detector.events.types import BBOX_dtype
from detector.utils.remote import Place

__all__ = [
    "LabelFormat",
    "TimeUnit",
    "field_columns",
    "label_suffix",
    "labels_path",
    "load_labels",
    "read_labels",
    "recording_stem",
    "to_boxes",
    "to_microseconds",
]

TimeUnit = Literal["us", "ms", "s", "ns"]

PER_UNIT = {"us": (1, 1), "ms": (1_000, 1), "s": (1_000_000, 1), "ns": (1, 1_000)}
"""Number of microseconds in each time unit, as numerator and denominator."""

UNIT_ADVICE = "whole microseconds; for other units give --label_time_unit s, ms or ns (time_unit in load_labels)"

LEGACY_NAMES = {"t": ("ts", "timestamp"), "class_confidence": ("confidence",)}
"""For fields of `BBOX_dtype`, the names that older files use."""


@dataclass(frozen=True)
class LabelFormat:
    """A format of label files.

    Args:
        suffix: end of the names of label files. With "_bbox.npy", the labels of `X.raw` and of `X_td.dat` are in
            `X_bbox.npy` in the same folder
        read: function that reads a label file into structured boxes, which `load_labels` then checks. The boxes have
            the fields of `BBOX_dtype`, in any order and of any numeric types; `t` is in the unit of `label_time_unit`
    """

    suffix: str
    read: Callable[[Path], np.ndarray]


def recording_stem(recording: Place) -> str:
    """Return the name of a recording without its suffix and without `_td`.

    The names of the label file and the tensor files of the recording begin with this stem.
    """
    return recording.stem.removesuffix("_td")


def label_suffix(label_format: str) -> str:
    """Return the end of the names of label files in a format, such as "_bbox.npy"."""
    return _format(label_format).suffix


@overload
def labels_path(recording: Path, label_format: str = "npy") -> Path: ...
@overload
def labels_path(recording: Place, label_format: str = "npy") -> Place: ...
def labels_path(recording: Place, label_format: str = "npy") -> Place:
    """Return the path of the label file of a recording. The file may not exist.

    Args:
        recording: path or address of the recording.
        label_format: name or import path of a `LabelFormat`.

    Raises:
        ValueError: the format does not exist.
    """
    return recording.parent / f"{recording_stem(recording)}{label_suffix(label_format)}"


def load_labels(path: str | Path, time_unit: TimeUnit = "us", offset: int = 0, label_format: str = "npy") -> np.ndarray:
    """Read and check the boxes of a label file.

    Accepted are any order of the fields, legacy names of fields such as `ts` for `t`, and records without padding
    bytes.

    Args:
        path: the label file.
        time_unit: unit of the times in the file. Times are rounded to whole microseconds. But if the unit is
            microseconds, times with fractions are an error.
        offset: microseconds that are added to the times.
        label_format: name or import path of a `LabelFormat`.

    Returns:
        (M,) array of `BBOX_dtype`, sorted by t. Boxes with the same time keep the order of the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the format is unknown, the file cannot be read in this format, a field is missing, or a field
            contains values that are not allowed.
    """
    return to_boxes(read_labels(path, label_format), str(path), time_unit, offset)


def read_labels(path: str | Path, label_format: str = "npy") -> np.ndarray:
    """Read the boxes of a label file exactly as the reader of the format returns them, without checks.

    Args:
        path: the label file.
        label_format: name or import path of a `LabelFormat`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the format is unknown, or the file cannot be read in this format.
    """
    path, format_ = Path(path), _format(label_format)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such label file")
    try:
        return np.asarray(format_.read(path))
    except Exception as error:  # the reader may be user code and raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a complete label file of format {label_format}: {reason}") from error


def field_columns(raw: np.ndarray, source: str) -> dict[str, str]:
    """Return a dict from each field of `BBOX_dtype` to the field of `raw` that contains it.

    The field of `raw` may have a legacy name, such as `ts` for `t`.

    Args:
        raw: structured boxes.
        source: name at the beginning of error messages, such as the file.

    Raises:
        ValueError: a field is missing or is not numeric.
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
    """Convert times of any numeric type to int64 microseconds.

    Args:
        times: (M,) in units of `time_unit`; floats are rounded to the nearest microsecond.
        time_unit: unit of `times`. If it is microseconds, the times must be whole numbers, even if they are floats.
        source: name at the beginning of error messages, such as the file and the field.
        offset: microseconds that are added.

    Raises:
        ValueError: the unit is unknown, or the times are not finite, too large, or microseconds with fractions.
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


def to_boxes(raw: np.ndarray, source: str, time_unit: TimeUnit = "us", offset: int = 0) -> np.ndarray:
    """Check structured boxes and convert them to `BBOX_dtype`.

    Args:
        raw: structured boxes in an array of any shape; not changed.
        source: name at the beginning of error messages, such as the file.
        time_unit: unit of the times of the boxes.
        offset: microseconds that are added to the times.

    Returns:
        (M,) array of `BBOX_dtype`, sorted by t. Boxes with the same time keep their order.

    Raises:
        ValueError: the unit is unknown, a field is missing, or a field contains values that are not allowed.
    """
    columns = field_columns(raw, source)
    flat = raw.reshape(-1)
    times = to_microseconds(flat[columns["t"]], time_unit, f"{source}: label field {columns['t']}", offset)
    order = np.argsort(times, kind="stable")
    boxes = np.zeros(raw.size, BBOX_dtype)  # padding bytes stay 0, so equal boxes give equal files
    boxes["t"] = times[order]
    for name, column in columns.items():
        if name != "t":
            values, target = flat[column], BBOX_dtype[name]
            _check_values(f"{source}: label field {column}", values, target, whole=target.kind in "iu")
            boxes[name] = values[order]
    return boxes


def _check_values(source: str, values: np.ndarray, target: np.dtype, *, whole: bool, advice: str = "") -> None:
    """Raise a ValueError if `target` cannot hold a value: NaN, a number out of range or, if `whole`, a fraction.

    Args:
        source: name at the beginning of the error message.
        values: (M,) numbers.
        target: dtype in which the values will be stored.
        whole: whether fractions are an error.
        advice: text after "allowed:" in the error message about fractions; if empty, the text is "whole numbers".
    """
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


def _format(name: str) -> LabelFormat:
    found = LABEL_FORMATS[name]
    if not isinstance(found, LabelFormat):
        raise ValueError(f"{LABEL_FORMATS.key}: {name} is a {type(found).__name__}, allowed: a LabelFormat")
    return found
