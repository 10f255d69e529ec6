"""RAW recordings in EVT2.1: 64-bit words, each with up to 32 events in neighbouring pixels of a row.

One half of a word has the layout of an EVT2 word. The other half is a mask of the 32 pixels from column x on: a set bit
is an event. The order of the halves depends on the camera. With `endianness legacy` in the header, the half with the
type is first; with `endianness little`, it is last. Some headers contain neither.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from detector.events.arrays import Columns
from detector.events.kernels import decode_evt21
from detector.events.prophesee.raw import TIME_HIGH, WordReader

__all__ = ["Evt21Reader"]

HEAD_BITS = {"legacy": 0, "little": 32}
"""For each value of `endianness` in the header, the lowest bit of the half with the type."""

KNOWN_TYPES = 0b1100_0101_0000_0011
"""Set of the word types OFF, ON, TIME_HIGH, EXT_TRIGGER, OTHERS and CONTINUED, one bit per type."""

SAMPLE = 4096


class Evt21Reader(WordReader):
    """Reads EVT2.1 recordings. A word contains the x of the first of 32 pixels, and a mask of those with an event."""

    record = np.dtype("<i8")
    most_events = 32
    events: ClassVar[int] = 0b11
    payload_bits = 28
    low_bits = 6

    def __init__(self, path: Path, height: int | None = None, width: int | None = None) -> None:
        super().__init__(path, height, width)
        order = self._header.options().get("endianness", "").lower()
        if order not in {*HEAD_BITS, ""}:
            self.close()
            raise ValueError(f"{path}: endianness is {order}, allowed: {', '.join(HEAD_BITS)}")
        self._head_bit = HEAD_BITS[order or self._order()]
        self._type_bit = self._head_bit + self.payload_bits

    def _order(self) -> str:
        """Guess from the first words which half of a word contains the type, for headers without `endianness`.

        Returns:
            "legacy" for the lower half or "little" for the upper half: the order with fewer words of unknown types. If
            both numbers are equal, the order with more TIME_HIGH words.
        """
        sample = self._records(0, min(SAMPLE, self._num_records))

        def rank(order: str) -> tuple[int, int]:
            types = 1 << (sample >> HEAD_BITS[order] + self.payload_bits & 15)
            return int(np.count_nonzero(types & KNOWN_TYPES == 0)), -int(np.count_nonzero(types == TIME_HIGH))

        return min(HEAD_BITS, key=rank)

    def _fill(self, records: np.ndarray, state: np.ndarray, columns: Columns, count: int) -> int:
        return decode_evt21(records, state, *columns, count, self.width, self.height, self._head_bit)

    def _as_events(self, triggers: np.ndarray) -> np.ndarray:
        return triggers & (63 << 22 + self._head_bit) | 1 << 32 - self._head_bit
