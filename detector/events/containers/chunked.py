"""Recordings whose events are read a block at a time: HDF5 files and tables."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns
from detector.events.reader import EventReader

__all__ = ["BlockReader", "find_names"]

NAMES = {"x": ("x",), "y": ("y",), "p": ("p", "polarity", "pol"), "t": ("t", "timestamp", "ts")}
"""Names that columns of events bear in files of other tools."""

RECENT = 4
"""Decoded blocks that are kept: neighbouring windows share one."""


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


class BlockReader(EventReader):
    """A recording in blocks of equal length, of which the last may be shorter.

    A window is found by bisection over the times of the blocks' first events and then within one block. An index may
    tell where to begin; times alone decide.

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
        self._closed = False
        self._times: dict[int, int] = {}
        self._recent: dict[int, Columns] = {}

    @abstractmethod
    def _load(self, start: int, out: Columns) -> None:
        """Fill `out` with a whole block, the one that begins with event `start`."""

    @abstractmethod
    def _time(self, start: int) -> int:
        """Time of event `start`, the first of a block."""

    @property
    def first_t(self) -> int | None:
        """Time of the first event, None if the recording has none."""
        return self._block_time(0) if self._count else None

    @property
    def last_t(self) -> int | None:
        """Time of the last event, None if the recording has none."""
        return int(self._block((self._count - 1) // self._size)[3][-1]) if self._count else None

    def read_columns(self, t0: int | None = None, t1: int | None = None, out: ColumnBuffer | None = None) -> Columns:
        """Events of [t0, t1) as x, y, p, t; see `EventReader.read_columns`."""
        self._check_open()
        first = 0 if t0 is None else self._first_at_least(t0)
        stop = self._count if t1 is None else self._first_at_least(t1)
        columns = (out or ColumnBuffer()).take(max(0, stop - first))
        self._fill(first, columns)
        return columns

    def _blocks(self) -> Iterator[Columns]:
        buffer, last = ColumnBuffer(), None
        for start in range(0, self._count, self._size):
            self._check_open()
            columns = buffer.take(min(self._size, self._count - start))
            last = self._fill(start, columns, last)
            yield columns

    def close(self) -> None:
        """Let go of the file; arrays that were read stay valid."""
        self._closed = True
        self._recent.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self.path}: the reader is closed, allowed: reading before close()")

    def _fill(self, start: int, out: Columns, last: int | None = None) -> int | None:
        """Events from `start` on, as many as `out` holds; `last` and what is returned: time of the event before."""
        stop = start + out[0].size
        for block in range(start // self._size, -(-stop // self._size) if stop > start else 0):
            begin, end = block * self._size, min((block + 1) * self._size, self._count)
            first, after = max(begin, start), min(end, stop)
            part = _cut(out, first - start, after - start)
            if (first, after) == (begin, end) and block not in self._recent:
                self._load(begin, part)
            else:
                for column, known in zip(part, _cut(self._block(block), first - begin, after - begin), strict=True):
                    column[:] = known
            self._check_order(part[3], last)
            last = int(part[3][-1])
        return last

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
        if low == 0:
            return 0
        return (low - 1) * self._size + int(np.searchsorted(self._block(low - 1)[3], time))

    def _likely(self, time: int) -> list[int]:
        """Blocks to look at first in the search for a time."""
        return []

    def _block_time(self, block: int) -> int:
        self._check_open()
        if block not in self._times:
            self._times[block] = self._time(block * self._size)
        return self._times[block]

    def _block(self, block: int) -> Columns:
        """A block that is kept for the next reading."""
        self._check_open()
        if block not in self._recent:
            begin = block * self._size
            columns = ColumnBuffer().take(min(self._size, self._count - begin))
            self._load(begin, columns)
            while len(self._recent) >= RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[block] = columns
        return self._recent[block]

    def _store(self, raw: Sequence[np.ndarray], out: Columns) -> None:
        """Check x, y, p, t as a file holds them, and put them into columns; p is 0 or -1 for OFF, 1 for ON."""
        for name, values, kinds, lowest in zip("xypt", raw, ("iuf", "iuf", "biuf", "iu"), (0, 0, -1, 0), strict=True):
            if values.dtype.kind not in kinds:
                raise ValueError(f"{self.path}: {name} is {values.dtype}, allowed: whole numbers")
            if values.dtype.kind == "f" and bool((values != np.floor(values)).any()):
                raise ValueError(f"{self.path}: {name} is not whole, allowed: whole numbers")
            if values.size and values.min() < lowest:
                raise ValueError(f"{self.path}: {name} down to {values.min()}, allowed: at least {lowest}")
        x, y, p, t = raw
        self._check_pixels(x, y)
        if p.size and p.max() > 1:
            raise ValueError(f"{self.path}: p up to {p.max()}, allowed: 0 or -1 (OFF) and 1 (ON)")
        out[0][:], out[1][:], out[2][:], out[3][:] = x, y, p > 0, t

    def _check_order(self, t: np.ndarray, last: int | None) -> None:
        """Refuse times that fall; `last` is the time before them."""
        before = int(t[0]) if last is None else last
        if t[0] < before or bool((t[1:] < t[:-1]).any()):
            back = -int(np.diff(t, prepend=before).min())
            raise ValueError(f"{self.path}: time runs backwards by {back} us, allowed: times that only grow")


def _cut(columns: Columns, start: int, stop: int) -> Columns:
    x, y, p, t = columns
    return x[start:stop], y[start:stop], p[start:stop], t[start:stop]
