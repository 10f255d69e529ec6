"""Base class of readers of files that consist of packets of different lengths."""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from detector.events.arrays import ColumnBuffer, Columns
from detector.events.faults import DisorderError, FaultFinder, RawBlock, has_suspects
from detector.events.reader import EventReader

__all__ = ["PacketReader"]

SMALL = 1 << 25
"""A file of at most this many bytes is read completely before its first search."""

RECENT = 4
"""Number of decoded packets that are kept, because neighbouring windows often need the same packet."""

NEVER = (1 << 63) - 1
"""Time of the packets after the last event."""


class PacketReader(EventReader):
    """Base class of readers that decode one packet at a time.

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
        super().__init__(path, height, width)
        self._num_packets = num_packets
        self._times: dict[int, int] = {}
        self._recent: dict[int, Columns] = {}

    @abstractmethod
    def _decode(self, number: int) -> Columns:
        """Return the columns x, y, p, t of a packet; p is -1 for events whose x or y is outside 0 to 65535.

        Raises:
            ValueError: the packet is damaged.
        """

    def _indexed_time(self, number: int) -> int | None:
        """Return the time of the first event of a packet if an index of the file contains it, otherwise None."""
        return None

    def _is_small(self) -> bool:
        return self.path.stat().st_size <= SMALL

    def _quick_first_t(self) -> int | None:
        numbers = range(self._num_packets)
        return next((int(t[0]) for t in map(self._sound_times, numbers) if t.size), None)

    def _quick_last_t(self) -> int | None:
        numbers = reversed(range(self._num_packets))
        return next((int(t[-1]) for t in map(self._sound_times, numbers) if t.size), None)

    def _quick_columns(self, t0: int | None, t1: int | None, buffer: ColumnBuffer) -> Columns:
        self._check_open()
        begin = 0 if t0 is None else max(self._first_at_least(t0) - 1, 0)
        columns, count, last = buffer.take(0), 0, -1
        for number in range(begin, self._num_packets):
            if t1 is not None and self._time(number) >= t1:
                break
            packet = self._sound_packet(number)
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
        found = bisect_left(range(self._num_packets), time, key=self._time)
        times = [self._time(number) for number in range(max(0, found - 2), min(found + 2, self._num_packets))]
        if times != sorted(times):
            raise DisorderError
        return found

    def _time(self, number: int) -> int:
        """Return the time of the first event of a packet; of an empty packet, that of the packet after it."""
        if number not in self._times:
            time = self._indexed_time(number)
            if time is None:
                t = self._sound_times(number)
                time = int(t[0]) if t.size else self._time(number + 1) if number + 1 < self._num_packets else NEVER
            self._times[number] = time
        return self._times[number]

    def _sound_times(self, number: int) -> np.ndarray:
        return self._sound_packet(number)[3]

    def _sound_packet(self, number: int) -> Columns:
        """Return the events of a packet, and keep them for later reads.

        Raises:
            DisorderError: an event of the packet is faulty.
        """
        self._check_open()
        if number not in self._recent:
            columns = self._decode(number)
            if has_suspects(columns, self.width, self.height):
                raise DisorderError
            while len(self._recent) >= RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[number] = columns
        return self._recent[number]

    def _raw_blocks(self, finder: FaultFinder) -> Iterator[RawBlock]:
        for number in range(self._num_packets):
            columns = self._raw_block(number)
            yield columns, has_suspects(columns, self.width, self.height)

    def _raw_block(self, number: int) -> Columns:
        self._check_open()
        return self._decode(number)

    def close(self) -> None:
        """Close the file. Arrays that were read remain valid."""
        super().close()
        self._recent.clear()
