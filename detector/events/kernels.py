"""Compiled loops from a recording's words to columns, and from events to words.

They stand in one module because the compiler's cache notices a change of a function's own file only.

A decoder gets (N,) words, the state that earlier words left, columns with room enough, the number of events already in
them, and the sensor's size. It returns the new number of events or, below 0, what is wrong; the state then tells the
values. The state is int64, see `new_state`.
"""

import numpy as np

from detector.utils.compiled import compiled

__all__ = [
    "BACKWARDS",
    "BASE",
    "DAT_PERIOD",
    "EVT2_PERIOD",
    "EVT3_JITTER",
    "OUTSIDE",
    "ROW",
    "SIGN",
    "TIME",
    "UNSET",
    "advance",
    "decode_dat",
    "decode_evt2",
    "decode_evt3",
    "decode_evt21",
    "encode_evt3",
    "find_first",
    "find_last",
    "new_state",
    "scan_evt3",
]

BACKWARDS, OUTSIDE = -1, -2
"""Time runs backwards, by state[TIME] us; an event lies outside the sensor, at state[BASE], state[ROW]."""

TIME, HIGH, ROW, BASE, SIGN = range(5)
"""Places in a state: time of the last event, its upper bits; row, column and polarity that EVT3 words refer to."""

UNSET = 1 << 20
"""Row or column that no word has told yet."""

DAT_PERIOD = 1 << 32
EVT2_PERIOD = 1 << 34
EVT3_PERIOD = 1 << 24
EVT3_JITTER = 2 << 12

SCAN_STRIDE = 1 << 12
VECTOR_WIDTH = 32
GAP = EVT3_PERIOD // 4
"""Microseconds between the TIME_HIGH words that fill a gap when EVT3 is written: no wrap can be missed."""

DE_BRUIJN = 0x077CB531
ZEROS = np.zeros(32, np.int64)
ZEROS[[(DE_BRUIJN << zeros) >> 27 & 31 for zeros in range(32)]] = np.arange(32)


def new_state(time: int) -> np.ndarray:
    """State of a decoder at a time in microseconds, with row and column unset."""
    return np.array([time, time, UNSET, UNSET, 0], np.int64)


@compiled
def advance(now, raw, period, slack):
    """Time that a stored time stands for, if it is `now` or later or at most `slack` earlier.

    A fall of more than half a period is a wrap.

    Args:
        now: a time before, not below 0.
        raw: the stored time, from 0 to below `period`.
        period: value at which the stored time starts anew, a power of 2.
        slack: how far times may fall.

    Returns:
        The time; if it is below `now - slack`, time runs backwards.
    """
    time = (now & -period) + raw
    if time < now - period // 2:
        return time + period
    if time >= now + period - slack:
        return time - period
    return time


@compiled
def find_first(words, shift, kinds):
    """Place of the first word whose type, the 4 bits from `shift` on, is a set bit of `kinds`; -1 if there is none."""
    for place in range(words.size):
        if kinds >> (np.int64(words[place]) >> shift & 15) & 1:
            return place
    return -1


@compiled
def find_last(words, shift, kinds):
    """Place of the last such word, see `find_first`."""
    for place in range(words.size - 1, -1, -1):
        if kinds >> (np.int64(words[place]) >> shift & 15) & 1:
            return place
    return -1


@compiled
def decode_dat(records, state, x, y, p, t, count, width, height):
    """Decode int64 records: t in the lower 32 bits, x from bit 32, y from bit 46, p in bit 60.

    Without branches in the loop it runs on whole vectors: what is unusual leaves a negative number behind, and a loop
    event by event follows.
    """
    xs, ys, ps, ts = x[count:], y[count:], p[count:], t[count:]
    epoch = state[TIME] & -DAT_PERIOD
    last, unusual = state[TIME] - epoch, np.int64(0)
    for index in range(records.size):
        record = records[index]
        time = record & DAT_PERIOD - 1
        column = record >> 32 & 0x3FFF
        row = record >> 46 & 0x3FFF
        unusual |= (time - last) | (width - 1 - column) | (height - 1 - row)
        last = time
        xs[index] = column
        ys[index] = row
        ps[index] = record >> 60 & 1
        ts[index] = epoch + time
    if unusual < 0:
        return _check_dat(records, state, ts, width, height, count)
    state[TIME] = epoch + last
    return count + records.size


