"""Prophesee's ECF compression of events: a chunk of bytes -> columns.

Facts from prophesee-ai/hdf5_ecf (Apache-2.0). A chunk is a little-endian u32 with the number of events in its upper 30
bits and the layout of its pixels in the lower two, a u64 with the time of the first event, and then, back to back:

- times, a byte each: upper four bits a step in microseconds, lower four the number of events that share the new time
  (15: the number follows as u16). A step of 15 holds four bits of a longer step instead, lowest first, which counts
  with the next step.
- layout 2 or 3: y, x, p of each event in 24 bits: 11, 11, 1; four events lie in three u32.
- layout 0 or 1: rows, a u16 each: y in the upper 11 bits, number of events in the lower five (31: it follows as u16).
  - layout 1: x, p of each event in 12 bits; four events lie in three u16.
  - layout 0: columns, a u16 each: x in the upper 11 bits, then one bit for each of x + 1 ... x + 5 that follows; then
    polarities, a byte each: p in the top bit, number of events in the lower seven (127: it follows as u16).

The loops never read or write outside what they are given, whatever the bytes are. All their numbers are uint64.
"""

import numpy as np

from detector.events.arrays import Columns
from detector.utils.compiled import compiled

__all__ = ["count_events", "decode", "first_time"]

HEADER = np.uint64(12)
"""Bytes before the times."""

LAST_TIME = np.uint64((1 << 62) - 1)
LONGEST_STEP = np.uint64(60)
"""Bits that a step may have: with it and `LAST_TIME`, times cannot overflow."""

FAILED = np.uint64(0)
"""What a loop returns instead of the place where it stopped, if the bytes end early or hold too many events."""

ZERO, ONE, TWO, THREE, FOUR, FIVE, SIX, SEVEN, EIGHT = (np.uint64(number) for number in range(9))
NINE, TEN, ELEVEN, TWELVE, FIFTEEN, SIXTEEN = (np.uint64(number) for number in (9, 10, 11, 12, 15, 16))
ROW_RUN, POLARITY_RUN, SIDE = np.uint64(31), np.uint64(127), np.uint64(2047)


def count_events(chunk: bytes, source: object) -> int:
    """Number of events that a chunk says it holds; `source` is the file, named in errors.

    Raises:
        ValueError: it is too short for a header.
    """
    if len(chunk) < HEADER:
        raise ValueError(f"{source}: corrupt ECF chunk: {len(chunk)} bytes, allowed: at least {HEADER}")
    return int.from_bytes(chunk[:4], "little") >> 2


def first_time(chunk: bytes, source: object) -> int:
    """Time of the first event of a chunk in microseconds; argument and errors as in `count_events`."""
    count_events(chunk, source)
    return int.from_bytes(chunk[4:12], "little")


def decode(chunk: bytes, out: Columns, source: object) -> None:
    """Decode a chunk into columns of exactly its number of events.

    Args:
        chunk: compressed bytes.
        out: x, y, p, t to fill, each of length `count_events(chunk)`; times come out in order.
        source: the file, named in errors.

    Raises:
        ValueError: the bytes are no such chunk; `out` then holds anything.
    """
    count, (x, y, p, t) = count_events(chunk, source), out
    if count != t.size:
        raise ValueError(f"{source}: corrupt ECF chunk: it holds {count} events, allowed: {t.size}")
    failed = _decode(np.frombuffer(chunk, np.uint8), chunk[0] & 3, x, y, p, t)
    if failed:
        raise ValueError(f"{source}: corrupt ECF chunk: its {failed} do not fit its number of events")


def _decode(data: np.ndarray, layout: int, x: np.ndarray, y: np.ndarray, p: np.ndarray, t: np.ndarray) -> str:
    """Decode all sections; return the one that fails, empty if none does."""
    place = np.uint64(_times(data, t))  # compiled code returns plain integers
    if place == FAILED:
        return "times"
    if layout >= 2:
        return "pixels" if _packed_pixels(data, place, x, y, p) == FAILED else ""
    place = np.uint64(_rows(data, place, y))
    if place == FAILED:
        return "rows"
    if layout == 1:
        return "columns" if _packed_columns(data, place, x, p) == FAILED else ""
    place = np.uint64(_columns(data, place, x))
    if place == FAILED:
        return "columns"
    return "polarities" if _polarities(data, place, p) == FAILED else ""


