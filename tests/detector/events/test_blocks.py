from pathlib import Path

import numpy as np
import pytest
from event_samples import events_at

from detector.events.blocks import RECENT, BlockwiseReader
from detector.events.faults import DisorderError, FaultFinder


class Blocks(BlockwiseReader):
    """Blocks in memory; the numbers of the loaded ones are kept."""

    _is_small = _quick_columns = _quick_first_t = _quick_last_t = None

    def __init__(self, *blocks):
        super().__init__(Path("a"), 480, 640, len(blocks))
        self.blocks, self.loaded = blocks, []

    def _load_block(self, number, buffer):
        self.loaded.append(number)
        return tuple(self.blocks[number][name] for name in "xypt")


def blocks(*times):
    return Blocks(*(events_at(np.array(part)) for part in times))


def test_the_last_blocks_are_kept():
    reader = blocks(*([10 * number] for number in range(RECENT + 1)))
    for number in (*range(RECENT), 0, RECENT, 1, 0):
        assert reader._sound_block(number)[3].tolist() == [10 * number]
    assert reader.loaded == [*range(RECENT), RECENT, 0], "the oldest one gave way"
    assert reader._raw_block(2)[3].tolist() == [20] and len(reader.loaded) == RECENT + 2


def test_a_faulty_block_is_not_kept_but_yielded_with_a_mark():
    reader = blocks([5, 6], [8, 7])
    with pytest.raises(DisorderError):
        reader._sound_block(1)
    finder = FaultFinder("a", 640, 480, 0)
    assert [(columns[3].tolist(), suspect) for columns, suspect in reader._raw_blocks(finder)] == [
        ([5, 6], False),
        ([8, 7], True),
    ]
    assert reader.loaded == [1, 0, 1]


def test_a_closed_reader_forgets_its_blocks():
    reader = blocks([5])
    reader._sound_block(0)
    reader.close()
    for read in (reader._sound_block, reader._raw_block):
        with pytest.raises(ValueError, match="the reader is closed"):
            read(0)
