"""Base class of readers of files with a header and records of equal size, which are read by position."""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns, slice_columns
from detector.events.faults import DisorderError, FaultFinder, RawBlock
from detector.events.headers.header import read_text_header
from detector.events.headers.sensor_size import sensor_size
from detector.events.kernels import SUSPECT
from detector.events.reader import EventReader

__all__ = ["RecordReader"]

CHUNK_BYTES = 1 << 19
"""Number of bytes that are decoded at once. A chunk and its events fit in the CPU cache."""

PAGE_BYTES = 1 << 12

BLOCK_BYTES = 1 << 16
"""Size of the blocks in which a whole recording is read, in bytes.

Blocks are larger in files that would otherwise have more than `MOST_BLOCKS` blocks.
"""

MOST_BLOCKS = 1 << 16

SCANNED = 1 << 26
"""Files up to this number of bytes are read completely before the first search, which takes well below a second."""


class RecordReader(EventReader):
    """Base class of readers of files with records of equal size.

    Files are read by position and not mapped into memory, for three reasons. A search reads single words, which is far
    faster than page faults. A file that shrinks during reading causes an error and not a crash. Several processes may
    share a reader.

    Args:
        path: path of the recording.
        height: sensor height in pixels, for files that do not contain it.
        width: sensor width in pixels, for files that do not contain it.

    Raises:
        ValueError: the sensor size is unknown or contradicts the header.
    """

    record: ClassVar[np.dtype]
    """Integer type of a record. All indices count records of this type."""

    most_events: ClassVar[int] = 1
    """Largest number of events in one record."""

    decode: ClassVar[Callable[..., int]]
    """Compiled function that decodes records, see `detector.events.kernels`."""

    def __init__(self, path: Path, height: int | None = None, width: int | None = None) -> None:
        self.path, self._header = path, read_text_header(path)
        self._start = self._data_start()
        super().__init__(path, *sensor_size(path, self._header.sensor_size(), height, width))
        size = path.stat().st_size - self._start
        self._num_records, rest = divmod(size, self.record.itemsize)
        self._truncated = int(rest > 0)
        self._states: list[np.ndarray] = []
        self._memory = ColumnBuffer()
        self._file = path.open("rb", buffering=0)
        self._page = 0, np.empty(0, self.record)

    def _data_start(self) -> int:
        """Return the position of the first record in the file, in bytes."""
        return self._header.size

    @abstractmethod
    def _bounds(self, t0: int | None, t1: int | None) -> tuple[int, int]:
        """Return the range (start, stop) of the records that contain all events of [t0, t1).

        The range may contain more events at both ends.
        """

    @abstractmethod
    def _state(self, start: int, stop: int) -> np.ndarray:
        """Return the state of the decoder at the record `start`, for decoding the records [start, stop)."""

    def _fill(self, records: np.ndarray, state: np.ndarray, columns: Columns, count: int) -> int:
        """Decode `records` and append their events to `columns`, which already contain `count` events.

        Return the new number of events in `columns`.
        """
        return self.decode(records, state, *columns, count, self.width, self.height)

    def _is_small(self) -> bool:
        return self._num_records * self.record.itemsize <= SCANNED

    def _quick_columns(self, t0: int | None, t1: int | None, buffer: ColumnBuffer) -> Columns:
        columns = self._read(*self._bounds(t0, t1), buffer)
        t = columns[3]
        first = 0 if t0 is None else int(np.searchsorted(t, t0))
        last = t.size if t1 is None else int(np.searchsorted(t, t1))
        return slice_columns(columns, first, last)

    def _read(self, start: int, stop: int, buffer: ColumnBuffer) -> Columns:
        """Decode the records [start, stop) into `buffer`, and return their events as columns x, y, p, t."""
        columns, count = buffer.take(max(0, stop - start)), 0
        state = self._state(start, stop)
        for records in self._chunks(start, stop):
            columns = buffer.take(max(stop - start, count + self.most_events * records.size), keep=count)
            count = self._decode(records, state, columns, count)
        return slice_columns(columns, 0, count)

    def _raw_blocks(self, finder: FaultFinder) -> Iterator[RawBlock]:
        self._states = []
        start, stop = self._block_bounds
        state = self._state(start, stop)
        for begin in range(start, stop, self._block_size):
            self._resume(state, finder)
            state[SUSPECT] = 0
            self._states.append(state.copy())
            columns = self._raw(begin, state)
            yield columns, bool(state[SUSPECT])

    def _raw_block(self, number: int) -> Columns:
        return self._raw(self._block_bounds[0] + number * self._block_size, self._states[number].copy())

    def _raw(self, begin: int, state: np.ndarray) -> Columns:
        records = self._records(begin, min(begin + self._block_size, self._num_records))
        columns = self._memory.take(self.most_events * records.size)
        count = self._fill(records, state, columns, 0)
        return slice_columns(columns, 0, count)

    @property
    def _block_size(self) -> int:
        return max(BLOCK_BYTES // self.record.itemsize, -(-self._num_records // MOST_BLOCKS))

    @property
    def _block_bounds(self) -> tuple[int, int]:
        """Indices (start, stop) of the records that contain all events of the file, from `start` to `stop - 1`."""
        return 0, self._num_records

    def _resume(self, state: np.ndarray, finder: FaultFinder) -> None:
        """Correct the decoder state at the start of a block, if faulty events before it have made the state wrong.

        The base class does nothing, because most decoders need no correction.
        """

    def close(self) -> None:
        """Close the file. Arrays that were read remain valid."""
        super().close()
        self._file.close()
        self._page = 0, np.empty(0, self.record)

    def _decode(self, records: np.ndarray, state: np.ndarray, columns: Columns, count: int) -> int:
        count = self._fill(records, state, columns, count)
        if state[SUSPECT]:
            raise DisorderError
        return count

    def _chunks(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Iterate over the records [start, stop) in chunks. A chunk is valid until the next chunk is requested."""
        size = max(1, min(stop - start, CHUNK_BYTES // self.record.itemsize))
        memory = np.empty(size, self.record)
        for begin in range(start, stop, size):
            yield self._records(begin, min(begin + size, stop), memory)

    def _record_at(self, index: int) -> int:
        """Return the record with this index as an int.

        The records around it are kept in memory, because the last steps of a search are close together.
        """
        first, page = self._page
        if not first <= index < first + page.size:
            first = max(0, index - PAGE_BYTES // self.record.itemsize // 2)
            page = self._records(first, min(first + PAGE_BYTES // self.record.itemsize, self._num_records))
            self._page = first, page
        return int(page[index - first])

    def _records(self, start: int, stop: int, memory: np.ndarray | None = None) -> np.ndarray:
        """Read the records [start, stop) into `memory`, or into a new array if `memory` is None."""
        self._check_open()
        records = np.empty(stop - start, self.record) if memory is None else memory[: stop - start]
        place = self._start + start * self.record.itemsize
        size = os.preadv(self._file.fileno(), [records.data], place) if records.size else 0
        if size != records.nbytes:
            raise ValueError(f"{self.path}: read {size} of {records.nbytes} bytes, allowed: an unchanged file")
        return records
