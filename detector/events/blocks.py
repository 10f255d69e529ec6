"""Base class of readers that load a recording in blocks, and keep the blocks that were used last."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

from detector.events.arrays import ColumnBuffer, Columns
from detector.events.faults import DisorderError, FaultFinder, RawBlock, has_suspects
from detector.events.reader import EventReader

__all__ = ["RECENT", "BlockwiseReader"]

RECENT = 4
"""Number of loaded blocks that are kept, because neighbouring windows often need the same block."""


class BlockwiseReader(EventReader):
    """Base class of readers that load one block at a time.

    Args:
        path: path of the recording.
        height: sensor height in pixels.
        width: sensor width in pixels.
        num_blocks: number of blocks.
    """

    def __init__(self, path: Path, height: int, width: int, num_blocks: int) -> None:
        super().__init__(path, height, width)
        self._num_blocks = num_blocks
        self._recent: dict[int, Columns] = {}
        self._memory = ColumnBuffer()

    @abstractmethod
    def _load_block(self, number: int, buffer: ColumnBuffer) -> Columns:
        """Return the events of a block as they are stored, in `buffer` or in new arrays.

        p is 0 for OFF events, 1 for ON events, and -1 for events whose x or y is outside 0 to 65535.
        """

    def _raw_blocks(self, finder: FaultFinder) -> Iterator[RawBlock]:
        for number in range(self._num_blocks):
            columns = self._raw_block(number)
            yield columns, has_suspects(columns, self.width, self.height)

    def _raw_block(self, number: int) -> Columns:
        self._check_open()
        return self._recent[number] if number in self._recent else self._load_block(number, self._memory)

    def _sound_block(self, number: int) -> Columns:
        """Return the events of a block, and keep them for later reads.

        Raises:
            DisorderError: an event of the block is faulty.
        """
        self._check_open()
        if number not in self._recent:
            columns = self._load_block(number, ColumnBuffer())
            if has_suspects(columns, self.width, self.height):
                raise DisorderError
            while len(self._recent) >= RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[number] = columns
        return self._recent[number]

    def close(self) -> None:
        """Close the file. Arrays that were read remain valid."""
        super().close()
        self._recent.clear()
