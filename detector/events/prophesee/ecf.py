"""Prophesee's ECF compression of events: decoding of one chunk of bytes into columns.

The format follows prophesee-ai/hdf5_ecf (Apache-2.0). A chunk begins with a little-endian u32. Its upper 30 bits are
the number of events, its lower 2 bits the layout of the pixels. A u64 with the time of the first event follows, then
these sections:

- Times, in one-byte tokens. The upper four bits are a time step in microseconds. The lower four bits are the number of
  events at the new time; 15 means that the number follows as u16. If the upper four bits are 15, the lower four bits
  are instead a part of a longer step. These parts, lowest bits first, are added to the next step.
- Layouts 2 and 3: y (11 bits), x (11 bits) and p (1 bit) of each event in 24 bits. Four events are packed in three u32.
- Layouts 0 and 1: rows, in one u16 per run of events with the same y. The upper 11 bits are y. The lower 5 bits are the
  number of events; 31 means that the number follows as u16.
- Layout 1, after the rows: x (11 bits) and p (1 bit) of each event in 12 bits. Four events are packed in three u16.
- Layout 0, after the rows: columns, in u16 tokens. The upper 11 bits are the x of an event. Each of the lower 5 bits is
  1 if an event at x + 1, ..., x + 5 follows.
- Layout 0, after the columns: polarities, in one byte per run of events with the same p. The top bit is p. The lower 7
  bits are the number of events; 127 means that the number follows as u16.

For any input bytes, the loops never access memory outside their arrays. All numbers in the loops are uint64.
"""

import numpy as np

from detector.events.arrays import Columns
from detector.utils.compiled import compiled

__all__ = ["count_events", "decode", "first_time"]

HEADER = np.uint64(12)
"""Number of bytes before the times."""

LAST_TIME = np.uint64((1 << 62) - 1)
LONGEST_STEP = np.uint64(60)
"""Largest number of bits of a time step. With this limit and `LAST_TIME`, times cannot overflow."""

FAILED = np.uint64(0)
"""Position that a loop returns if the bytes end early or contain too many events."""

ZERO, ONE, TWO, THREE, FOUR, FIVE, SIX, SEVEN, EIGHT = (np.uint64(number) for number in range(9))
NINE, TEN, ELEVEN, TWELVE, FIFTEEN, SIXTEEN = (np.uint64(number) for number in (9, 10, 11, 12, 15, 16))
NEIGHBOURS, SIDE = np.uint64(31), np.uint64(2047)
"""Bit masks: the bits of the five neighbours in a column token, and the bits of x or y."""


def count_events(chunk: bytes, source: object) -> int:
    """Return the number of events in a chunk, as stated in the header of the chunk.

    Args:
        chunk: compressed bytes.
        source: the file, named in error messages.

    Raises:
        ValueError: the chunk is too short for a header.
    """
    if len(chunk) < HEADER:
        raise ValueError(f"{source}: corrupt ECF chunk: {len(chunk)} bytes, allowed: at least {HEADER}")
    return int.from_bytes(chunk[:4], "little") >> 2


def first_time(chunk: bytes, source: object) -> int:
    """Return the time of the first event of a chunk in microseconds.

    Args:
        chunk: compressed bytes.
        source: the file, named in error messages.

    Raises:
        ValueError: the chunk is too short for a header.
    """
    count_events(chunk, source)
    return int.from_bytes(chunk[4:12], "little")


def decode(chunk: bytes, out: Columns, source: object) -> None:
    """Decode a chunk into the columns `out`.

    Args:
        chunk: compressed bytes.
        out: x, y, p, t to fill, each of length `count_events(chunk, source)`. The decoded times are in order.
        source: the file, named in error messages.

    Raises:
        ValueError: the bytes are not a valid chunk, or `out` has a wrong length. The content of `out` is then
            undefined.
    """
    count, columns = count_events(chunk, source), dict(zip("xypt", out, strict=True))
    if count != out[3].size:
        raise ValueError(f"{source}: corrupt ECF chunk: it holds {count} events, allowed: {out[3].size}")
    data, position = np.frombuffer(chunk, np.uint8), FOUR
    for name, decode_section, filled in SECTIONS[chunk[0] & 3]:
        position = np.uint64(decode_section(data, position, *(columns[key] for key in filled)))  # compiled: a plain int
        if position == FAILED:
            raise ValueError(f"{source}: corrupt ECF chunk: its {name} do not fit its number of events")


@compiled
def _times(data: np.ndarray, place: np.uint64, t: np.ndarray) -> np.uint64:
    """Decode the section "times" of a chunk (see the module) and write the time of each event into `t`.

    The time of the first event begins at byte `place` of `data`, and the section follows. Return the position after the
    section, or `FAILED` if the bytes are invalid.
    """
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
        # Upper half of the token: a time step. If it is 15, the lower half contains four bits of a longer step.
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
        # Lower half: the number of events with this time. If it is 15, the number is in the next two bytes.
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
    """Decode runs of equal values that begin at byte `place` of `data` into `values`.

    A run is a token of `token_bytes` bytes. Its lower `run_bits` bits are the number of events in the run. Its upper
    bits are the value of these events. Return the position after the runs, or `FAILED` if the bytes are invalid.
    """
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
    """Decode the section "columns" of a chunk with layout 0 (see the module) and write the x of each event into `x`.

    The section begins at byte `place` of `data`. Return the position after the section, or `FAILED` if the bytes are
    invalid.
    """
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
    """Decode the x and p of all events of a chunk with layout 1 (12 bits per event), and write them into `x` and `p`.

    The section begins at byte `place` of `data`. Return the position after the section, or `FAILED` if the bytes are
    invalid.
    """
    size, count = np.uint64(data.size), np.uint64(x.size)
    if place + (count + THREE) // FOUR * SIX > size:
        return FAILED
    index = ZERO
    while index < count:
        # Extract four events of 12 bits from three u16.
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
    """Decode all events of a chunk with layout 2 or 3 (24 bits per event), and write them into `x`, `y` and `p`.

    The section begins at byte `place` of `data`. Return the position after the section, or `FAILED` if the bytes are
    invalid.
    """
    size, count = np.uint64(data.size), np.uint64(x.size)
    if place + (count + THREE) // FOUR * TWELVE > size:
        return FAILED
    index = ZERO
    while index < count:
        # Extract four events of 24 bits from three u32.
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
"""For each layout, its sections: name, function that decodes the section, and columns that it fills."""
