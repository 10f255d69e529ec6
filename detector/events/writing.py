"""What all writers share: files that appear only when they are whole, and checks of the events."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from detector.events.types import EventCD

__all__ = ["check_events", "whole_file"]


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the name of `path` only if the block ends well.

    Args:
        path: the final file, replaced if it is there.

    Yields:
        The path to write to; it is removed if the block raises.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_events(events: np.ndarray, height: int, width: int, *, max_side: int, period: int) -> None:
    """Refuse events that a file format cannot hold, before anything is written.

    Args:
        events: (N,) `EventCD` (any field order).
        height: sensor height in pixels.
        width: sensor width in pixels.
        max_side: largest height and width of the format.
        period: microseconds after which the format's clock starts anew.

    Raises:
        ValueError: a field is missing, an event lies outside the sensor, or times are not those of a recording.
    """
    names = events.dtype.names or ()
    if not set(EventCD.names or ()) <= set(names):
        raise ValueError(f"events: fields found: {', '.join(names) or 'none'}; required: x, y, p, t")
    for name, side, field in (("height", height, "y"), ("width", width, "x")):
        if not 1 <= side <= max_side:
            raise ValueError(f"{name}: got {side}, allowed: 1 to {max_side} in this format")
        _check_range(field, events[field], side)
    _check_range("p", events["p"], 2)
    t = events["t"]
    if t.size and not 0 <= t[0] < period:
        raise ValueError(f"events: the first t is {t[0]}, allowed: from 0 to below {period} in this format")
    steps = np.diff(t)
    if steps.size and not 0 <= steps.min() <= steps.max() < period // 2:
        index = int(np.argmax((steps < 0) | (steps >= period // 2)))
        raise ValueError(
            f"events: t goes from {t[index]} to {t[index + 1]} at event {index + 1}, "
            f"allowed: steps from 0 to below {period // 2} in this format"
        )


def _check_range(name: str, values: np.ndarray, end: int) -> None:
    if values.size and (values.max() >= end or values.min() < 0):
        raise ValueError(f"events: {name} runs from {values.min()} to {values.max()}, allowed: 0 to {end - 1}")
