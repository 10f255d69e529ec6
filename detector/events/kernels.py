"""Compiled loops that decode the words of a recording into event columns, and that find faulty events.

All loops are in one module, because the cache of the compiler does not notice changes in other files.

The arguments of every decoder are (N,) words, the int64 state after the earlier words (see `new_state`), columns with
enough space, the number `count` of events that are already in the columns, and the sensor size. A decoder appends the
decoded events to the columns and returns the new number of events. Faulty events are stored unchanged, and
`state[SUSPECT]` becomes 1 (see `detector.events.faults`).
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
    "SUSPECT",
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

TIME, HIGH, ROW, BASE, SIGN, LAST, SUSPECT = range(7)
"""Indices in the state of a decoder.

TIME is the clock in microseconds, HIGH the time in the last TIME_HIGH word. ROW is the row of the next EVT3 events,
BASE and SIGN are the first column and the polarity of the next EVT3 vector. LAST is the time of the last event. SUSPECT
is 1 if any event is outside the sensor or earlier than the previous event.
"""

UNSET = 1 << 40
"""Row or column that no word has set yet. It exceeds every sensor coordinate, also after vector lengths are added."""

DAT_PERIOD, EVT2_PERIOD, EVT3_PERIOD = 1 << 32, 1 << 34, 1 << 24
"""Periods of the encodings: microseconds after which stored times wrap to 0."""

LATEST_US = 100_000
"""Largest fall of the time in microseconds that is mended.

A fall up to this size may also go back across the end of a period. It is then not mistaken for a rise.
"""

NO_TIME = -1 << 62
"""Placeholder for the correct time of an event that is dropped."""

NOW, BEFORE, PLACE, KEPT, FIXED, OUTSIDE, LATE, DROPPED, AHEAD, RAISED, FALL, NUM_FACTS = range(12)
"""Indices in the argument `facts` of `find_faults`.

NOW and BEFORE are the times of the last and the second-last kept event. PLACE is the index of the last kept event, KEPT
the number of kept events. Events before index FIXED can no longer be dropped. OUTSIDE, LATE, DROPPED, AHEAD and RAISED
are numbers of faulty events. FALL is the time after a fall that cannot be mended. NUM_FACTS is the length of `facts`.
"""

DE_BRUIJN = 0x077CB531
ZEROS = np.zeros(32, np.int64)
ZEROS[[(DE_BRUIJN << zeros) >> 27 & 31 for zeros in range(32)]] = np.arange(32)


def new_state(time: int) -> np.ndarray:
    """Return the state of a decoder whose clock is at `time` microseconds, with row and column unset."""
    return np.array([time, time, UNSET, UNSET, 0, time, 0], np.int64)


@compiled
def advance(now, raw, period, slack):
    """Return the full time (with all wraps) that belongs to a stored time, given the full time of an earlier record.

    If the stored time falls by more than half a period, it has wrapped. If it rises by at least `period - slack`, the
    time has fallen back across the end of the previous period.

    Args:
        now: full time of the earlier record.
        raw: stored time, from 0 to below `period`.
        period: value at which the stored time wraps to 0, a power of 2.
        slack: largest fall of the time that is recognised across the end of a period.
    """
    time = (now & -period) + raw
    if time < now - period // 2:
        return time + period
    if time >= now + period - slack:
        return time - period
    return time


@compiled
def find_first(words, type_bit, kinds):
    """Return the index of the first word whose type is in the set `kinds`, or -1 if there is no such word.

    The type of a word is the number in its 4 bits from `type_bit` on. Bit k of `kinds` is 1 if type k is in the set.
    """
    for place in range(words.size):
        if kinds >> (np.int64(words[place]) >> type_bit & 15) & 1:
            return place
    return -1


@compiled
def find_last(words, type_bit, kinds):
    """Return the index of the last word whose type is in the set `kinds`, or -1 if there is no such word.

    The type of a word is the number in its 4 bits from `type_bit` on. Bit k of `kinds` is 1 if type k is in the set.
    """
    for place in range(words.size - 1, -1, -1):
        if kinds >> (np.int64(words[place]) >> type_bit & 15) & 1:
            return place
    return -1


@compiled
def decode_dat(records, state, x, y, p, t, count, width, height):
    """Append the events of int64 DAT records to columns that contain `count` events. Return the new number of events.

    x, y, p, t are the columns, with enough space. `state` is the state of the decoder after the earlier records. A
    record contains t in bits 0 to 31, x in bits 32 to 45, y in bits 46 to 59, p in bit 60. The loop has no branches, so
    that it is compiled to vector instructions. If a time falls or an event is outside the sensor, a second loop checks
    all records one by one. The times of faulty events are only correct modulo the period.
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
        # 2. A difference is negative if the time falls or the pixel is outside the sensor.
        unusual |= (time - last) | (width - 1 - column) | (height - 1 - row)
        last = time
        # 3. Store every event, assuming that the time does not wrap.
        xs[index] = column
        ys[index] = row
        ps[index] = record >> 60 & 1
        ts[index] = epoch + time
    # 4. Wraps and faulty events are handled in a second loop, which few blocks need.
    state[LAST] = _check_dat(records, state, ts, width, height) if unusual < 0 else epoch + last
    return count + records.size


