"""Check the values of boxes and convert them to `BBOX_dtype`."""

import numpy as np

from detector.config.label_timing import TimeUnit
from detector.events.types import BBOX_dtype

__all__ = ["field_columns", "to_boxes", "to_microseconds"]

PER_UNIT = {"us": (1, 1), "ms": (1_000, 1), "s": (1_000_000, 1), "ns": (1, 1_000)}
"""Number of microseconds in each time unit, as numerator and denominator."""

UNIT_ADVICE = "whole microseconds; for other units give --label_time_unit s, ms or ns (time_unit in load_labels)"

LEGACY_NAMES = {"t": ("ts", "timestamp"), "class_confidence": ("confidence",)}
"""For fields of `BBOX_dtype`, the names that older files use."""


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
