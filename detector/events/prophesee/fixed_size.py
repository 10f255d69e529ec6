"""Recordings that are a header and then records of one size, read by position."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns
from detector.events.header import Header, sensor_size
from detector.events.kernels import BACKWARDS, BASE, OUTSIDE, ROW, TIME
from detector.events.reader import EventReader

__all__ = ["RecordReader"]

CHUNK_BYTES = 1 << 19
"""Decoded at once: a chunk and what it becomes stay in the processor's cache."""

PAGE_BYTES = 1 << 12


class RecordReader(EventReader):
    """A file of records.

    Files are read by position, not mapped into memory: a search that looks at single words costs far less than page
    faults do, a file that shrinks meanwhile gives an error and not a crash, and processes may share a reader.

    Args:
        path: the recording.
        header: its first lines.
        height: sensor height in pixels, if the header may lack it.
        width: sensor width in pixels, if the header may lack it.

    Raises:
        ValueError: sizes are unknown or contradict the header, or the data ends in mid-record.
    """

    record: ClassVar[np.dtype]
    """A record as an integer; its size is the unit of all indices."""

    most_events: ClassVar[int] = 1
    """Events that one record holds at most."""

    def __init__(self, path: Path, header: Header, height: int | None = None, width: int | None = None) -> None:
        super().__init__(path, *sensor_size(path, header.sensor_size(), height, width))
        start = self._data_start(header)
        size = path.stat().st_size - start
        if size % self.record.itemsize:
            raise ValueError(
                f"{path}: truncated {header.format} recording: {size} bytes of data, "
                f"allowed: a multiple of {self.record.itemsize}"
            )
        self._num_records = size // self.record.itemsize
        self._start = start
        self._file = path.open("rb", buffering=0)
        self._page = 0, np.empty(0, self.record)

    def _data_start(self, header: Header) -> int:
        return header.size

    @abstractmethod
    def _bounds(self, t0: int | None, t1: int | None) -> tuple[int, int]:
        """Records that hold the events of [t0, t1), and perhaps more events at both ends."""

    @abstractmethod
    def _state(self, start: int, stop: int) -> np.ndarray:
        """State of the decoder before the first of the records [start, stop)."""

    @abstractmethod
    def _fill(self, records: np.ndarray, state: np.ndarray, columns: Columns, count: int) -> int:
        """Decode records behind the first `count` events; see `detector.events.kernels`."""

    def read_columns(self, t0: int | None = None, t1: int | None = None, out: ColumnBuffer | None = None) -> Columns:
        """Events of [t0, t1) as x, y, p, t; see `EventReader.read_columns`."""
        x, y, p, t = self._read(*self._bounds(t0, t1), out or ColumnBuffer())
        first = 0 if t0 is None else int(np.searchsorted(t, t0))
        last = t.size if t1 is None else int(np.searchsorted(t, t1))
        return x[first:last], y[first:last], p[first:last], t[first:last]

    def _read(self, start: int, stop: int, buffer: ColumnBuffer) -> Columns:
        """Events of records [start, stop)."""
        columns, count = buffer.take(max(0, stop - start)), 0
        state = self._state(start, stop)
        for records in self._chunks(start, stop):
            columns = buffer.take(max(stop - start, count + self.most_events * records.size), keep=count)
            count = self._decode(records, state, columns, count)
        x, y, p, t = columns
        return x[:count], y[:count], p[:count], t[:count]

    def _blocks(self) -> Iterator[Columns]:
        buffer = ColumnBuffer()
        start, stop = self._bounds(None, None)
        state = self._state(start, stop)
        for records in self._chunks(start, stop):
            columns = buffer.take(self.most_events * records.size)
            count = self._decode(records, state, columns, 0)
            x, y, p, t = columns
            yield x[:count], y[:count], p[:count], t[:count]

    def close(self) -> None:
        """Let go of the file; arrays that were read stay valid."""
        self._file.close()
        self._page = 0, np.empty(0, self.record)

    def _decode(self, records: np.ndarray, state: np.ndarray, columns: Columns, count: int) -> int:
        return self._checked(self._fill(records, state, columns, count), state)

    def _checked(self, count: int, state: np.ndarray) -> int:
        """What a loop returned, if it is no error."""
        if count == BACKWARDS:
            raise ValueError(f"{self.path}: time runs backwards by {state[TIME]} us, allowed: times that only grow")
        if count == OUTSIDE:
            raise ValueError(
                f"{self.path}: event outside the sensor: x {state[BASE]}, y {state[ROW]}, "
                f"allowed: below {self.width} x {self.height}"
            )
        return count

    def _chunks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Records [start, stop) chunk by chunk; each is valid until the next."""
        size = max(1, min(stop - start, CHUNK_BYTES // self.record.itemsize))
        memory = np.empty(size, self.record)
        for begin in range(start, stop, size):
            yield self._records(begin, min(begin + size, stop), memory)

    def _record_at(self, index: int) -> int:
        """One record; the page around it is kept, because a search ends with many places close together."""
        first, page = self._page
        if not first <= index < first + page.size:
            first = index - index % (PAGE_BYTES // self.record.itemsize)
            page = self._records(first, min(first + PAGE_BYTES // self.record.itemsize, self._num_records))
            self._page = first, page
        return int(page[index - first])

    def _records(self, start: int, stop: int, memory: np.ndarray | None = None) -> np.ndarray:
        """Records [start, stop), read into `memory` or into memory of their own."""
        if self._file.closed:
            raise ValueError(f"{self.path}: the reader is closed, allowed: reading before close()")
        records = np.empty(stop - start, self.record) if memory is None else memory[: stop - start]
        place = self._start + start * self.record.itemsize
        size = os.preadv(self._file.fileno(), [records.data], place) if records.size else 0
        if size != records.nbytes:
            raise ValueError(f"{self.path}: read {size} of {records.nbytes} bytes, allowed: a file that stays as it is")
        return records
