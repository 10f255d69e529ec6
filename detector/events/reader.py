"""What every reader of recordings has in common."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import numpy as np

from detector.events.header import Header
from detector.events.types import EventCD, EventExtTrigger

__all__ = ["CHUNK", "Columns", "EventReader"]

CHUNK = 1 << 16
"""Records decoded at once: intermediate arrays stay in the processor's cache."""

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""x uint16, y uint16, p int8, t int64, each (N,)."""


class EventReader(ABC):
    """A recording: opening is immediate, reading a window reads only its own bytes.

    Files are read by position, not mapped into memory: a search that looks at single words costs far less than page
    faults do, a file that shrinks meanwhile gives an error and not a crash, and processes may share a reader.
    Times are the file's, in microseconds; a clock that starts anew in the file goes on here.

    Args:
        path: the recording.
        header: its first lines.
        height: sensor height in pixels, if the header may lack it.
        width: sensor width in pixels, if the header may lack it.

    Raises:
        ValueError: sizes are unknown or contradict the header, or the data ends in mid-record.
    """

    record_bytes: ClassVar[int]
    """Size of a record, the unit of all indices."""

    def __init__(self, path: Path, header: Header, height: int | None = None, width: int | None = None) -> None:
        self.path = path
        self.height, self.width = _sensor_size(path, header, height, width)
        start = self._data_start(header)
        size = path.stat().st_size - start
        if size % self.record_bytes:
            raise ValueError(
                f"{path}: truncated {header.format} recording: {size} bytes of data, "
                f"allowed: a multiple of {self.record_bytes}"
            )
        self._num_records = size // self.record_bytes
        self._start = start
        self._file = path.open("rb", buffering=0)

    def _data_start(self, header: Header) -> int:
        return header.size

    @property
    @abstractmethod
    def first_t(self) -> int | None:
        """Time of the first event, None if the recording has none."""

    @property
    @abstractmethod
    def last_t(self) -> int | None:
        """Time of the last event, None if the recording has none."""

    @abstractmethod
    def read_columns(self, t0: int | None = None, t1: int | None = None) -> Columns:
        """Events of [t0, t1) as separate arrays: the fast path.

        Args:
            t0: first microsecond; from the start if not given.
            t1: microsecond after the last; to the end if not given.

        Returns:
            x uint16, y uint16, p int8 (0 OFF, 1 ON), t int64, each (N,), in order of time.

        Raises:
            ValueError: an event lies outside the sensor, time runs backwards, or the reader is closed.
        """

    def read(self, t0: int | None = None, t1: int | None = None) -> np.ndarray:
        """Events of [t0, t1) as an (N,) `EventCD` array; arguments and errors as in `read_columns`."""
        columns = self.read_columns(t0, t1)
        events = np.empty(columns[0].size, EventCD)
        for start in range(0, events.size, CHUNK):
            part = slice(start, start + CHUNK)
            for name, column in zip("xypt", columns, strict=True):
                events[part][name] = column[part]
        return events

    def windows(self, delta_t: int, t0: int | None = None, t1: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Walk through the recording in steps of `delta_t`, empty ones included, holding one at a time.

        Args:
            delta_t: length of a window in microseconds.
            t0: start of the first window; by default the multiple of `delta_t` at or before the first event.
            t1: end of the last window, which is shorter if need be; by default just after the last event.

        Returns:
            Iterator of (start of the window, (N,) `EventCD`); empty without events.

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

    def triggers(self) -> np.ndarray:
        """Edges of external triggers as an (N,) `EventExtTrigger` array; a format without them has none."""
        return np.empty(0, EventExtTrigger)

    def close(self) -> None:
        """Let go of the file; arrays that were read stay valid."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _words(self, start: int, stop: int) -> np.ndarray:
        """Records [start, stop) as little-endian 32-bit words, not to be written to."""
        if self._file.closed:
            raise ValueError(f"{self.path}: the reader is closed, allowed: reading before close()")
        size = (stop - start) * self.record_bytes
        data = os.pread(self._file.fileno(), size, self._start + start * self.record_bytes)
        if len(data) != size:
            raise ValueError(f"{self.path}: read {len(data)} of {size} bytes, allowed: a file that stays as it is")
        return np.frombuffer(data, "<u4")

    def _check_pixels(self, x: np.ndarray, y: np.ndarray) -> None:
        if x.size and (x.max() >= self.width or y.max() >= self.height):
            raise ValueError(
                f"{self.path}: event outside the sensor: x up to {x.max()}, y up to {y.max()}, "
                f"allowed: below {self.width} x {self.height}"
            )


def _sensor_size(path: Path, header: Header, height: int | None, width: int | None) -> tuple[int, int]:
    found = header.sensor_size()
    if found is None and (height is None or width is None):
        raise ValueError(f"{path}: the header tells no sensor size, give height and width")
    size = found or (height or 0, width or 0)
    if (height or size[0], width or size[1]) != size:
        raise ValueError(f"{path}: height, width: got {height}, {width}, the header says {size[0]}, {size[1]}")
    if min(size) < 1:
        raise ValueError(f"{path}: height, width: got {size[0]}, {size[1]}, allowed: at least 1")
    return size