@compiled
def _check_dat(records, state, t, width, height, count):
    now = state[TIME]
    for index in range(records.size):
        record = records[index]
        time = advance(now, record & DAT_PERIOD - 1, DAT_PERIOD, 0)
        if time < now:
            state[TIME] = now - time
            return BACKWARDS
        state[BASE], state[ROW] = record >> 32 & 0x3FFF, record >> 46 & 0x3FFF
        if state[BASE] >= width or state[ROW] >= height:
            return OUTSIDE
        t[index] = now = time
    state[TIME] = now
    return count + records.size


@compiled
def decode_evt2(words, state, x, y, p, t, count, width, height):
    """Decode 32-bit words of EVT2 that follow a TIME_HIGH."""
    place, one = np.uint64(count), np.uint64(1)
    last, high = state[TIME], state[HIGH]
    for index in range(words.size):
        word = np.int64(words[index])
        kind = word >> 28
        if kind <= 1:
            time = high + (word >> 22 & 63)
            column, row = word >> 11 & 0x7FF, word & 0x7FF
            if time < last:
                state[TIME] = last - time
                return BACKWARDS
            if column >= width or row >= height:
                state[BASE], state[ROW] = column, row
                return OUTSIDE
            x[place], y[place], p[place], t[place] = column, row, kind, time
            last = time
            place += one
        elif kind == 8:
            time = advance(high, (word & 0xFFFFFFF) << 6, EVT2_PERIOD, 0)
            if time < high:
                state[TIME] = high - time
                return BACKWARDS
            high = time
    state[TIME], state[HIGH] = last, high
    return np.int64(place)


@compiled
def _trailing_zeros(bits):
    """Number of zeros below the lowest set bit of a number of up to 32 bits, not 0."""
    return ZEROS[(bits & -bits) * DE_BRUIJN >> 27 & 31]


@compiled
def decode_evt21(words, state, x, y, p, t, count, width, height, head_shift):
    """Decode 64-bit words of EVT2.1 that follow a TIME_HIGH; the half from bit `head_shift` (0 or 32) has the type."""
    place, one = np.uint64(count), np.uint64(1)
    last, high = state[TIME], state[HIGH]
    for index in range(words.size):
        head = words[index] >> head_shift & 0xFFFFFFFF
        kind = head >> 28
        if kind <= 1:
            valid = words[index] >> 32 - head_shift & 0xFFFFFFFF
            time = high + (head >> 22 & 63)
            row = head & 0x7FF
            if valid and time < last:
                state[TIME] = last - time
                return BACKWARDS
            while valid:
                column = (head >> 11 & 0x7FF) + _trailing_zeros(valid)
                if column >= width or row >= height:
                    state[BASE], state[ROW] = column, row
                    return OUTSIDE
                x[place], y[place], p[place], t[place] = column, row, kind, time
                last = time
                place += one
                valid &= valid - 1
        elif kind == 8:
            time = advance(high, (head & 0xFFFFFFF) << 6, EVT2_PERIOD, 0)
            if time < high:
                state[TIME] = high - time
                return BACKWARDS
            high = time
    state[TIME], state[HIGH] = last, high
    return np.int64(place)


