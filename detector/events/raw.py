"""RAW recordings in EVT2: text lines, then 32-bit words whose top 4 bits tell what they are."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from detector.events.clock import WrappingClock, unwrap
from detector.events.reader import CHUNK, Columns, EventReader
from detector.events.types import EventExtTrigger
from detector.events.writing import check_events, whole_file

__all__ = ["Evt2Reader", "write_evt2"]

CD, TIME_HIGH, EXT_TRIGGER = range(0x0, 0x2), range(0x8, 0x9), range(0xA, 0xB)
"""Types of words: OFF and ON events, the upper bits of the time, edges of triggers; others are skipped."""

LOW_BITS = 6
HIGH_PERIOD = 1 << 28
"""Value at which TIME_HIGH starts anew, after 4.77 hours."""

MAX_SIDE = 1 << 11
FIRST_LOOK = 64
"""Words looked at first when searching for a type near a place; TIME_HIGH words are seldom far."""


class Evt2Reader(EventReader):
    """Reads EVT2: CD words hold the low 6 bits of t, x in 11 bits, y in 11; TIME_HIGH words the upper 28 bits of t.

    A window is found by bisection: the time at any word is that of the next TIME_HIGH. Words before the first
    TIME_HIGH have no time and are dropped.
    """

    record_bytes = 4

    @cached_property
    def _clock(self) -> WrappingClock:
        count = self._last(TIME_HIGH, self._num_records) + 1
        return WrappingClock(count, self._high_from, HIGH_PERIOD, self.path)

    @property
    def first_t(self) -> int | None:
        """Time of the first event, None if the recording has none."""
        index = self._first(CD, self._first(TIME_HIGH, 0))
        return self._time_of(index) if index < self._num_records else None

    @property
    def last_t(self) -> int | None:
        """Time of the last event, None if the recording has none."""
        index = self._last(CD, self._num_records)
        return self._time_of(index) if index > self._first(TIME_HIGH, 0) else None

    def read_columns(self, t0: int | None = None, t1: int | None = None) -> Columns:
        """Events of [t0, t1) as x, y, p, t; see `EventReader.read_columns`."""
        start, stop = self._bounds(t0, t1)
        # One place a word is more than there are events, but memory that is never touched is never taken.
        size = max(0, stop - start)
        x, y = np.empty(size, np.uint16), np.empty(size, np.uint16)
        p, t = np.empty(size, np.int8), np.empty(size, np.int64)
        count = 0
        for words, times in self._timed(CD, start, stop):
            part = slice(count, count + words.size)
            t[part] = times
            p[part] = words >> 28
            y[part] = words
            y[part] &= MAX_SIDE - 1
            x[part] = words >> 11
            x[part] &= MAX_SIDE - 1
            self._check_pixels(x[part], y[part])
            count = part.stop
        # The words found share their upper time bits with t0 and t1: trim by the low ones.
        first = 0 if t0 is None else int(np.searchsorted(t[:count], t0))
        last = count if t1 is None else int(np.searchsorted(t[:count], t1))
        return x[first:last], y[first:last], p[first:last], t[first:last]

    def triggers(self) -> np.ndarray:
        """Edges of external triggers of the whole recording as an (N,) `EventExtTrigger` array."""
        parts = [np.empty(0, EventExtTrigger)]
        for words, t in self._timed(EXT_TRIGGER, 0, self._num_records):
            edges = np.empty(words.size, EventExtTrigger)
            edges["p"], edges["t"], edges["id"] = words & 1, t, words >> 8 & 0x1F
            parts.append(edges)
        return np.concatenate(parts)

    def _bounds(self, t0: int | None, t1: int | None) -> tuple[int, int]:
        """Words that hold the events of [t0, t1) and at most 63 us more at both ends."""
        start = 0 if t0 is None else self._clock.first_at_least(t0 >> LOW_BITS)
        if t1 is None:
            return start, self._num_records
        return start, self._first(TIME_HIGH, self._clock.first_at_least((t1 - 1 >> LOW_BITS) + 1))

    def _timed(self, kind: range, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Words of a kind in [start, stop) and their times, chunk by chunk."""
        start = self._first(TIME_HIGH, start)
        high = self._clock.at(start) if start < stop else 0
        last = 0
        for begin in range(start, stop, CHUNK):
            words = self._words(begin, min(begin + CHUNK, stop))
            clocks, chosen = _positions(words, TIME_HIGH), _positions(words, kind)
            highs = np.append(high, unwrap(words[clocks] & (HIGH_PERIOD - 1), high, HIGH_PERIOD, self.path))
            counts = np.diff(np.searchsorted(chosen, clocks), prepend=0, append=chosen.size)
            found = words[chosen]
            t = np.repeat(highs << LOW_BITS, counts)
            t |= found >> 22 & (1 << LOW_BITS) - 1
            if t.size:
                self._check_order(t, last)
                last = int(t[-1])
            high = int(highs[-1])
            yield found, t

    def _check_order(self, t: np.ndarray, last: int) -> None:
        if t[0] < last or bool((t[1:] < t[:-1]).any()):
            back = -int(np.diff(t, prepend=last).min())
            raise ValueError(f"{self.path}: time runs backwards by {back} us, allowed: times that only grow")

    def _high_from(self, index: int) -> int:
        """TIME_HIGH of the first such word at or after a place."""
        place = self._first(TIME_HIGH, index)
        return int(self._words(place, place + 1)[0]) & (HIGH_PERIOD - 1)

    def _time_of(self, index: int) -> int:
        """Time of the CD word at a place."""
        low = int(self._words(index, index + 1)[0]) >> 22 & (1 << LOW_BITS) - 1
        return self._clock.at(self._last(TIME_HIGH, index)) << LOW_BITS | low

    def _first(self, kind: range, start: int) -> int:
        """Place of the first word of a kind at or after `start`; the number of words if there is none."""
        length = FIRST_LOOK
        while start < self._num_records:
            found = _positions(self._words(start, min(start + length, self._num_records)), kind)
            if found.size:
                return start + int(found[0])
            start, length = start + length, min(2 * length, CHUNK)
        return self._num_records

    def _last(self, kind: range, stop: int) -> int:
        """Place of the last word of a kind before `stop`; -1 if there is none."""
        length = FIRST_LOOK
        while stop > 0:
            start = max(0, stop - length)
            found = _positions(self._words(start, stop), kind)
            if found.size:
                return start + int(found[-1])
            stop, length = start, min(2 * length, CHUNK)
        return -1


