"""Compiled loops from a recording's words to columns, and from events to words.

They stand in one module because the compiler's cache notices a change of a function's own file only.

A decoder gets (N,) words, the state that earlier words left, columns with room enough, the number of events already in
them, and the sensor's size. It returns the new number of events. What is faulty in them is left as it is and sets
`state[ODD]`, see `detector.events.faults`. The state is int64, see `new_state`.
"""

import numpy as np

from detector.utils.compiled import compiled

__all__ = [
    "BASE",
    "DAT_PERIOD",
    "EVT2_PERIOD",
    "EVT3_PERIOD",
    "HIGH",
    "LAST",
    "LATEST_US",
    "NO_TIME",
    "ODD",
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
    "find_faults",
    "find_first",
    "find_last",
    "new_state",
]

TIME, HIGH, ROW, BASE, SIGN, LAST, ODD = range(7)
"""Places in a state: the clock and its upper bits; row, column and polarity that EVT3 words refer to; time of the last
event; whether an event lies outside the sensor or is earlier than the one before it."""

UNSET = 1 << 40
"""Row or column as long as no word has set it: more than any sensor has, whatever is added."""

DAT_PERIOD, EVT2_PERIOD, EVT3_PERIOD = 1 << 32, 1 << 34, 1 << 24
"""Microseconds after which stored times start anew."""

LATEST_US = 100_000
"""Microseconds that a time may fall and be mended; a stored time that falls so far across its end is no new period."""

NO_TIME = -1 << 62
"""In place of the time of an event that is dropped."""

NOW, BEFORE, PLACE, KEPT, FIXED, OUTSIDE, LATE, DROPPED, AHEAD, RAISED, FALL, NUM_FACTS = range(12)
"""What `find_faults` remembers: times of the last two events that are kept, number of the last, how many there are, the
first that may still be dropped; counts of faults; the time of a fall that cannot be mended."""

VECTOR_WIDTH = 32

DE_BRUIJN = 0x077CB531
ZEROS = np.zeros(32, np.int64)
ZEROS[[(DE_BRUIJN << zeros) >> 27 & 31 for zeros in range(32)]] = np.arange(32)


def new_state(time: int) -> np.ndarray:
    """State of a decoder at a time in microseconds, with row and column unset."""
    return np.array([time, time, UNSET, UNSET, 0, time, 0], np.int64)


@compiled
def advance(now, raw, period, slack):
    """Time that a stored time stands for, given a time before it.

    A fall of more than half a period is a wrap; a rise that is at most `slack` short of a period goes back across one.

    Args:
        now: a time before.
        raw: the stored time, from 0 to below `period`.
        period: value at which the stored time starts anew, a power of 2.
        slack: how far times may fall across the end of a period.
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
    event by event follows. Times of odd records are right modulo the period.
    """
    xs, ys, ps, ts = x[count:], y[count:], p[count:], t[count:]
    epoch = state[LAST] & -DAT_PERIOD
    last, unusual = state[LAST] - epoch, np.int64(0)
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
    state[LAST] = _check_dat(records, state, ts, width, height) if unusual < 0 else epoch + last
    return count + records.size


@compiled
def _check_dat(records, state, t, width, height):
    """Count wraps and mark what is odd; a wrap that skips more than `LATEST_US` is doubtful. Returns the last time."""
    now = state[LAST]
    for index in range(records.size):
        record = records[index]
        time = advance(now, record & DAT_PERIOD - 1, DAT_PERIOD, LATEST_US)
        outside = (record >> 32 & 0x3FFF) >= width or (record >> 46 & 0x3FFF) >= height
        if outside or time < now or ((time ^ now) & -DAT_PERIOD != 0 and time > now + LATEST_US):
            state[ODD] = 1
        t[index] = now = time
    return now


