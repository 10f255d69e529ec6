"""Functions that the writers of recordings share: check events, split events into parts, create text headers."""

from collections.abc import Iterator

import numpy as np

from detector.events.arrays import DTYPES, Columns
from detector.events.types import EventCD

__all__ = ["check_events", "in_parts", "raw_header"]

PART = 1 << 16
"""Number of events that are processed at once, which limits the size of intermediate arrays."""


def check_events(
    events: np.ndarray, height: int, width: int, *, max_side: int, period: int, longest: int | None = None
) -> None:
    """Raise an error if a file format cannot store the events. Writers call this before they write anything.

    Args:
        events: (N,) array with the fields of `EventCD` in any order. The events must be in order of time.
        height: sensor height in pixels.
        width: sensor width in pixels.
        max_side: largest height and width in the format.
        period: number of microseconds after which the clock of the format restarts from 0.
        longest: times of successive events must differ by less than this number of microseconds; half of `period` if
            None.

    Raises:
        ValueError: a field is missing, an event is outside the sensor, times fall, or a time or time difference is too
            large.
    """
    names = events.dtype.names or ()
    if not set(EventCD.names or ()) <= set(names):
        raise ValueError(f"events: fields found: {', '.join(names) or 'none'}; required: x, y, p, t")
    for name, side in (("height", height), ("width", width)):
        if not 1 <= side <= max_side:
            raise ValueError(f"{name}: got {side}, allowed: 1 to {max_side} in this format")
    if events.size and not 0 <= events["t"][0] < period:
        raise ValueError(f"events: the first t is {events['t'][0]}, allowed: from 0 to below {period} in this format")
    for start in range(0, events.size, PART):
        part = events[start : start + PART]
        for name, end in (("y", height), ("x", width), ("p", 2)):
            _check_range(name, part[name], end)
        _check_steps(events["t"][max(0, start - 1) : start + PART], max(1, start), longest or period // 2)


def in_parts(events: np.ndarray) -> Iterator[Columns]:
    """Yield the columns x, y, p, t of an (N,) `EventCD` array in parts of at most `PART` events."""
    for start in range(0, events.size, PART):
        part = events[start : start + PART]
        x, y, p, t = (np.ascontiguousarray(part[name], dtype) for name, dtype in zip("xypt", DTYPES, strict=True))
        yield x, y, p, t


def raw_header(name: str, version: str, height: int, width: int) -> bytes:
    """Return the text header of a RAW recording.

    Args:
        name: name of the encoding, for example "EVT3".
        version: version of the encoding, for example "3.0".
        height: sensor height in pixels.
        width: sensor width in pixels.
    """
    return (
        f"% evt {version}\n% format {name};height={height};width={width}\n% geometry {width}x{height}\n% end\n"
    ).encode()


def _check_steps(t: np.ndarray, first: int, limit: int) -> None:
    """Raise an error if times fall, or if two successive times differ by `limit` or more.

    `first` is the index of the event with the time `t[1]`, for the error message.
    """
    wrong = (t[1:] < t[:-1]) | (t[1:] - t[:-1] >= limit)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise ValueError(
            f"events: t goes from {t[index]} to {t[index + 1]} at event {first + index}, "
            f"allowed: steps from 0 to below {limit} in this format"
        )


def _check_range(name: str, values: np.ndarray, end: int) -> None:
    if values.size and (values.max() >= end or values.min() < 0):
        raise ValueError(f"events: {name} runs from {values.min()} to {values.max()}, allowed: 0 to {end - 1}")
