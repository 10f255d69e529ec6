"""Prophesee's ECF compression of events: decoding of one chunk of bytes into columns.

Facts from prophesee-ai/hdf5_ecf (Apache-2.0). A chunk consists of a little-endian u32 with the number of events in its
upper 30 bits and the layout of its pixels in the lower two, a u64 with the time of the first event, and these sections:

- times, one byte per token: the upper four bits are a step in microseconds, the lower four the number of events with
  the new time (15: the number follows as u16). A step of 15 is followed by four bits of a longer step instead, lowest
  bits first, which are added to the next step.
- layout 2 or 3: y, x, p of each event in 24 bits: 11, 11, 1. Four events are packed in three u32.
- layout 0 or 1: rows, one u16 per run: y in the upper 11 bits, the number of events in the lower five (31: it follows
  as u16).
  - layout 1: x, p of each event in 12 bits. Four events are packed in three u16.
  - layout 0: columns, one u16 per token: x in the upper 11 bits, then one bit for each of x + 1 ... x + 5 that follows;
    then polarities, one byte per run: p in the top bit, the number of events in the lower seven (127: it follows as
    u16).

The loops never read or write outside their arrays, for any input bytes. All their numbers are uint64.
"""

import numpy as np

from detector.events.arrays import Columns
from detector.utils.compiled import compiled

__all__ = ["count_events", "decode", "first_time"]

HEADER = np.uint64(12)
"""Bytes before the times."""

LAST_TIME = np.uint64((1 << 62) - 1)
LONGEST_STEP = np.uint64(60)
"""Largest number of bits of a step: with it and `LAST_TIME`, times cannot overflow."""

FAILED = np.uint64(0)
"""Returned by a loop instead of the next position if the bytes end early or contain too many events."""

ZERO, ONE, TWO, THREE, FOUR, FIVE, SIX, SEVEN, EIGHT = (np.uint64(number) for number in range(9))
NINE, TEN, ELEVEN, TWELVE, FIFTEEN, SIXTEEN = (np.uint64(number) for number in (9, 10, 11, 12, 15, 16))
NEIGHBOURS, SIDE = np.uint64(31), np.uint64(2047)
"""Masks of the bits of the columns that follow a column, and of x and y."""


def count_events(chunk: bytes, source: object) -> int:
    """Number of events that the header of a chunk states; `source` is the file, named in errors.

    Raises:
        ValueError: the chunk is too short for a header.
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
        out: x, y, p, t to fill, each of length `count_events(chunk)`; times are in order.
        source: the file, named in errors.

    Raises:
        ValueError: the bytes are not a valid chunk; the content of `out` is then undefined.
    """
    count, columns = count_events(chunk, source), dict(zip("xypt", out, strict=True))
    if count != out[3].size:
        raise ValueError(f"{source}: corrupt ECF chunk: it holds {count} events, allowed: {out[3].size}")
    data, position = np.frombuffer(chunk, np.uint8), FOUR
    for name, decode_section, filled in SECTIONS[chunk[0] & 3]:
        position = np.uint64(decode_section(data, position, *(columns[key] for key in filled)))  # plain int if compiled
        if position == FAILED:
            raise ValueError(f"{source}: corrupt ECF chunk: its {name} do not fit its number of events")


@compiled
def _times(data: np.ndarray, place: np.uint64, t: np.ndarray) -> np.uint64:
    """Fill t; return the position after the times."""
    size, count = np.uint64(data.size), np.uint64(t.size)
    now, index = ZERO, ZERO
    # The time of the first event, little-endian, is the base of the steps.
    while place < HEADER:
        now |= data[place] << (place - FOUR) * EIGHT
        place += ONE
    step, bits = ZERO, ZERO
    while index < count:
        if place >= size or now > LAST_TIME:
            return FAILED
        token = data[place]
        place += ONE
        # Upper half of the token: a step of the time, or 15 and four bits of a longer step in the lower half.
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
        # Lower half: the number of events with this time, or 15 and the number in the next two bytes.
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
def _runs(
    data: np.ndarray, place: np.uint64, values: np.ndarray, token_bytes: np.uint64, run_bits: np.uint64
) -> np.uint64:
    """Fill values from runs, each a token of a value and a number of events; return the position after them."""
    size, count = np.uint64(data.size), np.uint64(values.size)
    longest = (ONE << run_bits) - ONE
    index = ZERO
    while index < count:
        # A token of one or two bytes: the value in the upper bits, the number of events in the lower ones.
        if place + token_bytes > size:
            return FAILED
        token = np.uint64(data[place])
        if token_bytes == TWO:
            token |= data[place + ONE] << EIGHT
        place += token_bytes
        # The largest number means that the number follows in two bytes.
        run = token & longest
        if run == longest:
            if place + TWO > size:
                return FAILED
            run = data[place] | data[place + ONE] << EIGHT
            place += TWO
        end = index + run
        if end > count:
            return FAILED
        value = token >> run_bits
        while index < end:
            values[index] = value
            index += ONE
    return place


def _rows(data: np.ndarray, place: np.uint64, y: np.ndarray) -> np.uint64:
    return _runs(data, place, y, TWO, FIVE)


def _polarities(data: np.ndarray, place: np.uint64, p: np.ndarray) -> np.uint64:
    return _runs(data, place, p, ONE, SEVEN)


@compiled
def _columns(data: np.ndarray, place: np.uint64, x: np.ndarray) -> np.uint64:
    """Fill x from columns and the neighbours that follow them; return the position after them."""
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
        neighbours = token & NEIGHBOURS
        # One bit per following column; the encoder also sets bits beyond the last event, which are ignored.
        while neighbours != ZERO and index < count:
            column += ONE
            if neighbours & SIXTEEN:
                x[index] = column
                index += ONE
            neighbours = (neighbours << ONE) & NEIGHBOURS
    return place


@compiled
def _packed_columns(data: np.ndarray, place: np.uint64, x: np.ndarray, p: np.ndarray) -> np.uint64:
    """Fill x and p from 12 bits per event; return the position after them."""
    size, count = np.uint64(data.size), np.uint64(x.size)
    if place + (count + THREE) // FOUR * SIX > size:
        return FAILED
    index = ZERO
    while index < count:
        # Four events of 12 bits, in the order in which three u16 contain them.
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
    """Fill x, y and p from 24 bits per event; return the position after them."""
    size, count = np.uint64(data.size), np.uint64(x.size)
    if place + (count + THREE) // FOUR * TWELVE > size:
        return FAILED
    index = ZERO
    while index < count:
        # Four events of 24 bits, in the order in which three u32 contain them.
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


TIMES, ROWS = ("times", _times, "t"), ("rows", _rows, "y")
PACKED = (TIMES, ("pixels", _packed_pixels, "xyp"))
SECTIONS = (
    (TIMES, ROWS, ("columns", _columns, "x"), ("polarities", _polarities, "p")),
    (TIMES, ROWS, ("columns", _packed_columns, "xp")),
    PACKED,
    PACKED,
)
"""Sections of each layout: name, function that decodes it, columns that it fills."""
