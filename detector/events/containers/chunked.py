"""Base class of readers that read events one block at a time, from HDF5 files or arrays."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns, slice_columns
from detector.events.blocks import RECENT, BlockwiseReader
from detector.events.faults import DisorderError, has_suspects
from detector.events.reader import CHUNK

__all__ = ["BlockReader", "has_fraction", "to_microseconds"]

LAST_TIME = 1 << 62
"""Upper limit of times, so that the difference of two times does not overflow."""


def has_fraction(t: np.ndarray) -> bool:
    """Return True if any of the first `CHUNK` times is not a whole number, which means that times are in seconds."""
    head = t[:CHUNK]
    return head.dtype.kind == "f" and bool((np.isfinite(head) & (head != np.rint(head))).any())


def to_microseconds(source: object, t: np.ndarray, seconds: bool) -> np.ndarray:
    """Convert floating-point times to int64 microseconds. Return times of other types unchanged.

    Args:
        source: the file, named in error messages.
        t: (N,) times as they are stored in the file.
        seconds: True if floating-point times are in seconds, False if they are in microseconds.

    Raises:
        ValueError: a time is not finite.
    """
    if t.dtype.kind != "f":
        return t
    scaled = np.rint(t.astype(np.float64) * 1e6 if seconds else t)
    if not bool((np.abs(scaled) < LAST_TIME).all()):
        raise ValueError(f"{source}: t is {t[np.argmax(np.abs(scaled))]}, allowed: finite times")
    return scaled.astype(np.int64)


class BlockReader(BlockwiseReader):
    """Base class of readers that load a recording in blocks of equal length. Only the last block may be shorter.

    A time is found in two steps: bisection of the first times of the blocks, then bisection within one block. An index
    in the file may suggest the blocks to compare first, but the result depends only on the times. If the first times of
    the blocks around the result are not in order, some events are faulty, and a `DisorderError` is raised.

    Args:
        path: path of the recording.
        height: sensor height in pixels.
        width: sensor width in pixels.
        count: number of events in the recording.
        size: number of events per block.
    """

    def __init__(self, path: Path, height: int, width: int, count: int, size: int) -> None:
        super().__init__(path, height, width, -(-count // size))
        self._count = count
        self._size = size
        self._times: dict[int, int] = {}

    @abstractmethod
    def _load(self, start: int, out: Columns) -> None:
        """Fill `out` with the events of the block whose first event has index `start`.

        p is 0 for OFF events, 1 for ON events, and -1 for events whose x or y is outside 0 to 65535.
        """

    @abstractmethod
    def _time(self, start: int) -> int:
        """Return the time in microseconds of the event with index `start`, which is the first event of a block."""

    def _is_small(self) -> bool:
        return self._count <= RECENT * self._size  # all blocks are kept

    def _quick_first_t(self) -> int | None:
        return int(self._sound_block(0)[3][0]) if self._count else None

    def _quick_last_t(self) -> int | None:
        return int(self._sound_block((self._count - 1) // self._size)[3][-1]) if self._count else None

    def _quick_columns(self, t0: int | None, t1: int | None, buffer: ColumnBuffer) -> Columns:
        self._check_open()
        first = 0 if t0 is None else self._first_at_least(t0)
        stop = self._count if t1 is None else self._first_at_least(t1)
        columns = buffer.take(max(0, stop - first))
        self._fill(first, columns)
        return columns

    def _load_block(self, number: int, buffer: ColumnBuffer) -> Columns:
        begin = number * self._size
        columns = buffer.take(min(self._size, self._count - begin))
        self._load(begin, columns)
        return columns

    def _fill(self, start: int, out: Columns) -> None:
        """Fill `out` with the events from index `start` on. Raise `DisorderError` if one of them is faulty."""
        stop, last = start + out[0].size, 0
        for block in range(start // self._size, -(-stop // self._size) if stop > start else 0):
            begin, end = block * self._size, min((block + 1) * self._size, self._count)
            first, after = max(begin, start), min(end, stop)
            part = slice_columns(out, first - start, after - start)
            # A whole block is decoded directly into `out`, unless it is kept. Other events are copied.
            if (first, after) == (begin, end) and block not in self._recent:
                self._load(begin, part)
                if has_suspects(part, self.width, self.height):
                    raise DisorderError
            else:
                known = slice_columns(self._sound_block(block), first - begin, after - begin)
                for column, values in zip(part, known, strict=True):
                    column[:] = values
            if part[3][0] < last:
                raise DisorderError
            last = int(part[3][-1])

    def _first_at_least(self, time: int) -> int:
        """Return the index of the first event with t >= `time`; the number of events if all are earlier."""
        low, high = 0, self._num_blocks
        places = self._likely(time)
        # Bisect the first times of the blocks, beginning with the blocks that an index of the file suggests.
        while low < high:
            middle = min(max(places.pop(0), low), high - 1) if places else (low + high) // 2
            if self._block_time(middle) < time:
                low = middle + 1
            else:
                high = middle
        # If the first times around the result are not in order, faulty events have misled the bisection.
        times = [self._block_time(block) for block in range(max(0, low - 2), min(low + 2, self._num_blocks))]
        if times != sorted(times):
            raise DisorderError
        if low == 0:
            return 0
        return (low - 1) * self._size + int(np.searchsorted(self._sound_block(low - 1)[3], time))

    def _likely(self, time: int) -> list[int]:
        """Return the indices of the blocks with which the search for `time` begins. The list may be empty."""
        return []

    def _block_time(self, block: int) -> int:
        self._check_open()
        if block not in self._times:
            self._times[block] = self._time(block * self._size)
        return self._times[block]

    def _store(self, raw: Sequence[np.ndarray], out: Columns) -> None:
        """Check stored arrays x, y, p, t and write them to the columns `out`.

        Args:
            raw: arrays of the same length. p is 0 or -1 for OFF events and 1 for ON events.
            out: columns to fill. p becomes 0 or 1, or -1 for events whose x or y is outside 0 to 65535.

        Raises:
            ValueError: x, y, p or t is not a whole number, or p is not -1, 0 or 1.
        """
        for name, values, kinds in zip("xypt", raw, ("iuf", "iuf", "biuf", "iu"), strict=True):
            if values.dtype.kind not in kinds:
                raise ValueError(f"{self.path}: {name} is {values.dtype}, allowed: whole numbers")
            if values.dtype.kind == "f" and bool((values != np.floor(values)).any()):
                raise ValueError(f"{self.path}: {name} is not whole, allowed: whole numbers")
        x, y, p, t = raw
        for value, way in ((p.max(), "up"), (p.min(), "down")) if p.size else ():
            if not -1 <= value <= 1:
                raise ValueError(f"{self.path}: p {way} to {value}, allowed: 0 or -1 (OFF) and 1 (ON)")
        out[2][:] = p > 0
        for values, column in zip((x, y), out, strict=False):
            if values.size and not 0 <= values.min() <= values.max() < 1 << 16:
                outside = (values < 0) | (values >= 1 << 16)
                out[2][outside] = -1
                values = np.where(outside, 0, values)  # noqa: PLW2901
            column[:] = values
        out[3][:] = t if t.dtype != np.uint64 else np.minimum(t, np.uint64(LAST_TIME))
