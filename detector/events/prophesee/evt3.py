"""RAW recordings in EVT3: 16-bit words, each of which sets a part of the following events.

Rows, columns and times are in separate words. An event has the row, column and time that were set last. TIME_HIGH
contains the upper 12 bits of the time, TIME_LOW the lower 12 bits. The time wraps every 16.78 s.

These words set the time even if it falls. With some cameras, TIME_LOW wraps before the next TIME_HIGH, or TIME_HIGH
falls for a short time. Only the times of events are mended.
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
"""Sets of word types, one bit per type. Words of other types are skipped."""

JITTER = 2 << 12
"""Number of microseconds by which TIME_HIGH falls for a short time in files of some cameras."""

MAX_SIDE = 1 << 11
MAX_TIME = 1 << 32
"""Limit of the first time and of time differences in written files, in microseconds.

A long time without events takes much space, because each period of the clock needs three words.
"""

WORDS = 1 << 18
VECTOR_WIDTH = 32


class Evt3Reader(WordReader):
    """Reads EVT3 recordings.

    Events before the first TIME_HIGH word or before the first ADDR_Y word are dropped. Vectors before the first
    VECT_BASE_X word are also dropped.
    """

    record = np.dtype("<u2")
    most_events = 12
    events: ClassVar[int] = ADDR_X | VECT_12 | VECT_8
    time_types: ClassVar[int] = TIME_HIGH | TIME_LOW
    payload_bits = 12
    low_bits = 12
    slack = JITTER
    _type_bit = 12
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
        """Find the word before `start` that sets a value which words in [start, stop) use.

        Args:
            setter: bit mask with the one word type that sets the value.
            users: bit mask of the word types that use the value; bit k stands for type k.
            start: index of the first word.
            stop: index after the last word.

        Returns:
            Index of the last `setter` word before `start`. -1 if there is no such word, or if no word in [start, stop)
            uses the value before it is set again.
        """
        place = self._first(setter | users, start, stop)
        if place == stop or 1 << (self._record_at(place) >> 12) == setter:
            return -1
        return self._last(setter, start)

    def _as_events(self, triggers: np.ndarray) -> np.ndarray:
        return np.full_like(triggers, 0x2 << 12)


def write_evt3(path: str | Path, events: np.ndarray, height: int, width: int) -> None:
    """Write a RAW recording in EVT3. The file appears only when it is complete.

    Five or more successive events become a vector if they have the same time, row and polarity, and ascending x within
    32 pixels.

    Args:
        path: file to write; an existing file is replaced.
        events: (N,) array with the fields of `EventCD`, in order of time.
        height: sensor height in pixels, at most 2048.
        width: sensor width in pixels, at most 2048.

    Raises:
        ValueError: a field is missing, an event is outside the sensor, times fall, or a time or time difference is too
            large.
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
    """Encode events as EVT3 words, from the event `first` to the last event or until `words` is almost full.

    Args:
        x, y, p, t: (N,) columns of the events.
        first: index of the first event to encode.
        state: (3,) time, TIME_HIGH and row that were written last, -1 before the first. Updated in place.
        words: (M,) uint16 array to fill from the beginning.
        width: sensor width in pixels.

    Returns:
        Index of the first event that was not encoded, and number of words that were written.
    """
    size = 0
    while first < x.size and size + 1100 < words.size:
        # 1. Words of the time and the row, if they differ from the previous event.
        size = _encode_time(t[first], state, words, size)
        if y[first] != state[ROW]:
            state[ROW] = y[first]
            words[size] = y[first]
            size += 1
        # 2. Collect following events with the same time, row and polarity within 32 columns in a mask.
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
        # 3. Write five or more events as a vector of four words. Otherwise, write one event as one word.
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
    """Write the TIME_HIGH words and the TIME_LOW word for a new time to `words`, from index `size` on.

    Return the new number of words. Readers (evt3, evlib, faery) use the first TIME_HIGH unchanged and count a wrap
    where 0x000 follows 0xFFF. If 0xFFF follows 0x000 or is the first word, faery treats it as a step back. Another
    value is then written before 0xFFF.
    """
    if time == state[TIME]:
        return size
    high = time >> 12
    # 1. If the first TIME_HIGH is 0xFFF or more, write another value before it (see above).
    if state[HIGH] < 0 and high >= 0xFFF:
        state[HIGH] = 0x800
        words[size] = 0x8800
        size += 1
    # 2. For each period up to the new time, write the middle, the end, and the 0x000 that readers count as a wrap.
    while state[HIGH] >> 12 != high >> 12 and state[HIGH] >= 0:
        for step in (0x800, 0xFFF, 0x1000):
            if state[HIGH] & 0xFFF < step:
                state[HIGH] = (state[HIGH] & -0x1000) + step
                words[size] = 0x8 << 12 | step & 0xFFF
                size += 1
    # 3. Write the new TIME_HIGH and the TIME_LOW. If 0xFFF follows 0x000, write another value between them.
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
