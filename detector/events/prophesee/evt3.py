"""RAW recordings in EVT3: 16-bit words, each of which changes a part of what the next events are.

Rows, columns and times stand in words of their own; an event has those told last. TIME_HIGH and TIME_LOW hold 12 bits
of the time each, which starts anew every 16.78 s. They say what the time is, also where it falls: cameras let TIME_LOW
start anew before the next TIME_HIGH comes, or a TIME_HIGH fall for a moment. Only times of events are mended.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from detector.events.arrays import Columns
from detector.events.kernels import BASE, ROW, SIGN, decode_evt3, encode_evt3
from detector.events.prophesee.raw import TIME_HIGH, WordReader
from detector.events.write import check_events, in_parts, raw_header
from detector.utils.atomic_write import atomic_write

__all__ = ["Evt3Reader", "write_evt3"]

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW = 1 << 0x0, 1 << 0x2, 1 << 0x3, 1 << 0x4, 1 << 0x5, 1 << 0x6
"""Sets of types, one bit a type; other words are skipped."""

JITTER = 2 << 12
"""Microseconds that TIME_HIGH falls for a moment."""

MAX_SIDE = 1 << 11
MAX_TIME = 1 << 32
"""First time and steps of time that are written: a silence costs three words for each period in it."""

WORDS = 1 << 18


class Evt3Reader(WordReader):
    """Reads EVT3; events before the first TIME_HIGH, the first ADDR_Y or a vector's first VECT_BASE_X are dropped."""

    record = np.dtype("<u2")
    most_events = 12
    events: ClassVar[int] = ADDR_X | VECT_12 | VECT_8
    time_types: ClassVar[int] = TIME_HIGH | TIME_LOW
    payload_bits = 12
    low_bits = 12
    slack = JITTER
    _shift = 12

    def _state(self, start: int, stop: int) -> np.ndarray:
        state = super()._state(start, stop)
        place = self._carried(ADDR_Y, self.events, start, stop)
        if place >= 0:
            state[ROW] = self._record_at(place) & 0x7FF
        place = self._carried(VECT_BASE_X, VECT_12 | VECT_8, start, stop)
        if place >= 0:
            word = self._record_at(place)
            state[SIGN], state[BASE] = word >> 11 & 1, word & 0x7FF
            for words in self._chunks(place, start):
                types = words >> 12
                state[BASE] += 12 * np.count_nonzero(types == 4) + 8 * np.count_nonzero(types == 5)
        return state

    def _carried(self, setter: int, users: int, start: int, stop: int) -> int:
        """Place of the last word before `start` that sets what words of [start, stop) use; -1 if none does."""
        place = self._first(setter | users, start, stop)
        if place == stop or 1 << (self._record_at(place) >> 12) == setter:
            return -1
        return self._last(setter, start)

    def _fill(self, records: np.ndarray, state: np.ndarray, columns: Columns, count: int) -> int:
        return decode_evt3(records, state, *columns, count, self.width, self.height)

    def _as_events(self, triggers: np.ndarray) -> np.ndarray:
        return np.full_like(triggers, 0x2 << 12)


def write_evt3(path: str | Path, events: np.ndarray, height: int, width: int) -> None:
    """Write a RAW recording in EVT3 of at most 2048 x 2048 pixels. The file appears only when it is complete.

    Five or more events of one time, row and polarity within 32 pixels become a vector if their x grows.

    Arguments and errors as in `detector.events.write.check_events`; `path` is replaced if it exists.
    """
    check_events(events, height, width, max_side=MAX_SIDE, period=MAX_TIME, longest=MAX_TIME)
    state, words = np.full(3, -1), np.empty(WORDS, "<u2")
    with atomic_write(path) as part, part.open("wb") as file:
        file.write(raw_header("EVT3", "3.0", height, width))
        for columns in in_parts(events):
            done = 0
            while done < columns[0].size:
                done, size = encode_evt3(*columns, done, state, words, width)
                words[:size].tofile(file)
