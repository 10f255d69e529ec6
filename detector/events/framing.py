"""Division of a recording, or of event chunks from a camera, into frames."""

import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from detector.events.arrays import DTYPES, ColumnBuffer, Columns, join, slice_columns
from detector.events.faults import MAX_FAULTY, FaultFinder
from detector.events.headers.sensor_size import MAX_SIDE
from detector.events.kernels import LATEST_US
from detector.events.reader import EventReader

__all__ = ["divide_into_frames"]


def divide_into_frames(
    events: EventReader | Iterable[np.ndarray], delta_t: int, *, height: int = MAX_SIDE, width: int = MAX_SIDE
) -> Iterator[tuple[int, Columns]]:
    """Divide a stream of events into frames of length `delta_t`, including frames without events.

    Only the events of one frame are in memory at a time. The first frame starts at the time of the first event, rounded
    down to a multiple of `delta_t`. The last frame contains the last event. If `events` are chunks, a frame is yielded
    as soon as an event of a later frame arrives.

    Faulty events (outside the sensor or out of order) in chunks are dropped, or their times are corrected, as in
    recordings. There is one exception: if the time of the last event of a chunk is at most 100 ms too high, the event
    is kept. If there are more faulty events than a recording may contain by default, a single warning is issued.

    Args:
        events: a recording, or chunks of `EventCD` events in order of time. A chunk may have any length.
        delta_t: duration of a frame in microseconds.
        height: sensor height in pixels, needed for chunks only.
        width: sensor width in pixels, needed for chunks only.

    Yields:
        (start of the frame in microseconds, columns x, y, p, t), where t is relative to the start of the frame. The
        columns are overwritten by the next frame.

    Raises:
        ValueError: chunks are not `EventCD` arrays, a recording has too many faulty events, or the time falls by more
            than 100 ms and more than one event is out of order.
    """
    if isinstance(events, EventReader):
        return _of_recording(events, delta_t)
    return _of_chunks(_Mender(height, width).mend(events), delta_t)


def _of_recording(reader: EventReader, delta_t: int) -> Iterator[tuple[int, Columns]]:
    first, last = reader.first_t, reader.last_t
    if first is None or last is None:
        return
    buffer = ColumnBuffer()
    for start in range(first // delta_t * delta_t, last + 1, delta_t):
        columns = reader.read_columns(start, start + delta_t, buffer)
        columns[3][:] -= start
        yield start, columns


def _of_chunks(chunks: Iterable[Columns], delta_t: int) -> Iterator[tuple[int, Columns]]:
    held = _Held()
    start = None
    for chunk in chunks:
        times = chunk[3]
        if not times.size:
            continue
        if start is None:
            start = int(times[0]) // delta_t * delta_t
        done = 0
        while times[-1] >= start + delta_t:
            stop = int(np.searchsorted(times, start + delta_t))
            held.add(chunk, done, stop, start)
            yield start, held.take()
            start, done = start + delta_t, stop
        held.add(chunk, done, times.size, start)
    if start is not None:
        yield start, held.take()


class _Held:
    """Buffer for the events of a frame that is not complete yet."""

    def __init__(self) -> None:
        self._buffer, self._count = ColumnBuffer(), 0

    def add(self, events: Columns, begin: int, stop: int, start: int) -> None:
        """Append the events `begin` to `stop - 1` of `events`, with times relative to `start` in microseconds."""
        before, self._count = self._count, self._count + stop - begin
        columns = self._buffer.take(self._count, keep=before)
        for column, values in zip(columns, events, strict=True):
            column[before:] = values[begin:stop]
        columns[3][before:] -= start

    def take(self) -> Columns:
        """Return all events of the frame, and empty the buffer for the next frame."""
        columns, self._count = self._buffer.take(self._count), 0
        return columns


class _Mender:
    """Drops the faulty events of a stream of chunks or corrects their times.

    Whether an event is faulty may depend on the events after it. Such an event is held back until these events arrive.
    """

    def __init__(self, height: int, width: int) -> None:
        self._finder = FaultFinder("events", width, height)
        self._doubtful: Columns | None = None
        self._warned = False

    def mend(self, chunks: Iterable[np.ndarray]) -> Iterator[Columns]:
        """Yield the events of all chunks as columns x, y, p, t, in order of time and without faulty events.

        The yielded parts may be longer or shorter than the chunks.
        """
        for chunk in chunks:
            if _check_fields(chunk).size:
                yield self._finder.mend(self._hold(_columns(chunk)))
                self._warn()
        if self._doubtful is not None:
            yield self._finder.mend(self._doubtful)
        yield self._finder.mend(None)
        self._warn()

    def _hold(self, new: Columns) -> Columns:
        """Return the events that can be checked now: the event that was held back before, then the `new` events.

        The last event is held back if it is more than 100 ms later than the event before it. Only the next event can
        show whether its time is right.
        """
        if self._doubtful is not None:
            new = join(self._doubtful, new)
        t = new[3]
        before = t[-2] if t.size > 1 else self._finder.now
        stop = t.size - int(t[-1] > before + LATEST_US and t.size + self._finder.kept > 1)
        self._doubtful = slice_columns(new, stop, t.size) if stop < t.size else None
        return slice_columns(new, 0, stop)

    def _warn(self) -> None:
        excess = None if self._warned else self._finder.faults.excess(self._finder.num_events, MAX_FAULTY)
        if excess:
            warnings.warn(f"events: {excess}", stacklevel=2)
            self._warned = True


def _columns(events: np.ndarray) -> Columns:
    """Convert an `EventCD` array to columns x, y, p, t. p becomes 0 for OFF events and 1 for ON events.

    If x or y is larger than any sensor allows, p becomes -1, which marks the event as faulty.
    """
    x, y, p, t = (events[name] for name in "xypt")
    outside = (x >= MAX_SIDE) | (y >= MAX_SIDE)
    p = np.where(outside, -1, p > 0)
    x, y, p, t = (np.ascontiguousarray(c, d) for c, d in zip((x, y, p, t), DTYPES, strict=True))
    return x, y, p, t


def _check_fields(chunk: np.ndarray) -> np.ndarray:
    found, wanted = dict(chunk.dtype.fields or {}), zip("xypt", DTYPES, strict=True)
    if not all(name in found and np.can_cast(found[name][0], dtype, "same_kind") for name, dtype in wanted):
        raise ValueError(f"events: got chunks of {chunk.dtype}, allowed: EventCD arrays (x, y, p, t)")
    return chunk