@compiled
def _check_dat(records, state, t, width, height):
    """Correct the times `t` after wraps, and set `state[SUSPECT]` if an event may be faulty. Return the last time."""
    now = state[LAST]
    for index in range(records.size):
        record = records[index]
        time = advance(now, record & DAT_PERIOD - 1, DAT_PERIOD, LATEST_US)
        # After a wrap with a step of more than `LATEST_US`, the event may be ahead of its time, so `SUSPECT` is set.
        outside = (record >> 32 & 0x3FFF) >= width or (record >> 46 & 0x3FFF) >= height
        if outside or time < now or ((time ^ now) & -DAT_PERIOD != 0 and time > now + LATEST_US):
            state[SUSPECT] = 1
        t[index] = now = time
    return now


@compiled
def decode_evt2(words, state, x, y, p, t, count, width, height):
    """Append the events of 32-bit EVT2 words to columns that contain `count` events. Return the new number of events.

    x, y, p, t are the columns, with enough space. `state` is the state of the decoder after the earlier words. The
    first TIME_HIGH word of the recording must be one of these words or an earlier word.
    """
    place, one = np.uint64(count), np.uint64(1)
    last, high, suspect = state[LAST], state[HIGH], state[SUSPECT]
    for index in range(words.size):
        word = np.int64(words[index])
        kind = word >> 28
        # OFF or ON event: the time is composed of the last TIME_HIGH and the 6 low bits in this word.
        if kind <= 1:
            time = high + (word >> 22 & 63)
            column, row = word >> 11 & 0x7FF, word & 0x7FF
            # A faulty event is stored, too; here it only sets the flag.
            if time < last or column >= width or row >= height:
                suspect = 1
            x[place], y[place], p[place], t[place] = column, row, kind, time
            last = time
            place += one
        # TIME_HIGH: the upper 28 bits of the time, which wraps. Words of other types are skipped.
        elif kind == 8:
            high = advance(high, (word & 0xFFFFFFF) << 6, EVT2_PERIOD, LATEST_US)
    state[LAST], state[HIGH], state[SUSPECT] = last, high, suspect
    return np.int64(place)


@compiled
def _trailing_zeros(bits):
    """Return the number of zeros below the lowest set bit of `bits`, a number of up to 32 bits that is not 0."""
    return ZEROS[(bits & -bits) * DE_BRUIJN >> 27 & 31]


@compiled
def decode_evt21(words, state, x, y, p, t, count, width, height, head_bit):
    """Append the events of EVT2.1 words to columns that contain `count` events. Return the new number of events.

    x, y, p, t are the columns, with enough space. `state` is the state of the decoder after the earlier words. The
    first TIME_HIGH word of the recording must be one of these words or an earlier word. Of the 64 bits of a word, the
    32 bits from bit `head_bit` (0 or 32) on contain the type. The other 32 bits are a pixel mask.
    """
    place, one = np.uint64(count), np.uint64(1)
    last, high, suspect = state[LAST], state[HIGH], np.int64(0)
    for index in range(words.size):
        # 1. The half with the type has the layout of an EVT2 word.
        head = words[index] >> head_bit & 0xFFFFFFFF
        kind = head >> 28
        if kind <= 1:
            # 2. The other half is a mask of 32 pixels, beginning at the column in the head.
            valid = words[index] >> 32 - head_bit & 0xFFFFFFFF
            time = high + (head >> 22 & 63)
            row = head & 0x7FF
            # 3. `suspect` becomes negative if time falls or a pixel is outside the sensor.
            if valid:
                suspect |= (time - last) | (height - 1 - row)
                last = time
            # 4. One event per set bit, from the lowest bit on; `valid & valid - 1` clears the lowest set bit.
            while valid:
                column = (head >> 11 & 0x7FF) + _trailing_zeros(valid)
                suspect |= width - 1 - column
                x[place], y[place], p[place], t[place] = column, row, kind, time
                place += one
                valid &= valid - 1
        elif kind == 8:
            high = advance(high, (head & 0xFFFFFFF) << 6, EVT2_PERIOD, LATEST_US)
    state[LAST], state[HIGH] = last, high
    state[SUSPECT] |= suspect < 0
    return np.int64(place)