@compiled
def decode_evt3(words, state, x, y, p, t, count, width, height):  # noqa: PLR0912  # words have that many types
    """Decode 16-bit words of EVT3 that follow a TIME_HIGH; events without a row or a column are dropped."""
    place, one = np.uint64(count), np.uint64(1)
    time, high, row, base, sign = state[TIME], state[HIGH], state[ROW], state[BASE], state[SIGN]
    for index in range(words.size):
        word = np.int64(words[index])
        kind = word >> 12
        if kind == 0x2:
            column = word & 0x7FF
            if column < width and row < height:
                x[place], y[place], p[place], t[place] = column, row, word >> 11 & 1, time
                place += one
            elif row < UNSET:
                state[BASE], state[ROW] = column, row
                return OUTSIDE
        elif kind == 0x0:
            row = word & 0x7FF
        elif kind == 0x6:
            time = max(time, high + (word & 0xFFF))
        elif kind == 0x8:
            newest = time & -0x1000
            fresh = advance(newest, (word & 0xFFF) << 12, EVT3_PERIOD, EVT3_JITTER)
            if fresh < newest - EVT3_JITTER:
                state[TIME] = newest - fresh
                return BACKWARDS
            high = fresh
            time = max(time, high)
        elif kind in (0x4, 0x5):
            valid, size = (word & 0xFFF, 12) if kind == 0x4 else (word & 0xFF, 8)
            while valid:
                column = base + _trailing_zeros(valid)
                if column < width and row < height:
                    x[place], y[place], p[place], t[place] = column, row, sign, time
                    place += one
                elif row < UNSET and base < UNSET:
                    state[BASE], state[ROW] = column, row
                    return OUTSIDE
                valid &= valid - 1
            base += size
        elif kind == 0x3:
            base, sign = word & 0x7FF, word >> 11 & 1
    state[TIME], state[HIGH], state[ROW], state[BASE], state[SIGN] = time, high, row, base, sign
    return np.int64(place)


@compiled
def scan_evt3(words, state, first, places, times):
    """Note place and time of a TIME_HIGH word in every `SCAN_STRIDE` words and every quarter of the clock's period.

    Args:
        words: (N,) words.
        state: its time is the largest TIME_HIGH so far, its upper bits are the last that was noted.
        first: place of the first of the words.
        places: filled with places.
        times: filled with times.

    Returns:
        The number of places, or `BACKWARDS`.
    """
    count, following = 0, 0
    for index in range(words.size):
        word = np.int64(words[index])
        if word >> 12 == 0x8:
            time = advance(state[TIME], (word & 0xFFF) << 12, EVT3_PERIOD, EVT3_JITTER)
            if time < state[TIME] - EVT3_JITTER:
                state[TIME] -= time
                return BACKWARDS
            if index >= following or time >= state[HIGH] + EVT3_PERIOD // 4:
                places[count], times[count] = first + index, time
                state[HIGH] = time
                count, following = count + 1, index + SCAN_STRIDE
            state[TIME] = max(state[TIME], time)
    return count


@compiled
def encode_evt3(x, y, p, t, first, state, words, width):
    """Write events from index `first` on as EVT3 words, until they end or `words` may be full.

    Returns:
        Index of the first event not written, and the number of words.
    """
    size = 0
    while first < x.size and size + 1100 < words.size:
        size = _encode_time(t[first], state, words, size)
        if y[first] != state[ROW]:
            state[ROW] = y[first]
            words[size] = y[first]
            size += 1
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
    """Append what leads from the time of the state to another: at most a TIME_HIGH every `GAP` and a TIME_LOW."""
    if time == state[TIME]:
        return size
    high = time & -0x1000
    while state[HIGH] != high:
        if state[HIGH] < 0:  # readers take the first TIME_HIGH as it is
            state[HIGH] = high if high < EVT3_PERIOD else 0
        else:
            state[HIGH] = min(high, state[HIGH] + GAP)
        words[size] = 0x8 << 12 | state[HIGH] >> 12 & 0xFFF
        size += 1
    state[TIME] = time
    words[size] = 0x6 << 12 | time & 0xFFF
    return size + 1
