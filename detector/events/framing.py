"""Events of one frame after another, from a recording or from whatever a camera delivers."""

from collections.abc import Iterable, Iterator

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns
from detector.events.reader import EventReader

__all__ = ["cut_frames"]


def cut_frames(events: EventReader | Iterable[np.ndarray], delta_t: int) -> Iterator[tuple[int, Columns]]:
    """Cut a stream into frames of `delta_t`, empty ones included, holding the events of one frame at a time.

    The first frame starts at the multiple of `delta_t` at or before the first event, the last one holds the last
    event. A frame of chunks is complete as soon as an event after it has come.

    Args:
        events: a recording, or chunks of `EventCD` events in order of time, of any length.
        delta_t: duration of a frame in microseconds.

    Yields:
        (start of the frame in microseconds, columns x, y, p, t with t from that start); the columns are overwritten by
        the next frame.

    Raises:
        ValueError: events are no `EventCD` events, or time runs backwards.
    """
    return _of_recording(events, delta_t) if isinstance(events, EventReader) else _of_chunks(events, delta_t)


def _of_recording(reader: EventReader, delta_t: int) -> Iterator[tuple[int, Columns]]:
    first, last = reader.first_t, reader.last_t
    if first is None or last is None:
        return
    buffer = ColumnBuffer()
    for start in range(first // delta_t * delta_t, last + 1, delta_t):
        columns = reader.read_columns(start, start + delta_t, buffer)
        columns[3][:] -= start
        yield start, columns


def _of_chunks(chunks: Iterable[np.ndarray], delta_t: int) -> Iterator[tuple[int, Columns]]:
    held = _Held()
    start = last = None
    for chunk in chunks:
        _check_fields(chunk)
        if not chunk.size:
            continue
        times = chunk["t"]
        _check_order(times, last)
        last = int(times[-1])
        if start is None:
            start = int(times[0]) // delta_t * delta_t
        done = 0
        while last >= start + delta_t:
            stop = int(np.searchsorted(times, start + delta_t))
            held.add(chunk[done:stop], start)
            yield start, held.take()
            start, done = start + delta_t, stop
        held.add(chunk[done:], start)
    if start is not None:
        yield start, held.take()


class _Held:
    """Events of the frame that is not yet complete."""

    def __init__(self) -> None:
        self._buffer, self._count = ColumnBuffer(), 0

    def add(self, events: np.ndarray, start: int) -> None:
        """Append events, their times counted from `start`."""
        before, self._count = self._count, self._count + events.size
        x, y, p, t = self._buffer.take(self._count, keep=before)
        x[before:], y[before:], p[before:] = events["x"], events["y"], events["p"]
        np.subtract(events["t"], start, out=t[before:])

    def take(self) -> Columns:
        """All of them; the next frame begins."""
        columns, self._count = self._buffer.take(self._count), 0
        return columns


def _check_fields(chunk: np.ndarray) -> None:
    wanted = {"x": np.uint16, "y": np.uint16, "p": np.int8, "t": np.int64}
    found = dict(chunk.dtype.fields or {})
    if not all(name in found and np.can_cast(found[name][0], dtype, "same_kind") for name, dtype in wanted.items()):
        raise ValueError(f"events: got chunks of {chunk.dtype}, allowed: EventCD arrays (x, y, p, t)")


def _check_order(times: np.ndarray, last: int | None) -> None:
    before = int(times[0]) if last is None else last
    if times[0] < before or bool((times[1:] < times[:-1]).any()):
        back = -int(np.diff(times, prepend=before).min())
        raise ValueError(f"events: time runs backwards by {back} us, allowed: times that only grow")
