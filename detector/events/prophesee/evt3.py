"""RAW recordings in EVT3: 16-bit words, each of which sets a part of the following events.

Rows, columns and times are separate words; an event has the latest of each. TIME_HIGH and TIME_LOW have 12 bits of the
time each, which wraps every 16.78 s. They set the time even if it falls: some cameras let TIME_LOW wrap before the next
TIME_HIGH, or a TIME_HIGH fall for a short time. Only times of events are mended.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from detector.events.kernels import BASE, HIGH, ROW, SIGN, TIME, decode_evt3
from detector.events.prophesee.raw import TIME_HIGH, WordReader
from detector.events.write import check_events, in_parts, raw_header
from detector.utils.atomic_write import atomic_write
from detector.utils.compiled import compiled

__all__ = ["Evt3Reader", "encode_evt3", "write_evt3"]

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW = 1 << 0x0, 1 << 0x2, 1 << 0x3, 1 << 0x4, 1 << 0x5, 1 << 0x6
"""Sets of types, one bit per type; words of other types are skipped."""

JITTER = 2 << 12
"""Microseconds by which TIME_HIGH falls for a short time in files of some cameras."""

MAX_SIDE = 1 << 11
MAX_TIME = 1 << 32
"""Limit of the first time and of steps of time in written files: each period without events costs three words."""

WORDS = 1 << 18
VECTOR_WIDTH = 32


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
    decode = staticmethod(decode_evt3)

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
        """Index of the last word before `start` that sets a value that words of [start, stop) use; -1 without one."""
        place = self._first(setter | users, start, stop)
        if place == stop or 1 << (self._record_at(place) >> 12) == setter:
            return -1
        return self._last(setter, start)

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


@compiled
def encode_evt3(x, y, p, t, first, state, words, width):
    """Write events from index `first` on as EVT3 words, up to the last event or until `words` may be full.

    Returns:
        Index of the first event that was not written, and number of words.
    """
    size = 0
    while first < x.size and size + 1100 < words.size:
        # 1. Words of the time and the row, if they differ from the previous event.
        size = _encode_time(t[first], state, words, size)
        if y[first] != state[ROW]:
            state[ROW] = y[first]
            words[size] = y[first]
            size += 1
        # 2. Following events of the same time, row and polarity within 32 columns, as a mask.
        base = min(np.int64(x[first]), width - VECTOR_WIDTH)
        valid, end = np.int64(0), first
        while (
            end < x.size
            and (end == first or x[end] > x[end - 1])
            and x[end] < base + VECTOR_WIDTH
            and (y[end] == y[first] and p[end] == p[first] and t[end] == t[first])
        ):
            valid |= np.int64(1) << np.int64(x[end]) - base
            end += 1
        # 3. Four words of a vector for five or more events, else one word for one event.
        if base >= 0 and end - first > 4:
            words[size] = 0x3 << 12 | np.int64(p[first]) << 11 | base
            words[size + 1] = 0x4 << 12 | valid & 0xFFF
            words[size + 2] = 0x4 << 12 | valid >> 12 & 0xFFF
            words[size + 3] = 0x5 << 12 | valid >> 24
            first, size = end, size + 4
        else:
            words[size] = 0x2 << 12 | np.int64(p[first]) << 11 | np.int64(x[first])
            first, size = first + 1, size + 1
    return first, size


@compiled
def _encode_time(time, state, words, size):
    """Append the words that change the time of the state to another: TIME_HIGH words and a TIME_LOW.

    Readers (evt3, evlib, faery) use the first TIME_HIGH unchanged and count a wrap where 0x000 follows 0xFFF. faery
    treats 0xFFF after 0x000, or as the first word, as a step back.
    """
    if time == state[TIME]:
        return size
    high = time >> 12
    # 1. Before a first value of 0xFFF, another value: see above.
    if state[HIGH] < 0 and high >= 0xFFF:
        state[HIGH] = 0x800
        words[size] = 0x8800
        size += 1
    # 2. For each period up to the new time: the middle, the end, and the 0x000 that readers count.
    while state[HIGH] >> 12 != high >> 12 and state[HIGH] >= 0:
        for step in (0x800, 0xFFF, 0x1000):
            if state[HIGH] & 0xFFF < step:
                state[HIGH] = (state[HIGH] & -0x1000) + step
                words[size] = 0x8 << 12 | step & 0xFFF
                size += 1
    # 3. The new TIME_HIGH, with another value between 0x000 and 0xFFF, and the TIME_LOW.
    if state[HIGH] & 0xFFF == 0 and high & 0xFFF == 0xFFF:
        words[size] = 0x8800
        size += 1
    if state[HIGH] != high:
        state[HIGH] = high
        words[size] = 0x8 << 12 | high & 0xFFF
        size += 1
    state[TIME] = time
    words[size] = 0x6 << 12 | time & 0xFFF
    return size + 1
