"""Recordings whose events are read a block at a time: HDF5 files and tables."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns, cut
from detector.events.faults import DisorderError, FaultFinder, RawBlock, is_odd
from detector.events.reader import CHUNK, EventReader

__all__ = ["BlockReader", "find_names", "has_fraction", "to_microseconds"]

NAMES = {"x": ("x",), "y": ("y",), "p": ("p", "polarity", "pol"), "t": ("t", "timestamp", "ts")}
"""Names that columns of events bear in files of other tools."""

LAST_TIME = 1 << 62
"""Times are cut to this, so that they can be subtracted."""

RECENT = 4
"""Decoded blocks that are kept: neighbouring windows share one. A recording of no more is read whole at first."""


def find_names(source: object, names: Iterable[str]) -> tuple[str, str, str, str]:
    """Which of the names stand for x, y, p, t.

    Args:
        source: the file, named in errors.
        names: what the file calls its columns.

    Raises:
        ValueError: one is missing.
    """
    names = list(names)
    found = [next((name for name in known if name in names), None) for known in NAMES.values()]
    x, y, p, t = found
    if x is None or y is None or p is None or t is None:
        allowed = ", ".join("|".join(known) for known in NAMES.values())
        raise ValueError(f"{source}: no events: found {', '.join(names) or 'nothing'}; required: {allowed}")
    return x, y, p, t


def has_fraction(t: np.ndarray) -> bool:
    """Whether times, of which the first are looked at, are seconds: numbers with fractions."""
    head = t[:CHUNK]
    return head.dtype.kind == "f" and bool((np.isfinite(head) & (head != np.rint(head))).any())


def to_microseconds(source: object, t: np.ndarray, seconds: bool) -> np.ndarray:
    """Whole microseconds of times, those with fractions rounded.

    Args:
        source: the file, named in errors.
        t: (N,) times as a file holds them.
        seconds: whether they are seconds and not microseconds.

    Raises:
        ValueError: one is not finite.
    """
    if t.dtype.kind != "f":
        return t
    scaled = np.rint(t.astype(np.float64) * 1e6 if seconds else t)
    if not bool((np.abs(scaled) < LAST_TIME).all()):
        raise ValueError(f"{source}: t is {t[np.argmax(np.abs(scaled))]}, allowed: finite times")
    return scaled.astype(np.int64)


class BlockReader(EventReader):
    """A recording in blocks of equal length, of which the last may be shorter.

    A window is found by bisection over the times of the blocks' first events and then within one block. An index may
    tell where to begin; times alone decide. First times that are not in order around the place that is found are those
    of faulty events.

    Args:
        path: the recording.
        height: sensor height in pixels.
        width: sensor width in pixels.
        count: number of events.
        size: events of a block.
    """

    def __init__(self, path: Path, height: int, width: int, count: int, size: int) -> None:
        super().__init__(path, height, width)
        self._count = count
        self._size = size
        self._times: dict[int, int] = {}
        self._recent: dict[int, Columns] = {}
        self._memory = ColumnBuffer()

    @abstractmethod
    def _load(self, start: int, out: Columns) -> None:
        """Fill `out` with a whole block, the one that begins with event `start`; p is -1 for what no sensor has."""

    @abstractmethod
    def _time(self, start: int) -> int:
        """Time of event `start`, the first of a block."""

    def _is_small(self) -> bool:
        return self._count <= RECENT * self._size

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

    def _raw_blocks(self, finder: FaultFinder) -> Iterator[RawBlock]:
        for number in range(-(-self._count // self._size)):
            columns = self._raw_block(number)
            yield columns, is_odd(columns, self.width, self.height)

    def _raw_block(self, number: int) -> Columns:
        self._check_open()
        if number in self._recent:
            return self._recent[number]
        begin = number * self._size
        columns = self._memory.take(min(self._size, self._count - begin))
        self._load(begin, columns)
        return columns

    def close(self) -> None:
        """Close the file; arrays that were read stay valid."""
        super().close()
        self._recent.clear()

    def _fill(self, start: int, out: Columns) -> None:
        """Events from `start` on, as many as `out` holds."""
        stop, last = start + out[0].size, 0
        for block in range(start // self._size, -(-stop // self._size) if stop > start else 0):
            begin, end = block * self._size, min((block + 1) * self._size, self._count)
            first, after = max(begin, start), min(end, stop)
            part = cut(out, first - start, after - start)
            if (first, after) == (begin, end) and block not in self._recent:
                self._load(begin, part)
                if is_odd(part, self.width, self.height):
                    raise DisorderError
            else:
                known = cut(self._sound_block(block), first - begin, after - begin)
                for column, values in zip(part, known, strict=True):
                    column[:] = values
            if part[3][0] < last:
                raise DisorderError
            last = int(part[3][-1])

    def _first_at_least(self, time: int) -> int:
        """Index of the first event at or after `time`; the number of events if there is none."""
        low, high = 0, -(-self._count // self._size)
        places = self._likely(time)
        while low < high:
            middle = min(max(places.pop(0), low), high - 1) if places else (low + high) // 2
            if self._block_time(middle) < time:
                low = middle + 1
            else:
                high = middle
        around = range(max(0, low - 2), min(low + 2, -(-self._count // self._size)))
        times = [self._block_time(block) for block in around]
        if times != sorted(times):
            raise DisorderError
        if low == 0:
            return 0
        return (low - 1) * self._size + int(np.searchsorted(self._sound_block(low - 1)[3], time))

    def _likely(self, time: int) -> list[int]:
        """Blocks to look at first in the search for a time."""
        return []

    def _block_time(self, block: int) -> int:
        self._check_open()
        if block not in self._times:
            self._times[block] = self._time(block * self._size)
        return self._times[block]

    def _sound_block(self, block: int) -> Columns:
        """A block that is kept for the next reading; `DisorderError` if anything in it is faulty."""
        self._check_open()
        if block not in self._recent:
            begin = block * self._size
            columns = ColumnBuffer().take(min(self._size, self._count - begin))
            self._load(begin, columns)
            if is_odd(columns, self.width, self.height):
                raise DisorderError
            while len(self._recent) >= RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[block] = columns
        return self._recent[block]

    def _store(self, raw: Sequence[np.ndarray], out: Columns) -> None:
        """Check x, y, p, t as a file holds them, and put them into columns; p is 0 or -1 for OFF, 1 for ON."""
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
