"""Times that only grow but are stored in few bits, so that they start anew from 0."""

from bisect import bisect_left
from collections.abc import Callable
from functools import cached_property

import numpy as np

__all__ = ["WrappingClock", "unwrap"]

PROBES = 1024
"""Places at which a file's wraps are counted when it is first searched."""


def unwrap(raw: np.ndarray, previous: int, period: int, source: object) -> np.ndarray:
    """Turn stored times into times that go on growing.

    A fall of more than half a period is a wrap, a smaller one is an error.

    Args:
        raw: (N,) times modulo `period`, unsigned.
        previous: the time (not modulo) just before the first.
        period: value at which the stored time starts anew.
        source: the file, named in errors.

    Returns:
        (N,) int64 times.

    Raises:
        ValueError: time runs backwards.
    """
    times = raw.astype(np.int64)
    times += previous - previous % period
    if raw.size == 0 or (times[0] >= previous and bool((raw[1:] >= raw[:-1]).all())):
        return times
    steps = np.diff(times, prepend=previous)
    wraps = steps < -period // 2
    backwards = (steps < 0) & ~wraps
    if backwards.any():
        index = int(np.argmax(backwards))
        raise _backwards(source, -int(steps[index]))
    return times + period * np.cumsum(wraps)


class WrappingClock:
    """Search in the stored times of a file without reading them all.

    Wraps are counted at up to `PROBES` places. Of two wraps between neighbouring places one would be missed, which
    takes a file in which a 1/1024 of the records lasts longer than a whole period.

    Args:
        count: number of records.
        raw_at: stored time (modulo `period`) of a record.
        period: value at which the stored time starts anew.
        source: the file, named in errors.
    """

    def __init__(self, count: int, raw_at: Callable[[int], int], period: int, source: object) -> None:
        self.count = count
        self._raw_at = raw_at
        self._period = period
        self._source = source
        self._stride = max(1, -(-count // PROBES))

    @cached_property
    def _marks(self) -> np.ndarray:
        raw = np.array([self._raw_at(index) for index in range(0, self.count, self._stride)], np.int64)
        return unwrap(raw, int(raw[0]) if raw.size else 0, self._period, self._source)

    def at(self, index: int) -> int:
        """Time of a record."""
        mark = int(self._marks[index // self._stride])
        time = mark - mark % self._period + self._raw_at(index)
        if time >= mark:
            return time
        if mark - time <= self._period // 2:
            raise _backwards(self._source, mark - time)
        return time + self._period

    def first_at_least(self, time: int) -> int:
        """Index of the first record at or after `time`; `count` if there is none."""
        block = int(np.searchsorted(self._marks, time))
        first = (block - 1) * self._stride + 1 if block else 0
        return bisect_left(range(self.count), time, first, min(block * self._stride, self.count), key=self.at)


def _backwards(source: object, ticks: int) -> ValueError:
    return ValueError(f"{source}: time runs backwards by {ticks} ticks, allowed: times that only grow")
