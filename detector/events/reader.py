"""Base class of all readers of recordings."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeVar

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns
from detector.events.faults import MAX_FAULTY, DisorderError, FaultFinder, Faults, MendedBlocks, RawBlock
from detector.events.types import EventCD, EventExtTrigger

__all__ = ["CHUNK", "EventReader", "to_events"]

CHUNK = 1 << 16
"""Number of events that are processed at once. Intermediate arrays of this length fit in the CPU cache."""

Found = TypeVar("Found")


class EventReader(ABC):
    """Base class of the readers of all formats. A time window of a large recording is read without reading the rest.

    Times are the times of the file in microseconds. If the clock of the file restarts from 0, the times of the reader
    continue to grow.

    Faulty events (outside the sensor or out of order) are dropped, or mended by correcting their times. A small
    recording is read completely before its first search. A large recording is read completely when `faults` is used or
    when a faulty event is found. After that, every window is an exact part of the mended recording.

    Args:
        path: path of the recording.
        height: sensor height in pixels.
        width: sensor width in pixels.

    Attributes:
        format: name or import path of the format, as in the setting `data.event_format`.
        max_faulty_events: largest accepted share of faulty events, from 0 to 1. With 0, no faulty event is accepted.
            With a share above 0, ten faulty events are accepted even in a short recording.
    """

    period: ClassVar[int] = 0
    """Value at which the stored times of events restart from 0; 0 if they do not restart."""

    sure: ClassVar[bool] = True
    """Whether a search finds the right window in every recording without faulty events.

    False for formats with separate time words, because such a word can be wrong although all events are in order.
    """

    format = ""
    max_faulty_events = MAX_FAULTY
    _truncated = 0
    _clean = False
    _closed = False

    def __init__(self, path: Path, height: int, width: int) -> None:
        self.path = path
        self.height = height
        self.width = width

    @property
    def faults(self) -> Faults:
        """Number of faulty events of each kind in the whole recording. The first use reads the recording to the end.

        Raises:
            ValueError: too many events are faulty, or the time falls by more than 100 ms and more than one event is out
                of order.
        """
        return self._check(Faults(), 0) if self._clean else self._mended.faults + Faults(truncated=self._truncated)

    @property
    def first_t(self) -> int | None:
        """Time of the first event in microseconds, None if the recording has no events."""
        return self._attempt(self._quick_first_t, lambda: self._mended.first_t)

    @property
    def last_t(self) -> int | None:
        """Time of the last event in microseconds, None if the recording has no events."""
        return self._attempt(self._quick_last_t, lambda: self._mended.last_t)

    def read_columns(self, t0: int | None = None, t1: int | None = None, out: ColumnBuffer | None = None) -> Columns:
        """Read the events with t0 <= t < t1 as separate arrays. This is faster than `read`.

        Args:
            t0: start of the window in microseconds; the start of the recording if None.
            t1: end of the window in microseconds (exclusive); the end of the recording if None.
            out: buffer for the returned arrays, which are valid until the next read into this buffer; new arrays if
                None.

        Returns:
            x uint16, y uint16, p int8 (0 OFF, 1 ON), t int64, each (N,), in order of time.

        Raises:
            ValueError: the reader is closed, too many events are faulty, or the time falls by more than 100 ms and more
                than one event is out of order.
        """
        buffer, whole = out or ColumnBuffer(), t0 is None and t1 is None

        def quick() -> Columns:
            columns = self._quick_columns(t0, t1, buffer)
            if whole:
                self._clean = True
                self._check(Faults(), columns[3].size)
            return columns

        return self._attempt(quick, lambda: self._mended.read(t0, t1, buffer), whole)

    def _attempt(self, quick: Callable[[], Found], mended: Callable[[], Found], whole: bool = False) -> Found:
        """Return the result of `quick`. If an event is or may be faulty, return the result of `mended` instead.

        Args:
            quick: reads on the assumption that no event is faulty, and raises a `DisorderError` if one is.
            mended: reads from the recording in which faulty events are dropped or mended.
            whole: whether the entire recording is read.
        """
        if self._is_quick(whole):
            with suppress(DisorderError):
                return quick()
        return mended()

    @cached_property
    def _mended(self) -> MendedBlocks:
        finder = FaultFinder(self.path, self.width, self.height, self.period)
        mended = MendedBlocks(self._raw_blocks(finder), self._raw_block, finder)
        self._check(mended.faults, mended.num_events)
        self._clean = mended.faults.total == 0
        return mended

    def _check(self, found: Faults, num_events: int) -> Faults:
        found = found + Faults(truncated=self._truncated)
        excess = found.excess(num_events, self.max_faulty_events)
        if excess:
            raise ValueError(f"{self.path}: {excess}")
        return found

    def _is_quick(self, whole: bool = False) -> bool:
        """Return True if the next read assumes that no event is faulty.

        If the recording has not been checked yet, the result is True. But if `whole` is False, a small recording is
        checked now. After the check, the result is True if both conditions are met:

        - The recording has no faulty events.
        - The entire recording is read (`whole`), or a search in this format always finds the right window (`sure`).
        """
        scanned = "_mended" in vars(self) or (not whole and self._is_small() and self._mended is not None)
        return self._clean and (whole or self.sure) if scanned else True

    @abstractmethod
    def _is_small(self) -> bool:
        """Return True if the recording is so small that it is read completely before its first search."""

    @abstractmethod
    def _quick_columns(self, t0: int | None, t1: int | None, buffer: ColumnBuffer) -> Columns:
        """Read the events with t0 <= t < t1 like `read_columns`, but raise `DisorderError` if an event is faulty."""

    @abstractmethod
    def _quick_first_t(self) -> int | None:
        """Return the value of `first_t`, but raise `DisorderError` if an event is faulty."""

    @abstractmethod
    def _quick_last_t(self) -> int | None:
        """Return the value of `last_t`, but raise `DisorderError` if an event is faulty."""

    @abstractmethod
    def _raw_blocks(self, finder: FaultFinder) -> Iterator[RawBlock]:
        """Iterate over all events as they are stored, in blocks.

        When the next block is requested, `finder` has already checked the previous blocks.

        Yields:
            Columns x, y, p, t of a block, and True if any of its events may be faulty.
        """

    @abstractmethod
    def _raw_block(self, number: int) -> Columns:
        """Return the stored events of the block with index `number` again, as `_raw_blocks` has yielded them."""

    def read(self, t0: int | None = None, t1: int | None = None) -> np.ndarray:
        """Read the events with t0 <= t < t1 (microseconds) as an (N,) `EventCD` array.

        If `t0` or `t1` is None, the window begins at the start or ends at the end of the recording. Errors are as in
        `read_columns`.
        """
        return to_events(self.read_columns(t0, t1))

    def windows(self, delta_t: int, t0: int | None = None, t1: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over windows of length `delta_t`, including windows without events.

        Only one window is in memory at a time.

        Args:
            delta_t: length of a window in microseconds.
            t0: start of the first window in microseconds. If None, the time of the first event, rounded down to a
                multiple of `delta_t`.
            t1: end of the last window, which may be shorter than the others. If None, just after the last event.

        Returns:
            Iterator over (start of the window in microseconds, (N,) `EventCD` array); empty for a recording without
            events.

        Raises:
            ValueError: `delta_t` is below 1.
        """
        if delta_t < 1:
            raise ValueError(f"delta_t: got {delta_t}, allowed: at least 1 microsecond")
        first, last = self.first_t, self.last_t
        if first is None or last is None:
            return iter(())
        begin = first // delta_t * delta_t if t0 is None else t0
        end = last + 1 if t1 is None else t1
        return ((start, self.read(start, min(start + delta_t, end))) for start in range(begin, end, delta_t))

    def batches(self, count: int) -> Iterator[np.ndarray]:
        """Iterate over batches of `count` events. One batch is in memory at a time.

        Args:
            count: number of events per batch; the last batch may be shorter.

        Returns:
            Iterator over (count,) `EventCD` arrays.

        Raises:
            ValueError: `count` is below 1.
        """
        if count < 1:
            raise ValueError(f"count: got {count}, allowed: at least 1 event")
        return self._batches(count)

    def _batches(self, count: int) -> Iterator[np.ndarray]:
        batch, filled = np.empty(count, EventCD), 0
        for block in self._mended.blocks():
            done = 0
            while done < block[0].size:
                size = min(count - filled, block[0].size - done)
                for name, column in zip("xypt", block, strict=True):
                    batch[name][filled : filled + size] = column[done : done + size]
                done, filled = done + size, filled + size
                if filled == count:
                    yield batch
                    batch, filled = np.empty(count, EventCD), 0
        if filled:
            yield batch[:filled]

    def triggers(self) -> np.ndarray:
        """Return the edges of the external trigger inputs of the camera as an (N,) `EventExtTrigger` array.

        The array is empty for formats without triggers.
        """
        return np.empty(0, EventExtTrigger)

    def frame_times(self) -> np.ndarray:
        """Return the times of the camera images that the file contains, as an (N,) int64 array in microseconds.

        The times are on the clock of the events, in the order of the file. The array is empty if there are no images.
        """
        return np.empty(0, np.int64)

    def close(self) -> None:
        """Close the file. Arrays that were read remain valid."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self.path}: the reader is closed, allowed: reading before close()")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def to_events(columns: Columns) -> np.ndarray:
    """Convert columns x, y, p, t to an (N,) `EventCD` array."""
    events = np.empty(columns[0].size, EventCD)
    for start in range(0, events.size, CHUNK):
        part = slice(start, start + CHUNK)
        for name, column in zip("xypt", columns, strict=True):
            events[part][name] = column[part]
    return events