@compiled
def _times(data: np.ndarray, t: np.ndarray) -> np.uint64:
    """Fill t; return the place after the times."""
    size, count = np.uint64(data.size), np.uint64(t.size)
    now, place, index = ZERO, FOUR, ZERO
    while place < HEADER:
        now |= data[place] << (place - FOUR) * EIGHT
        place += ONE
    step, bits = ZERO, ZERO
    while index < count:
        if place >= size or now > LAST_TIME:
            return FAILED
        token = data[place]
        place += ONE
        run = token & FIFTEEN
        token = token >> FOUR
        if token == FIFTEEN:
            if bits >= LONGEST_STEP:
                return FAILED
            step |= run << bits
            bits += FOUR
            continue
        now += step + token
        step, bits = ZERO, ZERO
        if run == FIFTEEN:
            if place + TWO > size:
                return FAILED
            run = data[place] | data[place + ONE] << EIGHT
            place += TWO
        end = index + run
        if end > count or now > LAST_TIME:
            return FAILED
        while index < end:
            t[index] = now
            index += ONE
    return place


@compiled
def _rows(data: np.ndarray, place: np.uint64, y: np.ndarray) -> np.uint64:
    """Fill y from runs of rows; return the place after them."""
    size, count = np.uint64(data.size), np.uint64(y.size)
    index = ZERO
    while index < count:
        if place + TWO > size:
            return FAILED
        token = data[place] | data[place + ONE] << EIGHT
        place += TWO
        run = token & ROW_RUN
        if run == ROW_RUN:
            if place + TWO > size:
                return FAILED
            run = data[place] | data[place + ONE] << EIGHT
            place += TWO
        end = index + run
        if end > count:
            return FAILED
        while index < end:
            y[index] = token >> FIVE
            index += ONE
    return place


@compiled
def _columns(data: np.ndarray, place: np.uint64, x: np.ndarray) -> np.uint64:
    """Fill x from columns with the neighbours that follow; return the place after them."""
    size, count = np.uint64(data.size), np.uint64(x.size)
    index = ZERO
    while index < count:
        if place + TWO > size:
            return FAILED
        token = data[place] | data[place + ONE] << EIGHT
        place += TWO
        column = token >> FIVE
        x[index] = column
        index += ONE
        neighbours = token & ROW_RUN
        # The encoder looks past its last event: bits beyond the number of events mean nothing.
        while neighbours != ZERO and index < count:
            column += ONE
            if neighbours & SIXTEEN:
                x[index] = column
                index += ONE
            neighbours = (neighbours << ONE) & ROW_RUN
    return place


@compiled
def _polarities(data: np.ndarray, place: np.uint64, p: np.ndarray) -> np.uint64:
    """Fill p from runs of polarities; return the place after them."""
    size, count = np.uint64(data.size), np.uint64(p.size)
    index = ZERO
    while index < count:
        if place >= size:
            return FAILED
        token = data[place]
        place += ONE
        run = token & POLARITY_RUN
        if run == POLARITY_RUN:
            if place + TWO > size:
                return FAILED
            run = data[place] | data[place + ONE] << EIGHT
            place += TWO
        end = index + run
        if end > count:
            return FAILED
        while index < end:
            p[index] = token >> SEVEN
            index += ONE
    return place


@compiled
def _packed_columns(data: np.ndarray, place: np.uint64, x: np.ndarray, p: np.ndarray) -> np.uint64:
    """Fill x and p from 12 bits an event; return the place after them."""
    size, count = np.uint64(data.size), np.uint64(x.size)
    if place + (count + THREE) // FOUR * SIX > size:
        return FAILED
    index = ZERO
    while index < count:
        a = data[place] >> FOUR | data[place + ONE] << FOUR
        b = data[place] & FIFTEEN | data[place + THREE] << FOUR
        c = data[place + TWO] | data[place + FIVE] >> FOUR << EIGHT
        d = data[place + FOUR] | (data[place + FIVE] & FIFTEEN) << EIGHT
        place += SIX
        for event in (a, b, c, d):
            if index < count:
                x[index] = event >> ONE
                p[index] = event & ONE
                index += ONE
    return place


@compiled
def _packed_pixels(data: np.ndarray, place: np.uint64, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.uint64:
    """Fill x, y and p from 24 bits an event; return the place after them."""
    size, count = np.uint64(data.size), np.uint64(x.size)
    if place + (count + THREE) // FOUR * TWELVE > size:
        return FAILED
    index = ZERO
    while index < count:
        a = data[place + ONE] | data[place + TWO] << EIGHT | data[place + THREE] << SIXTEEN
        b = data[place] | data[place + SIX] << EIGHT | data[place + SEVEN] << SIXTEEN
        c = data[place + FOUR] | data[place + FIVE] << EIGHT | data[place + ELEVEN] << SIXTEEN
        d = data[place + EIGHT] | data[place + NINE] << EIGHT | data[place + TEN] << SIXTEEN
        place += TWELVE
        for event in (a, b, c, d):
            if index < count:
                x[index] = event >> ONE & SIDE
                y[index] = event >> TWELVE & SIDE
                p[index] = event & ONE
                index += ONE
    return place
