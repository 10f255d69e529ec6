"""Compiled loops that decode the words of a recording into columns and find faulty events.

They are in one module because the cache of the compiler only detects changes in a function's own file.

Arguments of a decoder are (N,) words, the state after earlier words, columns that are large enough, the number of
events in them, and the sensor size. It returns the new number of events. Faulty events are not changed but set
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
    "find_faults",
    "find_first",
    "find_last",
    "new_state",
]

TIME, HIGH, ROW, BASE, SIGN, LAST, ODD = range(7)
"""Indices in a state: the clock and its upper bits; row, column and polarity of following EVT3 words; time of the last
event; whether an event is outside the sensor or earlier than the previous one."""

UNSET = 1 << 40
"""Row or column before a word sets it: larger than on any sensor, also after additions."""

DAT_PERIOD, EVT2_PERIOD, EVT3_PERIOD = 1 << 32, 1 << 34, 1 << 24
"""Microseconds after which stored times wrap to 0."""

LATEST_US = 100_000
"""Largest fall of the time in microseconds that is mended; such a fall across the end of a period is not a wrap."""

NO_TIME = -1 << 62
"""Marks an event that is dropped, in place of its correct time."""

NOW, BEFORE, PLACE, KEPT, FIXED, OUTSIDE, LATE, DROPPED, AHEAD, RAISED, FALL, NUM_FACTS = range(12)
"""Indices in the facts of `find_faults`: times of the last two kept events, index of the last one, number of kept
events, index of the first event that may still be dropped; counts of faults; the time after a fall that cannot be
mended."""

DE_BRUIJN = 0x077CB531
ZEROS = np.zeros(32, np.int64)
ZEROS[[(DE_BRUIJN << zeros) >> 27 & 31 for zeros in range(32)]] = np.arange(32)


def new_state(time: int) -> np.ndarray:
    """State of a decoder at a time in microseconds, with row and column unset."""
    return np.array([time, time, UNSET, UNSET, 0, time, 0], np.int64)


@compiled
def advance(now, raw, period, slack):
    """Full time of a stored time, given an earlier time.

    A fall of more than half a period is a wrap. A rise of at least a period less `slack` is a fall across the end of
    the previous period.

    Args:
        now: an earlier full time.
        raw: the stored time, from 0 to below `period`.
        period: value at which the stored time wraps to 0, a power of 2.
        slack: largest fall of times across the end of a period.
    """
    time = (now & -period) + raw
    if time < now - period // 2:
        return time + period
    if time >= now + period - slack:
        return time - period
    return time


@compiled
def find_first(words, shift, kinds):
    """Index of the first word whose type, the 4 bits from `shift` on, is a set bit of `kinds`, or -1 without one."""
    for place in range(words.size):
        if kinds >> (np.int64(words[place]) >> shift & 15) & 1:
            return place
    return -1


@compiled
def find_last(words, shift, kinds):
    """Index of the last such word, see `find_first`."""
    for place in range(words.size - 1, -1, -1):
        if kinds >> (np.int64(words[place]) >> shift & 15) & 1:
            return place
    return -1


@compiled
def decode_dat(records, state, x, y, p, t, count, width, height):
    """Decode int64 records: t in the lower 32 bits, x from bit 32, y from bit 46, p in bit 60.

    Without branches, the loop is compiled to vector instructions. An unusual record makes `unusual` negative, and a
    second loop then checks event by event. Times of odd records are correct modulo the period.
    """
    xs, ys, ps, ts = x[count:], y[count:], p[count:], t[count:]
    epoch = state[LAST] & -DAT_PERIOD
    last, unusual = state[LAST] - epoch, np.int64(0)
    for index in range(records.size):
        # 1. Extract the fields of the record.
        record = records[index]
        time = record & DAT_PERIOD - 1
        column = record >> 32 & 0x3FFF
        row = record >> 46 & 0x3FFF
        # 2. The sign of a difference is set if time falls or the pixel is outside the sensor.
        unusual |= (time - last) | (width - 1 - column) | (height - 1 - row)
        last = time
        # 3. Store the event in any case, as if no time wraps.
        xs[index] = column
        ys[index] = row
        ps[index] = record >> 60 & 1
        ts[index] = epoch + time
    # 4. Wraps and odd records are treated in a second loop, which few blocks need.
    state[LAST] = _check_dat(records, state, ts, width, height) if unusual < 0 else epoch + last
    return count + records.size


@compiled
def _check_dat(records, state, t, width, height):
    """Count wraps, correct times and mark odd records; return the last time."""
    now = state[LAST]
    for index in range(records.size):
        record = records[index]
        time = advance(now, record & DAT_PERIOD - 1, DAT_PERIOD, LATEST_US)
        # A wrap with a step of more than `LATEST_US` may be an event ahead of its time, so it is odd, too.
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
        # An event, OFF or ON: the last TIME_HIGH and the 6 low bits in the word are its time.
        if kind <= 1:
            time = high + (word >> 22 & 63)
            column, row = word >> 11 & 0x7FF, word & 0x7FF
            # A faulty event is stored, too: it is only marked here.
            if time < last or column >= width or row >= height:
                odd = 1
            x[place], y[place], p[place], t[place] = column, row, kind, time
            last = time
            place += one
        # TIME_HIGH: the upper 28 bits of the time, which wrap. Words of other types are skipped.
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
    """Decode 64-bit words of EVT2.1 that follow a TIME_HIGH. The half from bit `head_shift` (0 or 32) has the type."""
    place, one = np.uint64(count), np.uint64(1)
    last, high, odd = state[LAST], state[HIGH], np.int64(0)
    for index in range(words.size):
        # 1. The half with the type is like a word of EVT2.
        head = words[index] >> head_shift & 0xFFFFFFFF
        kind = head >> 28
        if kind <= 1:
            # 2. The other half is a mask of the 32 pixels from the column of the head on.
            valid = words[index] >> 32 - head_shift & 0xFFFFFFFF
            time = high + (head >> 22 & 63)
            row = head & 0x7FF
            # 3. `odd` becomes negative if time falls or a pixel is outside the sensor.
            if valid:
                odd |= (time - last) | (height - 1 - row)
                last = time
            # 4. One event per set bit, from the lowest bit on; `valid & valid - 1` clears the lowest set bit.
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

    `limit` is the first odd column: 0 if the row is outside the sensor or time has fallen.
    """
    place, one = np.uint64(count), np.uint64(1)
    time, high, row, base, sign = state[TIME], state[HIGH], state[ROW], state[BASE], state[SIGN]
    last, odd, timed = state[LAST], state[ODD], place  # events from `timed` on have the current time
    limit = width if row < height and time >= last else 0
    for index in range(words.size):
        word = np.int64(words[index])
        kind = word >> 12
        # ADDR_X: one event in the current row at the current time.
        if kind == 0x2:
            if row < UNSET:
                column = word & 0x7FF
                if column >= limit:
                    odd = 1
                x[place], y[place], p[place], t[place] = column, row, word >> 11 & 1, time
                place += one
        # TIME_LOW, TIME_HIGH: a new time. A TIME_HIGH that repeats its value leaves the low bits unchanged.
        elif kind in (0x6, 0x8):
            if place != timed:
                last, timed = time, place
            fresh = advance(high, (word & 0xFFF) << 12, EVT3_PERIOD, LATEST_US) if kind == 0x8 else high
            if kind == 0x6:
                time = high + (word & 0xFFF)
            elif fresh != high:
                time = high = fresh
            limit = width if row < height and time >= last else 0
        # ADDR_Y: a new row.
        elif kind == 0x0:
            row = word & 0x7FF
            limit = width if row < height and time >= last else 0
        # VECT_12, VECT_8: one event per set bit, from the lowest bit on; then the base moves to the next vector.
        elif kind in (0x4, 0x5):
            valid, size = (word & 0xFFF, 12) if kind == 0x4 else (word & 0xFF, 8)
            while valid and row < UNSET and base < UNSET:
                column = base + _trailing_zeros(valid)
                if column >= limit:
                    odd = 1
                x[place], y[place], t[place] = column, row, time
                p[place] = sign if column < width else -1  # many vectors in a row may exceed the range of x
                place += one
                valid &= valid - 1
            base += size
        # VECT_BASE_X: column and polarity of the next vector.
        elif kind == 0x3:
            base, sign = word & 0x7FF, word >> 11 & 1
    state[TIME], state[HIGH], state[ROW], state[BASE], state[SIGN] = time, high, row, base, sign
    state[LAST], state[ODD] = time if place != timed else last, odd
    return np.int64(place)


