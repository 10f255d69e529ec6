"""DAT recordings (`X_td.dat`): a text header, one byte each for event type and event size, then 8 bytes per event."""

from functools import cached_property
from pathlib import Path

import numpy as np

from detector.events.arrays import ColumnBuffer
from detector.events.faults import FaultFinder
from detector.events.headers.file_kinds import unreadable
from detector.events.kernels import DAT_PERIOD, LAST, decode_dat, new_state
from detector.events.prophesee.fixed_size import RecordReader
from detector.events.unwrap import WrappingClock
from detector.events.write import check_events, in_parts
from detector.utils.atomic_write import atomic_write

__all__ = ["DatReader", "write_dat"]

EVENT_SIZE = 8
EVENT_TYPES = (0, 12)
"""Numbers of the types Event2D (older files) and EventCD. Both types have the same layout."""

MAX_SIDE = 1 << 14

LOOK = 512
"""Number of records at each end of a file that are read to find the first and the last time."""


class DatReader(RecordReader):
    """Reads DAT recordings.

    An event consists of two little-endian u32 words. The first is t, which wraps after 71.6 minutes. The second
    contains x in bits 0 to 13, y in bits 14 to 27 and p in bit 28.
    """

    record = np.dtype("<i8")
    period = DAT_PERIOD
    decode = staticmethod(decode_dat)

    def _data_start(self) -> int:
        header = self._header
        with self.path.open("rb") as file:
            file.seek(header.size)
            kind = file.read(2)
        if len(kind) < 2 or kind[0] not in EVENT_TYPES or kind[1] != EVENT_SIZE:
            found = f"event type and size are {tuple(kind)}, allowed: type 0 or 12, size {EVENT_SIZE}"
            raise unreadable(self.path, f"not a DAT or RAW recording: {found}")
        if header.fields.get("version", "2") != "2":
            raise ValueError(f"{self.path}: DAT version {header.fields['version']}, allowed: 2")
        return header.size + 2

    @cached_property
    def _clock(self) -> WrappingClock:
        return WrappingClock(self._num_records, self._raw_at, DAT_PERIOD)

    def _raw_at(self, index: int) -> int:
        """Return the stored time of the record with this index, from 0 to below the period.

        If the time of this record does not fit between the two records next to it, and those are in order, return the
        time of the previous record.
        """
        places = range(max(0, index - 1), min(index + 2, self._num_records))
        times = [self._record_at(place) & DAT_PERIOD - 1 for place in places]
        if len(times) == 3 and times[0] <= times[2] and not times[0] <= times[1] <= times[2]:
            return times[0]
        return times[index - places[0]]

    def _quick_first_t(self) -> int | None:
        t = self._read(0, min(LOOK, self._num_records), ColumnBuffer())[3]
        return int(t[0]) if t.size else None

    def _quick_last_t(self) -> int | None:
        t = self._read(max(0, self._num_records - LOOK), self._num_records, ColumnBuffer())[3]
        return int(t[-1]) if t.size else None

    def _bounds(self, t0: int | None, t1: int | None) -> tuple[int, int]:
        start = 0 if t0 is None else self._clock.first_at_least(t0)
        return start, self._num_records if t1 is None else self._clock.first_at_least(t1)

    def _state(self, start: int, stop: int) -> np.ndarray:
        return new_state(self._clock.at(start) if start < stop else 0)

    def _resume(self, state: np.ndarray, finder: FaultFinder) -> None:
        if finder.kept:
            state[LAST] = finder.now


def write_dat(path: str | Path, events: np.ndarray, height: int, width: int) -> None:
    """Write a DAT recording. The file appears only when it is complete.

    Args:
        path: file to write; an existing file is replaced.
        events: (N,) array with the fields of `EventCD`, in order of time.
        height: sensor height in pixels, at most 16384.
        width: sensor width in pixels, at most 16384.

    Raises:
        ValueError: a field is missing, an event is outside the sensor, times fall, or a time or time difference is too
            large.
    """
    check_events(events, height, width, max_side=MAX_SIDE, period=DAT_PERIOD)
    header = f"% Data file containing CD events.\n% Version 2\n% Height {height}\n% Width {width}\n"
    with atomic_write(path) as part, part.open("wb") as file:
        file.write(header.encode() + bytes([EVENT_TYPES[-1], EVENT_SIZE]))
        for x, y, p, t in in_parts(events):
            words = np.empty((t.size, 2), "<u4")
            words[:, 0] = t % DAT_PERIOD
            words[:, 1] = x.astype(np.uint32) | y.astype(np.uint32) << 14 | p.astype(np.uint32) << 28
            words.tofile(file)