def write_evt2(path: str | Path, events: np.ndarray, height: int, width: int) -> None:
    """Write a RAW recording in EVT2; the file appears only when it is whole.

    Args:
        path: file to write, replaced if it is there.
        events: (N,) `EventCD` in order of time.
        height: sensor height in pixels, at most 2048.
        width: sensor width in pixels, at most 2048.

    Raises:
        ValueError: an event lies outside the sensor, or times cannot be held (see `check_events`).
    """
    check_events(events, height, width, max_side=MAX_SIDE, period=HIGH_PERIOD << LOW_BITS)
    header = f"% evt 2.0\n% format EVT2;height={height};width={width}\n% geometry {width}x{height}\n% end\n"
    with whole_file(path) as part, part.open("wb") as file:
        file.write(header.encode())
        _encode(events).tofile(file)


def _encode(events: np.ndarray) -> np.ndarray:
    """Words of the events, with a TIME_HIGH before each event whose upper time bits are new."""
    high = events["t"] >> LOW_BITS
    new = np.diff(high, prepend=-1) != 0
    places = np.arange(events.size) + np.cumsum(new)
    words = np.empty(events.size + np.count_nonzero(new), "<u4")
    low = (events["t"] & (1 << LOW_BITS) - 1).astype(np.uint32)
    x, p = events["x"].astype(np.uint32), events["p"].astype(np.uint32)
    words[places] = p << 28 | low << 22 | x << 11 | events["y"]
    words[places[new] - 1] = (high[new] % HIGH_PERIOD).astype(np.uint32) | TIME_HIGH.start << 28
    return words


def _positions(words: np.ndarray, kind: range) -> np.ndarray:
    """Places of the words whose type (the top 4 bits) is in `kind`."""
    if kind.start == 0:  # the lowest types need no shift
        return np.flatnonzero(words < kind.stop << 28)
    return np.flatnonzero(words >> 28 == kind.start)
