"""Search in times that only grow but are stored in few bits, so that they start anew from 0."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import cached_property

from detector.events.faults import DisorderError
from detector.events.kernels import advance

__all__ = ["WrappingClock"]

PROBES = 128
MAX_STRIDE = 1 << 18
"""Records between two probes at most: a camera that writes EVT3 fills them in a quarter of the clock's period."""


class WrappingClock:
    """Search in the stored times of a file without reading them all.

    Wraps are counted between about `PROBES` places of a file, and more where a wrap might hide: wherever neighbours
    are more than a quarter of a period apart, the records between them are halved until it is known.

    Args:
        count: number of records.
        raw_at: stored time (modulo `period`) of a record.
        period: value at which the stored time starts anew, a power of 2.
        slack: how far times may fall; further falls raise `DisorderError`.
    """

    def __init__(self, count: int, raw_at: Callable[[int], int], period: int, *, slack: int = 0) -> None:
        self.count = count
        self._raw_at = raw_at
        self._period = period
        self._slack = slack

    @cached_property
    def marks(self) -> tuple[list[int], list[int]]:
        """Places of the probes and their times."""
        stride = min(max(1, self.count // PROBES), MAX_STRIDE)
        places, times = [0], [self._raw_at(0)]
        pending = [(place, self._raw_at(place)) for place in reversed(range(stride, self.count, stride))]
        while pending:
            place, raw = pending[-1]
            time = int(advance(times[-1], raw, self._period, self._slack))
            if place - places[-1] == 1 or -self._slack <= time - times[-1] <= self._period // 4:
                self._check(times[-1], time)
                places.append(place)
                times.append(time)
                pending.pop()
            else:
                middle = (places[-1] + place) // 2
                pending.append((middle, self._raw_at(middle)))
        return places, times

    def at(self, index: int) -> int:
        """Time of a record."""
        if index == 0:  # needs no probes
            return self._raw_at(0)
        places, times = self.marks
        mark = times[bisect_right(places, index) - 1]
        time = int(advance(mark, self._raw_at(index), self._period, self._slack))
        self._check(mark, time)
        return time

    def first_at_least(self, time: int) -> int:
        """Index of the first record at or after `time`; `count` if there is none."""
        if self.count == 0:
            return 0
        places, times = self.marks
        block = bisect_left(times, time)
        if block == 0:
            return 0
        end = places[block] if block < len(places) else self.count
        earliest = times[block - 1] - self._slack
        return bisect_left(
            range(self.count),
            time - earliest,
            places[block - 1] + 1,
            end,
            key=lambda index: (self._raw_at(index) - earliest) % self._period,
        )

    def _check(self, before: int, time: int) -> None:
        if time < before - self._slack:
            raise DisorderError