@compiled
def decode_evt2(words, state, x, y, p, t, count, width, height):
    """Decode 32-bit words of EVT2 that follow a TIME_HIGH."""
    place, one = np.uint64(count), np.uint64(1)
    last, high, odd = state[LAST], state[HIGH], state[ODD]
    for index in range(words.size):
        word = np.int64(words[index])
        kind = word >> 28
        if kind <= 1:
            time = high + (word >> 22 & 63)
            column, row = word >> 11 & 0x7FF, word & 0x7FF
            if time < last or column >= width or row >= height:
                odd = 1
            x[place], y[place], p[place], t[place] = column, row, kind, time
            last = time
            place += one
        elif kind == 8:
            high = advance(high, (word & 0xFFFFFFF) << 6, EVT2_PERIOD, LATEST_US)
    state[LAST], state[HIGH], state[ODD] = last, high, odd
    return np.int64(place)


@compiled
def _trailing_zeros(bits):
    """Number of zeros below the lowest set bit of a number of up to 32 bits, not 0."""
    return ZEROS[(bits & -bits) * DE_BRUIJN >> 27 & 31]


@compiled
def decode_evt21(words, state, x, y, p, t, count, width, height, head_shift):
    """Decode 64-bit words of EVT2.1 that follow a TIME_HIGH; the half from bit `head_shift` (0 or 32) has the type."""
    place, one = np.uint64(count), np.uint64(1)
    last, high, odd = state[LAST], state[HIGH], np.int64(0)
    for index in range(words.size):
        head = words[index] >> head_shift & 0xFFFFFFFF
        kind = head >> 28
        if kind <= 1:
            valid = words[index] >> 32 - head_shift & 0xFFFFFFFF
            time = high + (head >> 22 & 63)
            row = head & 0x7FF
            if valid:
                odd |= (time - last) | (height - 1 - row)
                last = time
            while valid:
                column = (head >> 11 & 0x7FF) + _trailing_zeros(valid)
                odd |= width - 1 - column
                x[place], y[place], p[place], t[place] = column, row, kind, time
                place += one
                valid &= valid - 1
        elif kind == 8:
            high = advance(high, (head & 0xFFFFFFF) << 6, EVT2_PERIOD, LATEST_US)
    state[LAST], state[HIGH] = last, high
    state[ODD] |= odd < 0
    return np.int64(place)


@compiled
def decode_evt3(words, state, x, y, p, t, count, width, height):  # noqa: PLR0912  # words have that many types
    """Decode 16-bit words of EVT3 that follow a TIME_HIGH; events without a row or a column are dropped.

    `limit` is the first column that is odd: 0 where the row is outside the sensor or time has fallen.
    """
    place, one = np.uint64(count), np.uint64(1)
    time, high, row, base, sign = state[TIME], state[HIGH], state[ROW], state[BASE], state[SIGN]
    last, odd, timed = state[LAST], state[ODD], place  # the events from `timed` on have the present time
    limit = width if row < height and time >= last else 0
    for index in range(words.size):
        word = np.int64(words[index])
        kind = word >> 12
        if kind == 0x2:
            if row < UNSET:
                column = word & 0x7FF
                if column >= limit:
                    odd = 1
                x[place], y[place], p[place], t[place] = column, row, word >> 11 & 1, time
                place += one
        elif kind in (0x6, 0x8):
            if place != timed:
                last, timed = time, place
            fresh = advance(high, (word & 0xFFF) << 12, EVT3_PERIOD, LATEST_US) if kind == 0x8 else high
            if kind == 0x6:
                time = high + (word & 0xFFF)
            elif fresh != high:
                time = high = fresh
            limit = width if row < height and time >= last else 0
        elif kind == 0x0:
            row = word & 0x7FF
            limit = width if row < height and time >= last else 0
        elif kind in (0x4, 0x5):
            valid, size = (word & 0xFFF, 12) if kind == 0x4 else (word & 0xFF, 8)
            while valid and row < UNSET and base < UNSET:
                column = base + _trailing_zeros(valid)
                if column >= limit:
                    odd = 1
                x[place], y[place], t[place] = column, row, time
                p[place] = sign if column < width else -1  # a long row of vectors passes what x can hold
                place += one
                valid &= valid - 1
            base += size
        elif kind == 0x3:
            base, sign = word & 0x7FF, word >> 11 & 1
    state[TIME], state[HIGH], state[ROW], state[BASE], state[SIGN] = time, high, row, base, sign
    state[LAST], state[ODD] = time if place != timed else last, odd
    return np.int64(place)


