"""Search by time in files that store times with few bits, so that the stored times wrap to 0 after a period."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import cached_property

from detector.events.faults import DisorderError
from detector.events.kernels import advance

__all__ = ["WrappingClock"]

NUM_SAMPLES = 128
MAX_STRIDE = 1 << 18
"""Largest number of records between two sampled records.

A camera writes this number of EVT3 words in a quarter of the clock's period.
"""


class WrappingClock:
    """Finds records by time in a file with wrapping times, without reading all records.

    A full time is a stored time plus the periods of all wraps before it. To count the wraps, the times of records at
    equal distances are read. If the times of two neighbours differ by more than a quarter of a period, the record
    halfway between them is read too, and so on until all wraps are known.

    Args:
        count: number of records in the file.
        raw_at: function that returns the stored time (modulo `period`) of the record with a given index.
        period: value at which the stored time wraps to 0, a power of 2.
        slack: largest allowed fall of the time; a larger fall raises `DisorderError`.
    """

    def __init__(self, count: int, raw_at: Callable[[int], int], period: int, *, slack: int = 0) -> None:
        self.count = count
        self._raw_at = raw_at
        self._period = period
        self._slack = slack

    @cached_property
    def samples(self) -> tuple[list[int], list[int]]:
        """Indices of the records that were read to count wraps, and the full times of these records."""
        stride = min(max(1, self.count // NUM_SAMPLES), MAX_STRIDE)
        indices, times = [0], [self._raw_at(0)]
        pending = [(index, self._raw_at(index)) for index in reversed(range(stride, self.count, stride))]
        while pending:
            index, raw = pending[-1]
            time = int(advance(times[-1], raw, self._period, self._slack))
            if index - indices[-1] == 1 or -self._slack <= time - times[-1] <= self._period // 4:
                self._check(times[-1], time)
                indices.append(index)
                times.append(time)
                pending.pop()
            else:
                middle = (indices[-1] + index) // 2
                pending.append((middle, self._raw_at(middle)))
        return indices, times

    def at(self, index: int) -> int:
        """Return the full time (with all wraps) of the record with this index."""
        if index == 0:  # needs no sampled records
            return self._raw_at(0)
        indices, times = self.samples
        earlier = times[bisect_right(indices, index) - 1]
        time = int(advance(earlier, self._raw_at(index), self._period, self._slack))
        self._check(earlier, time)
        return time

    def first_at_least(self, time: int) -> int:
        """Return the index of the first record whose full time is at least `time`; `count` if all are earlier."""
        if self.count == 0:
            return 0
        indices, times = self.samples
        block = bisect_left(times, time)
        if block == 0:
            return 0
        end = indices[block] if block < len(indices) else self.count
        earliest = times[block - 1] - self._slack
        return bisect_left(
            range(self.count),
            time - earliest,
            indices[block - 1] + 1,
            end,
            key=lambda index: (self._raw_at(index) - earliest) % self._period,
        )

    def _check(self, before: int, time: int) -> None:
        if time < before - self._slack:
            raise DisorderError
