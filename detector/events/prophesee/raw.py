"""Base class of readers of RAW recordings, which consist of a text header and words.

Four bits of a word are its type. The upper bits of the time are in separate TIME_HIGH words.
"""

from abc import abstractmethod
from functools import cached_property
from typing import ClassVar

import numpy as np

from detector.events.arrays import ColumnBuffer
from detector.events.kernels import ROW, find_first, find_last, new_state
from detector.events.prophesee.fixed_size import RecordReader
from detector.events.types import EventExtTrigger
from detector.events.unwrap import WrappingClock

__all__ = ["EXT_TRIGGER", "TIME_HIGH", "WordReader"]

TIME_HIGH, EXT_TRIGGER = 1 << 0x8, 1 << 0xA
"""Word types as sets with one bit per type."""

FIRST_LOOK = 64
LONGEST_LOOK = 1 << 16
"""Numbers of words that the first step and the longest step of a search for a word type read.

The first step is short, because a TIME_HIGH word is usually close.
"""


class WordReader(RecordReader):
    """Base class of readers of RAW recordings.

    A time window is found by bisection. For this search, every word has the time of the next TIME_HIGH word. Words
    before the first TIME_HIGH have no time and are dropped.
    """

    events: ClassVar[int]
    """Set of the word types that contain events."""

    time_types: ClassVar[int] = TIME_HIGH
    """Set of the word types that contain times."""

    payload_bits: ClassVar[int]
    """Number of bits of a word below its type. In a TIME_HIGH word, all of these bits belong to the time."""

    low_bits: ClassVar[int]
    """Number of bits of the time that are below the bits in TIME_HIGH words."""

    slack: ClassVar[int] = 0
    """Number of microseconds by which TIME_HIGH may fall in a file without faults."""

    sure: ClassVar[bool] = False

    _type_bit: int
    """Position of the lowest bit of the type in a word."""

    _gap: tuple[int, int] = -1, -1
    """An index, and the index of the first TIME_HIGH word at or after it.

    Both are kept, because the steps of a search are often close together.
    """

    @abstractmethod
    def _as_events(self, triggers: np.ndarray) -> np.ndarray:
        """Convert trigger words to words of events at pixel (0, 0) that are decoded to the times of the triggers."""

    @cached_property
    def _clock(self) -> WrappingClock:
        count = self._last(TIME_HIGH, self._num_records) + 1
        period = 1 << self.payload_bits + self.low_bits
        return WrappingClock(count, self._high_from, period, slack=self.slack)

    def _quick_first_t(self) -> int | None:
        start, stop = self._block_bounds
        state = self._state(start, stop)
        for words in self._chunks(start, stop):
            columns = self._memory.take(self.most_events * words.size)
            if self._decode(words, state, columns, 0):
                return int(columns[3][0])
        return None

    def _quick_last_t(self) -> int | None:
        stop = self._num_records
        while (place := self._last(TIME_HIGH, stop := self._last(self.events, stop) + 1)) >= 0:
            high = self._clock.at(place)
            t = self._read(self._from(high), stop, ColumnBuffer())[3]
            if t.size and t[-1] >= high:
                return int(t[-1])
            stop = place
        return None

    @property
    def _block_bounds(self) -> tuple[int, int]:
        return self._first_high, self._num_records

    def triggers(self) -> np.ndarray:
        """Return the edges of the external trigger inputs in the whole recording as an (N,) `EventExtTrigger` array.

        The times are those of the clock in the file. They are not corrected as the times of faulty events are.
        """
        parts = [np.empty(0, EventExtTrigger)]
        buffer = ColumnBuffer()
        start, stop = self._block_bounds
        state = self._state(start, stop)
        state[ROW] = 0
        for words in self._chunks(start, stop):
            types = 1 << (words >> self._type_bit & 15)
            triggers = types == EXT_TRIGGER
            timed = np.where(triggers, self._as_events(words), words)[types & (self.time_types | EXT_TRIGGER) != 0]
            columns = buffer.take(timed.size)
            count = self._fill(timed, state, columns, 0)
            edges, payload = np.empty(count, EventExtTrigger), words[triggers] >> self._lowest_payload_bit
            edges["p"], edges["id"], edges["t"] = payload & 1, payload >> 8 & 31, columns[3][:count]
            parts.append(edges)
        return np.concatenate(parts)

    def _bounds(self, t0: int | None, t1: int | None) -> tuple[int, int]:
        start = self._first_high if t0 is None else self._from(t0 >> self.low_bits << self.low_bits)
        if t1 is None:
            return start, self._num_records
        above = -(-t1 >> self.low_bits) << self.low_bits
        return start, self._first(TIME_HIGH, self._clock.first_at_least(above))

    def _from(self, high: int) -> int:
        """Return the index of a TIME_HIGH word. All events before this word are earlier than `high` microseconds."""
        return self._first(TIME_HIGH, self._clock.first_at_least(high - self.slack))

    def _state(self, start: int, stop: int) -> np.ndarray:
        if start >= stop:
            return new_state(0)
        first = start == self._first_high
        return new_state(self._high_from(start) if first else self._clock.at(start))

    @property
    def _lowest_payload_bit(self) -> int:
        return self._type_bit - self.payload_bits

    @cached_property
    def _first_high(self) -> int:
        return self._first(TIME_HIGH, 0)

    def _high_from(self, index: int) -> int:
        """Return the stored time in microseconds of the first TIME_HIGH word at or after `index`."""
        first, place = self._gap
        if not first <= index <= place:
            found = self._first(TIME_HIGH, index, first if index < first else None)
            place = place if found == first else found
            self._gap = index, place
        word = self._record_at(place) >> self._lowest_payload_bit
        return (word & (1 << self.payload_bits) - 1) << self.low_bits

    def _first(self, types: int, start: int, stop: int | None = None) -> int:
        """Return the index of the first word in [start, stop) whose type is in the bit mask `types`.

        Bit k of `types` is 1 for word type k. If there is no such word, return `stop`. If `stop` is None, search to the
        end of the file.
        """
        stop = self._num_records if stop is None else stop
        length = FIRST_LOOK
        while start < stop:
            found = find_first(self._records(start, min(start + length, stop)), self._type_bit, types)
            if found >= 0:
                return start + int(found)
            start, length = start + length, min(2 * length, LONGEST_LOOK)
        return stop

    def _last(self, types: int, stop: int) -> int:
        """Return the index of the last word before index `stop` whose type is in the bit mask `types`.

        Bit k of `types` is 1 for word type k. If there is no such word, return -1.
        """
        length = FIRST_LOOK
        while stop > 0:
            start = max(0, stop - length)
            found = find_last(self._records(start, stop), self._type_bit, types)
            if found >= 0:
                return start + int(found)
            stop, length = start, min(2 * length, LONGEST_LOOK)
        return -1