@compiled
def decode_evt3(words, state, x, y, p, t, count, width, height):  # noqa: PLR0912  # one branch per word type
    """Append the events of 16-bit EVT3 words to columns that contain `count` events. Return the new number of events.

    x, y, p, t are the columns, with enough space. `state` is the state of the decoder after the earlier words. The
    first TIME_HIGH word of the recording must be one of these words or an earlier word. Events are dropped if no word
    has set their row or column. In the code, `limit` is the first column at which an event is faulty: `width`, or 0 if
    the row is outside the sensor or the time has fallen.
    """
    place, one = np.uint64(count), np.uint64(1)
    time, high, row, base, sign = state[TIME], state[HIGH], state[ROW], state[BASE], state[SIGN]
    last, suspect, timed = state[LAST], state[SUSPECT], place  # events from index `timed` on have the current time
    limit = width if row < height and time >= last else 0
    for index in range(words.size):
        word = np.int64(words[index])
        kind = word >> 12
        # ADDR_X: one event in the current row at the current time.
        if kind == 0x2:
            if row < UNSET:
                column = word & 0x7FF
                if column >= limit:
                    suspect = 1
                x[place], y[place], p[place], t[place] = column, row, word >> 11 & 1, time
                place += one
        # TIME_LOW, TIME_HIGH: a new time. A TIME_HIGH equal to the last one leaves the low bits unchanged.
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
        # VECT_12, VECT_8: one event per set bit, from the lowest bit on; then `base` moves past this vector.
        elif kind in (0x4, 0x5):
            valid, size = (word & 0xFFF, 12) if kind == 0x4 else (word & 0xFF, 8)
            while valid and row < UNSET and base < UNSET:
                column = base + _trailing_zeros(valid)
                if column >= limit:
                    suspect = 1
                x[place], y[place], t[place] = column, row, time
                p[place] = sign if column < width else -1  # successive vectors may exceed the range of x
                place += one
                valid &= valid - 1
            base += size
        # VECT_BASE_X: column and polarity of the next vector.
        elif kind == 0x3:
            base, sign = word & 0x7FF, word >> 11 & 1
    state[TIME], state[HIGH], state[ROW], state[BASE], state[SIGN] = time, high, row, base, sign
    state[LAST], state[SUSPECT] = time if place != timed else last, suspect
    return np.int64(place)


@compiled
def _is_wrap(now, before, kept, low, period):
    """Return True if stored times have wrapped to 0, False if the last kept event has a wrong time, which is too high.

    With two or more kept events, times have wrapped if the second-last one is also later than `low`. With one, they
    have wrapped if the step from `now` to the wrapped time is at most a quarter of a period.

    Args:
        now: time of the last kept event.
        before: time of the second-last kept event.
        kept: number of kept events.
        low: time of the next event if times have not wrapped; `low + period` if they have.
        period: value at which stored times wrap.
    """
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
    """Find faulty events by the rules in `detector.events.faults`.

    Args:
        x, y, p, t: (N,) stored events from index `first` on. An event with p below 0 is outside the sensor.
        facts: (`NUM_FACTS`,) int64 state after the earlier events, updated in place; zeros at the start.
        width, height, period, final: sensor size, period of stored times or 0; whether no further events follow.
        places, times: (N + 1,) outputs: index and correct time of each faulty event; `NO_TIME` for events to drop.

    Returns:
        Number of judged events, -1 if the time falls to `facts[FALL]` and cannot be mended; number of faulty events.
    """
    count = 0
    for index in range(t.size):
        now, before, kept, time, right = facts[NOW], facts[BEFORE], facts[KEPT], t[index], np.int64(NO_TIME)
        place, wraps, outside = first + index, False, _is_outside(x, y, p, index, width, height)
        # 1. Compute the full time. A step of more than `LATEST_US` across the end of a period is a doubtful wrap.
        if period > 0 and kept > 0:
            time = advance(now, time, period, LATEST_US)
            wraps = time > now + LATEST_US and (time ^ now) & -period != 0
        if time >= now and not wraps and not outside:  # 2. An event in order within the sensor is kept.
            _keep(facts, time, place)
            continue
        # 3. Any other event is judged by the time of the next event. If it is not known yet, the next call decides.
        following = index + 1
        while not outside and following < t.size and _is_outside(x, y, p, following, width, height):
            following += 1
        last = following == t.size
        if last and not final and not outside:
            return index, count
        after = np.int64(0) if last else t[following]
        # 4. If a doubtful wrap is a real one, the event is kept. Otherwise the event is in the same period as `now`.
        if wraps and not outside:
            low, after = time - period, (now & -period) + after
            if _is_wrap(now, before, kept, low, period) and (last or after < now):
                _keep(facts, time, place)
                continue
            time = low
        elif period > 0 and kept > 0:
            after = advance(now, after, period, LATEST_US)
        # 5. The kind of the fault depends on whether removing this event or the previous one restores the order.
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
