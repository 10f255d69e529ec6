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
"""Records that are processed at once: intermediate arrays stay in the processor's cache."""

Found = TypeVar("Found")


class EventReader(ABC):
    """A recording. Opening it reads no events, and reading a window of a large recording reads only this part of it.

    Times are those of the file in microseconds; where the clock of the file restarts from 0, times continue to grow.
    Faulty events are dropped or mended (`detector.events.faults`). A small recording is read once before its first
    search, a large one when `faults` is used or a faulty event is found. After that, windows are exactly parts of the
    mended whole.

    Args:
        path: the recording.
        height: sensor height in pixels.
        width: sensor width in pixels.

    Attributes:
        format: name or import path of the format, as in `data.event_format`.
        max_faulty_events: largest share of faulty events at which the recording is still read; 10 faulty events are
            always allowed, unless this is 0.
    """

    period: ClassVar[int] = 0
    """Value at which stored times of events restart from 0; 0 if they do not."""

    sure: ClassVar[bool] = True
    """Whether a search always finds the right window if no event is faulty: the file has no separate words of time that
    could be wrong."""

    format = ""
    max_faulty_events = MAX_FAULTY
    _cut = 0
    _clean = False
    _closed = False

    def __init__(self, path: Path, height: int, width: int) -> None:
        self.path = path
        self.height = height
        self.width = width

    @property
    def faults(self) -> Faults:
        """Faulty events of the whole recording, which is read to the end at first use.

        Raises:
            ValueError: there are too many, or time falls and stays low.
        """
        return self._check(Faults(), 0) if self._clean else self._mended.faults + Faults(cut=self._cut)

    @property
    def first_t(self) -> int | None:
        """Time of the first event, None if the recording has none."""
        return self._attempt(self._quick_first_t, lambda: self._mended.first_t)

    @property
    def last_t(self) -> int | None:
        """Time of the last event, None if the recording has none."""
        return self._attempt(self._quick_last_t, lambda: self._mended.last_t)

    def read_columns(self, t0: int | None = None, t1: int | None = None, out: ColumnBuffer | None = None) -> Columns:
        """Events of [t0, t1) as separate arrays. This is faster than `read`.

        Args:
            t0: first microsecond; from the start if not given.
            t1: microsecond after the last; to the end if not given.
            out: memory to read into, which the next reading into it overwrites; new memory if not given.

        Returns:
            x uint16, y uint16, p int8 (0 OFF, 1 ON), t int64, each (N,), in order of time.

        Raises:
            ValueError: too many events are faulty, time falls and stays low, or the reader is closed.
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
        """The result of `quick`, which assumes that no event is faulty, or of `mended` where one is or may be."""
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
        found = found + Faults(cut=self._cut)
        excess = found.excess(num_events, self.max_faulty_events)
        if excess:
            raise ValueError(f"{self.path}: {excess}")
        return found

    def _is_quick(self, whole: bool = False) -> bool:
        """Whether to assume that no event is faulty: as long as it is not known, and if it is known."""
        scanned = "_mended" in vars(self) or (not whole and self._is_small() and self._mended is not None)
        return self._clean and (whole or self.sure) if scanned else True

    @abstractmethod
    def _is_small(self) -> bool:
        """Whether the recording is read once before it is first searched."""

    @abstractmethod
    def _quick_columns(self, t0: int | None, t1: int | None, buffer: ColumnBuffer) -> Columns:
        """As `read_columns`; raises `DisorderError` if an event is faulty."""

    @abstractmethod
    def _quick_first_t(self) -> int | None:
        """As `first_t`; raises `DisorderError` if an event is faulty."""

    @abstractmethod
    def _quick_last_t(self) -> int | None:
        """As `last_t`; raises `DisorderError` if an event is faulty."""

    @abstractmethod
    def _raw_blocks(self, finder: FaultFinder) -> Iterator[RawBlock]:
        """All events as they are stored, block by block; `finder` was given the blocks before."""

    @abstractmethod
    def _raw_block(self, number: int) -> Columns:
        """A block of `_raw_blocks` again."""

    def read(self, t0: int | None = None, t1: int | None = None) -> np.ndarray:
        """Events of [t0, t1) as an (N,) `EventCD` array; arguments and errors as in `read_columns`."""
        return to_events(self.read_columns(t0, t1))

    def windows(self, delta_t: int, t0: int | None = None, t1: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over windows of `delta_t`, empty ones included; one window is in memory at a time.

        Args:
            delta_t: length of a window in microseconds.
            t0: start of the first window; by default the multiple of `delta_t` at or before the first event.
            t1: end of the last window, which may be shorter; by default just after the last event.

        Returns:
            Iterator of (start of the window, (N,) `EventCD`), empty for a recording without events.

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
        """Iterate over batches of `count` events; one batch is in memory at a time.

        Args:
            count: number of events per batch; the last batch may be shorter.

        Returns:
            Iterator of (count,) `EventCD` arrays.

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
        """Edges of external triggers as an (N,) `EventExtTrigger` array, empty in formats without triggers."""
        return np.empty(0, EventExtTrigger)

    def close(self) -> None:
        """Close the file; arrays that were read stay valid."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self.path}: the reader is closed, allowed: reading before close()")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def to_events(columns: Columns) -> np.ndarray:
    """Columns as an (N,) `EventCD` array."""
    events = np.empty(columns[0].size, EventCD)
    for start in range(0, events.size, CHUNK):
        part = slice(start, start + CHUNK)
        for name, column in zip("xypt", columns, strict=True):
            events[part][name] = column[part]
    return events
