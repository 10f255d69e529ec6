"""DAT recordings (`X_td.dat`): text lines, event type and size, then 8 bytes an event."""

from functools import cached_property
from pathlib import Path

import numpy as np

from detector.events.clock import WrappingClock, unwrap
from detector.events.header import Header
from detector.events.reader import CHUNK, Columns, EventReader
from detector.events.writing import check_events, whole_file

__all__ = ["DatReader", "write_dat"]

PERIOD = 1 << 32
"""Microseconds (71.6 minutes) after which the stored time starts anew."""

EVENT_SIZE = 8
EVENT_TYPES = (0, 12)
"""Event2D of older files and EventCD: the same layout."""

MAX_SIDE = 1 << 14


class DatReader(EventReader):
    """Reads DAT: little-endian u32 t, then u32 with x in bits 0-13, y in 14-27, p in 28."""

    record_bytes = EVENT_SIZE

    def _data_start(self, header: Header) -> int:
        with self.path.open("rb") as file:
            file.seek(header.size)
            kind = file.read(2)
        if len(kind) < 2 or kind[0] not in EVENT_TYPES or kind[1] != EVENT_SIZE:
            raise ValueError(
                f"{self.path}: not a DAT or RAW recording: event type and size are {tuple(kind)}, "
                f"allowed: type 0 or 12, size {EVENT_SIZE}"
            )
        if header.fields.get("version", "2") != "2":
            raise ValueError(f"{self.path}: DAT version {header.fields['version']}, allowed: 2")
        return header.size + 2

    @cached_property
    def _clock(self) -> WrappingClock:
        return WrappingClock(self._num_records, lambda index: int(self._words(index, index + 1)[0]), PERIOD, self.path)

    @property
    def first_t(self) -> int | None:
        """Time of the first event, None if the recording has none."""
        return self._clock.at(0) if self._num_records else None

    @property
    def last_t(self) -> int | None:
        """Time of the last event, None if the recording has none."""
        return self._clock.at(self._num_records - 1) if self._num_records else None

    def read_columns(self, t0: int | None = None, t1: int | None = None) -> Columns:
        """Events of [t0, t1) as x, y, p, t; see `EventReader.read_columns`."""
        first = 0 if t0 is None else self._clock.first_at_least(t0)
        stop = self._num_records if t1 is None else self._clock.first_at_least(t1)
        count = max(0, stop - first)
        x, y = np.empty(count, np.uint16), np.empty(count, np.uint16)
        p, t = np.empty(count, np.int8), np.empty(count, np.int64)
        previous = self._clock.at(first) if count else 0
        for start in range(0, count, CHUNK):
            part = slice(start, min(start + CHUNK, count))
            words = self._words(first + part.start, first + part.stop)
            t[part] = unwrap(words[0::2].copy(), previous, PERIOD, self.path)
            previous = int(t[part.stop - 1])
            _unpack(words[1::2].copy(), x[part], y[part], p[part])
            self._check_pixels(x[part], y[part])
        return x, y, p, t


def write_dat(path: str | Path, events: np.ndarray, height: int, width: int) -> None:
    """Write a DAT recording; the file appears only when it is whole.

    Args:
        path: file to write, replaced if it is there.
        events: (N,) `EventCD` in order of time.
        height: sensor height in pixels, at most 16384.
        width: sensor width in pixels, at most 16384.

    Raises:
        ValueError: an event lies outside the sensor, or times cannot be held (see `check_events`).
    """
    check_events(events, height, width, max_side=MAX_SIDE, period=PERIOD)
    words = np.empty((events.size, 2), "<u4")
    words[:, 0] = events["t"] % PERIOD
    words[:, 1] = events["x"] | events["y"].astype(np.uint32) << 14 | events["p"].astype(np.uint32) << 28
    header = f"% Data file containing CD events.\n% Version 2\n% Height {height}\n% Width {width}\n"
    with whole_file(path) as part, part.open("wb") as file:
        file.write(header.encode() + bytes([EVENT_TYPES[-1], EVENT_SIZE]))
        words.tofile(file)


def _unpack(packed: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> None:
    """Fill x, y, p from packed words, which are used up; casts cut the upper bits off before the masks do."""
    x[:] = packed
    x &= 0x3FFF
    packed >>= 14
    y[:] = packed
    y &= 0x3FFF
    packed >>= 14
    p[:] = packed
    p &= 1
