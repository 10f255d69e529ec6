"""Detection of faulty events: events outside the sensor or out of order in time.

Sensors and tools produce a few faulty events. Each is counted, and either dropped or mended, which means that its time
is corrected. A recording with too many of them is refused. An event outside the sensor is dropped. If event B follows
event A in the file, but the time of B is below the time of A, there are three cases:

- Only B is out of order, because its time is too low: B is "late". Its time is raised to the time of A. If the
  difference is above `LATEST_US` (100 ms), B is dropped instead.
- Only A is out of order, because its time is too high: A is "ahead of its time". It is dropped.
- Several events are out of order. If the difference is at most `LATEST_US`, each time is raised to the largest time so
  far. Otherwise, the recording is refused.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from weakref import WeakMethod

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns, join, slice_columns
from detector.events.kernels import (
    AHEAD,
    BEFORE,
    DROPPED,
    FALL,
    FIXED,
    KEPT,
    LATE,
    LATEST_US,
    NO_TIME,
    NOW,
    NUM_FACTS,
    OUTSIDE,
    PLACE,
    RAISED,
    find_faults,
)

__all__ = ["MAX_FAULTY", "OPTION", "DisorderError", "FaultFinder", "Faults", "MendedBlocks", "has_suspects"]

MAX_FAULTY = 0.001
"""Default of the largest accepted share of faulty events in a recording."""

ALWAYS_ALLOWED = 10
"""Number of faulty events that are always allowed, unless the allowed share is 0."""

OPTION = "data.max_faulty_events"

RawBlock = tuple[Columns, bool]
"""Events as they are stored, and True if any of them may be faulty.

