"""RAW recordings in EVT2: 32-bit words, each with at most one event."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from detector.events.arrays import Columns
from detector.events.kernels import EVT2_PERIOD, decode_evt2
from detector.events.prophesee.raw import WordReader
from detector.events.write import check_events, in_parts, raw_header
from detector.utils.atomic_write import atomic_write

__all__ = ["Evt2Reader", "write_evt2"]

LOW_BITS = 6
MAX_SIDE = 1 << 11
TIME_HIGH_TYPE = 0x8 << 28


class Evt2Reader(WordReader):
    """Reads EVT2 recordings.

    A word with an event contains the lower 6 bits of t, 11 bits of x and 11 bits of y. A TIME_HIGH word contains the
    upper 28 bits of t, which wraps after 4.77 hours.
    """

    record = np.dtype("<u4")
    events: ClassVar[int] = 0b11
    payload_bits = 28
    low_bits = LOW_BITS
    _type_bit = 28
    decode = staticmethod(decode_evt2)

    def _as_events(self, triggers: np.ndarray) -> np.ndarray:
        return triggers & (63 << 22)


def write_evt2(path: str | Path, events: np.ndarray, height: int, width: int) -> None:
    """Write a RAW recording in EVT2. The file appears only when it is complete.

    Args:
        path: file to write; an existing file is replaced.
        events: (N,) array with the fields of `EventCD`, in order of time.
        height: sensor height in pixels, at most 2048.
        width: sensor width in pixels, at most 2048.

    Raises:
        ValueError: a field is missing, an event is outside the sensor, times fall, or a time or time difference is too
            large.
    """
    check_events(events, height, width, max_side=MAX_SIDE, period=EVT2_PERIOD)
    last = -1
    with atomic_write(path) as part, part.open("wb") as file:
        file.write(raw_header("EVT2", "2.0", height, width))
        for columns in in_parts(events):
            _encode(columns, last).tofile(file)
            last = int(columns[3][-1]) >> LOW_BITS


def _encode(columns: Columns, last: int) -> np.ndarray:
    """Encode events as words, with a TIME_HIGH word before each event whose upper time bits have changed.

    Args:
        columns: the events.
        last: upper time bits of the event before the first one, or -1 at the start of the recording.
    """
    x, y, p, t = columns
    high = t >> LOW_BITS
    new = np.diff(high, prepend=last) != 0
    places = np.arange(t.size) + np.cumsum(new)
    words = np.empty(t.size + np.count_nonzero(new), "<u4")
    low = (t & (1 << LOW_BITS) - 1).astype(np.uint32)
    words[places] = p.astype(np.uint32) << 28 | low << 22 | x.astype(np.uint32) << 11 | y
    words[places[new] - 1] = high[new] % (EVT2_PERIOD >> LOW_BITS) | TIME_HIGH_TYPE
    return words
