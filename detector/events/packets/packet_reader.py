"""Base class of readers of files that consist of packets of different lengths."""

from bisect import bisect_left
from pathlib import Path

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns
from detector.events.blocks import BlockwiseReader
from detector.events.faults import DisorderError

__all__ = ["PacketReader"]

SMALL = 1 << 25
"""A file of at most this many bytes is read completely before its first search."""

NEVER = (1 << 63) - 1
"""Time of the packets after the last event."""


class PacketReader(BlockwiseReader):
    """Base class of readers that decode one packet at a time; a block is a packet.

    A time is found by bisection of the first times of the packets. A packet is decoded to find its first time, unless
    an index of the file contains it. If the first times around the result are not in order, some events are faulty, and
    a `DisorderError` is raised.

    Args:
        path: path of the recording.
        height: sensor height in pixels.
        width: sensor width in pixels.
        num_packets: number of packets with events.
    """

    def __init__(self, path: Path, height: int, width: int, num_packets: int) -> None:
        super().__init__(path, height, width, num_packets)
        self._times: dict[int, int] = {}

    def _indexed_time(self, number: int) -> int | None:
        """Return the time of the first event of a packet if an index of the file contains it, otherwise None."""
        return None

    def _is_small(self) -> bool:
        return self.path.stat().st_size <= SMALL

    def _quick_first_t(self) -> int | None:
        times = (self._sound_block(number)[3] for number in range(self._num_blocks))
        return next((int(t[0]) for t in times if t.size), None)

    def _quick_last_t(self) -> int | None:
        times = (self._sound_block(number)[3] for number in reversed(range(self._num_blocks)))
        return next((int(t[-1]) for t in times if t.size), None)

    def _quick_columns(self, t0: int | None, t1: int | None, buffer: ColumnBuffer) -> Columns:
        self._check_open()
        begin = 0 if t0 is None else max(self._first_at_least(t0) - 1, 0)
        columns, count, last = buffer.take(0), 0, -1
        for number in range(begin, self._num_blocks):
            if t1 is not None and self._time(number) >= t1:
                break
            packet = self._sound_block(number)
            t = packet[3]
            if not t.size:
                continue
            if t[0] < last:
                raise DisorderError
            last = int(t[-1])
            first = 0 if t0 is None else int(np.searchsorted(t, t0))
            stop = t.size if t1 is None else int(np.searchsorted(t, t1))
            columns = buffer.take(count + max(0, stop - first), keep=count)
            for column, values in zip(columns, packet, strict=True):
                column[count:] = values[first:stop]
            count = columns[3].size
        return columns

    def _first_at_least(self, time: int) -> int:
        """Return the index of the first packet whose first event has t >= `time`."""
        found = bisect_left(range(self._num_blocks), time, key=self._time)
        times = [self._time(number) for number in range(max(0, found - 2), min(found + 2, self._num_blocks))]
        if times != sorted(times):
            raise DisorderError
        return found

    def _time(self, number: int) -> int:
        """Return the time of the first event of a packet; of an empty packet, that of the packet after it."""
        if number not in self._times:
            times = (self._first_time(after) for after in range(number, self._num_blocks))
            self._times[number] = next((time for time in times if time is not None), NEVER)
        return self._times[number]

    def _first_time(self, number: int) -> int | None:
        """Return the time of the first event of a packet, None if it is empty."""
        time = self._indexed_time(number)
        if time is None:
            t = self._sound_block(number)[3]
            return int(t[0]) if t.size else None
        return time