An event with p below 0 is outside the sensor.
"""


class DisorderError(Exception):
    """A fast code path, which assumes that no event is faulty, has found a faulty event."""


@dataclass(frozen=True)
class Faults:
    """Number of faulty events of each kind.

    Args:
        outside: events outside the sensor, dropped
        late: single events at most 100 ms earlier than the previous event, raised to the time of the previous event
        dropped: single events more than 100 ms earlier than the previous event, dropped
        ahead: single events later than the events after them, dropped
        raised: events in all other falls of the time, which affect several events in a row; raised to the largest time
            so far
        truncated: 1 if the file ends in the middle of an event (which is dropped), otherwise 0
    """

    outside: int = 0
    late: int = 0
    dropped: int = 0
    ahead: int = 0
    raised: int = 0
    truncated: int = 0

    @property
    def total(self) -> int:
        """Number of faulty events of all kinds."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __add__(self, other: "Faults") -> "Faults":
        return Faults(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __str__(self) -> str:
        """Return the counts above 0 as text, or "none" if all counts are 0."""
        names = {
            "outside": "outside the sensor (dropped)",
            "late": "late (raised)",
            "dropped": "more than 100 ms late (dropped)",
            "ahead": "ahead of their time (dropped)",
            "raised": "in falls of time (raised)",
            "truncated": "cut off at the end of the file (dropped)",
        }
        counts = [f"{count:,} {text}" for name, text in names.items() if (count := getattr(self, name))]
        return ", ".join(counts) or "none"

    def excess(self, num_events: int, allowed: float) -> str | None:
        """Return an error message if more events are faulty than allowed, otherwise None.

        Args:
            num_events: number of events in the recording, including faulty events.
            allowed: largest accepted share of faulty events, from 0 to 1. With 0, no faulty event is accepted. With a
                share above 0, `ALWAYS_ALLOWED` (10) faulty events are accepted even in a short recording.
        """
        most = max(ALWAYS_ALLOWED, allowed * num_events) if allowed > 0 else 0
        if self.total <= most:
            return None
        return (
            f"{self.total:,} of {num_events:,} events are faulty: {self}, allowed: {int(most):,} "
            f"({allowed:g} of them), more with a larger {OPTION}"
        )


def has_suspects(columns: Columns, width: int, height: int) -> bool:
    """Return True if any event may be faulty.

    Such an event is outside the sensor, has p below 0, has a time below 0, or is earlier than the previous event.
    Readers set p to -1 if a coordinate does not fit in uint16.
    """
    x, y, p, t = columns
    return bool(t.size) and bool(
        x.max() >= width or y.max() >= height or p.min() < 0 or t[0] < 0 or (t[1:] < t[:-1]).any()
    )


class FaultFinder:
    """Finds the faulty events of a recording, whose events are passed to `add` or `mend` in successive blocks.

    Args:
        source: the recording, named in error messages.
        width: sensor width in pixels.
        height: sensor height in pixels.
        period: value at which stored times wrap to 0, a power of 2; 0 if they do not wrap.
    """

    def __init__(self, source: object, width: int, height: int, period: int = 0) -> None:
        self.num_events = 0
        self.pending: Columns | None = None
        self._unsent: Columns | None = None
        self._found = [np.empty(0, np.int64)] * 2
        self.period = period
        self._source, self._limits = source, (width, height, period)
        self._facts = np.zeros(NUM_FACTS, np.int64)

    @property
    def now(self) -> int:
        """Time in microseconds of the last event so far that was not dropped."""
        return int(self._facts[NOW])

    @property
    def kept(self) -> int:
        """Number of events so far that were not dropped."""
        return int(self._facts[KEPT])

    @property
    def faults(self) -> Faults:
        """Number of faulty events of each kind so far."""
        return Faults(*(int(self._facts[kind]) for kind in (OUTSIDE, LATE, DROPPED, AHEAD, RAISED)))

    def add(self, columns: Columns, suspect: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Check the next events of the recording.

        Args:
            columns: the next events. Events at the end that can only be judged with later events are stored in
                `pending` until the next call.
            suspect: whether any of these events may be faulty. If False, all are in order and within the sensor.

        Returns:
            The faulty events that this call has found: (F,) indices of the events, counted from the start of the
            recording, and (F,) correct times, `NO_TIME` for events to drop.
        """
        t, facts = columns[3], self._facts
        if not (suspect or self.pending is not None) and (not t.size or t[0] >= facts[NOW]):
            if t.size:
                facts[BEFORE], facts[NOW] = t[-2] if t.size > 1 else facts[NOW], t[-1]
                self.num_events += t.size
                facts[PLACE], facts[KEPT] = self.num_events - 1, facts[KEPT] + t.size
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return self._find(columns, final=False)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Judge the pending events at the end of the recording.

        Returns:
            (F,) indices of faulty events and (F,) correct times, as in `add`.
        """
        return self._find(ColumnBuffer().take(0), final=True)

    def mend(self, columns: Columns | None) -> Columns:
        """Check the next events of a stream, and return the events that are decided now, after dropping or mending.

        Returned events can no longer be dropped. If the last returned event is later than the events after it, the
        times of these events are raised instead.

        Args:
            columns: the next events, or None at the end of the stream.
        """
        new = ColumnBuffer().take(0) if columns is None else columns
        events = new if self._unsent is None else join(self._unsent, new)
        first = self.num_events + new[3].size - events[3].size
        self._facts[FIXED] = first
        found = self.finish() if columns is None else self.add(new, has_suspects(new, *self._limits[:2]))
        self._found = [np.concatenate(pair) for pair in zip(self._found, found, strict=True)]
        decided = events[3].size
        if self.pending is not None:  # the last decided event may be ahead of its time
            decided = min(decided - self.pending[3].size, max(0, int(self._facts[PLACE]) - first))
        self._unsent = slice_columns(events, decided, events[3].size)
        sent = self._found[0] < first + decided
        places, times = (values[sent] for values in self._found)
        self._found = [values[~sent] for values in self._found]
        return _apply(slice_columns(events, 0, decided), places - first, times)

    def _find(self, columns: Columns, final: bool) -> tuple[np.ndarray, np.ndarray]:
        x, y, p, t = columns
        self.num_events += t.size
        if self.period:
            t = t & self.period - 1
        if self.pending is not None:
            x, y, p, t = join(self.pending, (x, y, p, t))
        found = np.empty((2, t.size + 1), np.int64)
        done, count = find_faults(x, y, p, t, self.num_events - t.size, self._facts, *self._limits, final, *found)
        if done < 0:
            raise ValueError(
                f"{self._source}: time falls from {self.now} to {self._facts[FALL]} us and stays low, allowed: falls "
                f"of up to {LATEST_US} us, or of one event; cut the recording at this time"
            )
        rest = x[done:].copy(), y[done:].copy(), p[done:].copy(), t[done:].copy()
        self.pending = rest if done < t.size else None
        return found[0, :count], found[1, :count]


def _apply(columns: Columns, faulty: np.ndarray, right: np.ndarray) -> Columns:
    """Return the events without those to drop and with correct times.

    If no event is faulty, return `columns` itself.

    Args:
        columns: the events.
        faulty: (F,) indices of the faulty events in `columns`.
        right: (F,) correct times of the faulty events, `NO_TIME` for events to drop.
    """
    if not faulty.size:
        return columns
    x, y, p, t = columns
    t = t.copy()
    t[faulty] = right
    kept = np.ones(t.size, bool)
    kept[faulty[right == NO_TIME]] = False
    return x[kept], y[kept], p[kept], t[kept]


class MendedBlocks:
    """Blocks of a recording, with faulty events dropped or mended. The constructor reads the whole recording once.

    Args:
        blocks: all events as they are stored, in blocks. A block is valid until the next block is requested.
        load: method of a reader that loads the stored events of the block with a given index again.
        finder: a finder that has not checked any events yet.
    """

    def __init__(self, blocks: Iterable[RawBlock], load: Callable[[int], Columns], finder: FaultFinder) -> None:
        self._load, self._period = WeakMethod(load), finder.period  # weak, because the reader refers to this object
        self._numbers, self._starts, self._ends = [0], [0], list[int]()
        touched, found = set(), []
        for number, (columns, suspect) in enumerate(blocks):
            undecided = finder.pending is not None
            found.append(finder.add(columns, suspect))
            self._numbers.append(finder.num_events)
            self._ends.append(finder.now)
            self._starts.append(finder.now)
            touched |= {number} if undecided or finder.pending is not None else set()
        found.append(finder.finish())
        places, times = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(places)
        self._places, self._times = places[order], times[order]
        self.faults, self.num_events, self.kept = finder.faults, finder.num_events, finder.kept
        self._settle(touched | set((np.searchsorted(self._numbers, places, "right") - 1).tolist()))

    def _settle(self, touched: set[int]) -> None:
        """Correct the stored end times of blocks, which were not final when the blocks were read.

        The blocks without events after a corrected block get the same time.

        Args:
            touched: indices of the blocks with faulty events, and of the blocks at whose start or end an event could
                not be judged yet.
        """
        for number in sorted(touched):
            t = self[number][3]
            end = int(t[-1]) if t.size else self._starts[number]
            # Index of the next block with events, plus 1.
            following = bisect_right(self._numbers, self._numbers[number + 1])
            for block in range(number, following - 1):
                self._ends[block] = self._starts[block + 1] = end

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> Columns:
        """Return the mended events of the block with index `number`, valid until another block is loaded."""
        load = self._load()
        assert load is not None
        x, y, p, t = load(number)
        first = self._numbers[number]
        begin, end = np.searchsorted(self._places, [first, first + t.size])
        if begin == end and not self._period:
            return x, y, p, t
        x, y, p, t = _apply((x, y, p, t), self._places[begin:end] - first, self._times[begin:end])
        if self._period and t.size:
            t = t & self._period - 1
            start = self._starts[number]
            wraps = np.cumsum(np.diff(t, prepend=start & self._period - 1) < 0)
            t += (start & -self._period) + wraps * self._period
        return x, y, p, t

    def blocks(self) -> Iterator[Columns]:
        """Iterate over the mended events of all blocks in order. A block is valid until the next block is requested."""
        return (self[number] for number in range(len(self)))

    @property
    def first_t(self) -> int | None:
        """Time of the first event in microseconds, None if there are no events."""
        return next((int(columns[3][0]) for columns in self.blocks() if columns[3].size), None) if self.kept else None

    @property
    def last_t(self) -> int | None:
        """Time of the last event in microseconds, None if there are no events."""
        return self._ends[-1] if self.kept else None

    def read(self, t0: int | None, t1: int | None, buffer: ColumnBuffer) -> Columns:
        """Read the mended events with t0 <= t < t1 (microseconds) into `buffer` and return them.

        If `t0` or `t1` is None, the window begins at the start or ends at the end of the recording.
        """
        begin = 0 if t0 is None else bisect_left(self._ends, t0)
        end = len(self) if t1 is None else min(bisect_left(self._ends, t1) + 1, len(self))
        count = 0
        for number in range(begin, end):
            block = self[number]
            before, count = count, count + block[0].size
            for column, values in zip(buffer.take(count, keep=before), block, strict=True):
                column[before:] = values
        columns = buffer.take(count, keep=count)
        t = columns[3]
        first = 0 if t0 is None else int(np.searchsorted(t, t0))
        last = max(first, count if t1 is None else int(np.searchsorted(t, t1)))
        return slice_columns(columns, first, last)