@compiled
def _is_wrap(now, before, kept, low, period):
    """Whether a fall from `now` to `low` is a wrap, and not an event ahead of its time between ordered neighbours."""
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

    Returns the number of decided events, -1 at a fall to `facts[FALL]` that cannot be mended, and that of faults.

    Args:
        x, y, p, t, first: (N,) stored events, p below 0 outside the sensor; index of the first in the recording.
        facts: state after earlier events, (`NUM_FACTS`,) int64, initially zeros.
        width, height, period: as in `detector.events.faults.FaultFinder`.
        final: whether no further events follow.
        places, times: (N + 1,) filled with indices of faulty events and their correct times, `NO_TIME` to drop them.
    """
    count = 0
    for index in range(t.size):
        now, before, kept, time, right = facts[NOW], facts[BEFORE], facts[KEPT], t[index], np.int64(NO_TIME)
        place, wraps, outside = first + index, False, _is_outside(x, y, p, index, width, height)
        # 1. Full time of the event; a step of more than `LATEST_US` across the end of a period is a doubtful wrap.
        if period > 0 and kept > 0:
            time = advance(now, time, period, LATEST_US)
            wraps = time > now + LATEST_US and (time ^ now) & -period != 0
        if time >= now and not wraps and not outside:  # 2. An event in order within the sensor is kept.
            _keep(facts, time, place)
            continue
        following = index + 1  # 3. Any other event needs the time after it; without one, the next call decides.
        while not outside and following < t.size and _is_outside(x, y, p, following, width, height):
            following += 1
        last = following == t.size
        if last and not final and not outside:
            return index, count
        after = np.int64(0) if last else t[following]
        # 4. A doubtful wrap is kept if it is one; otherwise the event is earlier, in the same period.
        if wraps and not outside:
            low, after = time - period, (now & -period) + after
            if _is_wrap(now, before, kept, low, period) and (last or after < now):
                _keep(facts, time, place)
                continue
            time = low
        elif period > 0 and kept > 0:
            after = advance(now, after, period, LATEST_US)
        # 5. The kind of the fault follows from the neighbours that would be in order without the event.
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