@compiled
def _is_wrap(now, before, kept, low, period):
    """Whether a fall from `now` to `low` is a wrap and no event ahead of its time: its neighbours would be in order."""
    return before > low if kept > 1 else low - now + period <= period // 4


@compiled
def _is_outside(x, y, p, index, width, height):
    return x[index] >= width or y[index] >= height or p[index] < 0


@compiled
def _keep(facts, time, place):
    facts[BEFORE], facts[NOW], facts[PLACE] = facts[NOW], time, place
    facts[KEPT] += 1


@compiled
def find_faults(x, y, p, t, first, facts, width, height, period, final, places, times):  # noqa: PLR0912  # the rules
    """Find faulty events, see `detector.events.faults` for the rules.

    Args:
        x, y, p, t: (N,) events as they are stored; p below 0 marks one outside the sensor.
        first: number of the first of them in the recording.
        facts: what earlier events left, (`NUM_FACTS`,) int64, at the beginning zeros.
        width, height: of the sensor in pixels.
        period: value at which stored times start anew, 0 if they do not.
        final: whether no further events follow.
        places, times: (N + 1,) filled with numbers of faulty events and their right times, `NO_TIME` to drop them.

    Returns:
        How many events are decided, -1 at a fall to `facts[FALL]` that cannot be mended; and the number of faults.
    """
    count = 0
    for index in range(t.size):
        now, before, kept, time, right = facts[NOW], facts[BEFORE], facts[KEPT], t[index], np.int64(NO_TIME)
        place, wraps, outside = first + index, False, _is_outside(x, y, p, index, width, height)
        if period > 0 and kept > 0:
            time = advance(now, time, period, LATEST_US)
            wraps = time > now + LATEST_US and (time ^ now) & -period != 0
        if time >= now and not wraps and not outside:
            _keep(facts, time, place)
            continue
        following = index + 1
        while not outside and following < t.size and _is_outside(x, y, p, following, width, height):
            following += 1
        last = following == t.size
        if last and not final and not outside:
            return index, count
        after = np.int64(0) if last else t[following]
        if wraps and not outside:
            low, after = time - period, (now & -period) + after
            if _is_wrap(now, before, kept, low, period) and (last or after < now):
                _keep(facts, time, place)
                continue
            time = low
        elif period > 0 and kept > 0:
            after = advance(now, after, period, LATEST_US)
        if outside:
            kind = OUTSIDE
        elif last or after >= now:
            kind = LATE if now - time <= LATEST_US else DROPPED
        elif kept > 0 and before <= time and facts[PLACE] >= facts[FIXED]:
            kind = AHEAD
            place, facts[NOW], facts[PLACE] = facts[PLACE], time, place
        elif now - time <= LATEST_US:
            kind = RAISED
        else:
            facts[FALL] = time
            return -1, count
        if kind in (LATE, RAISED):
            right = now
            _keep(facts, now, place)
        facts[kind] += 1
        places[count], times[count] = place, right
        count += 1
    return t.size, count


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
    """Append what leads from the time of the state to another: TIME_HIGH words and a TIME_LOW.

    Readers (evt3, evlib, faery) take the first TIME_HIGH as it is and see a wrap where 0x000 follows 0xFFF; faery takes
    0xFFF behind 0x000, or as the first word, for a step back.
    """
    if time == state[TIME]:
        return size
    high = time >> 12
    if state[HIGH] < 0 and high >= 0xFFF:
        state[HIGH] = 0x800
        words[size] = 0x8800
        size += 1
    while state[HIGH] >> 12 != high >> 12 and state[HIGH] >= 0:
        for step in (0x800, 0xFFF, 0x1000):
            if state[HIGH] & 0xFFF < step:
                state[HIGH] = (state[HIGH] & -0x1000) + step
                words[size] = 0x8 << 12 | step & 0xFFF
                size += 1
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
