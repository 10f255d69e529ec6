"""Schedule of an epoch: the frames that each batch row reads at each step.

The schedule depends only on the lengths of the files and the seed.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

__all__ = ["RowStep", "eval_plan", "train_plan"]

ORDER, PHASE, REVERSAL = 1, 2, 4  # parts of seeds, so that draws for different purposes are independent


class RowStep(NamedTuple):
    """The T frames that one batch row reads at one step.

    Args:
        file: index of the file; None for empty, unlabelled frames
        start: index of the first of the T frames in the order of the file
        reset: whether a new stream starts, at which the recurrent state is reset
        segment: number of streams that this batch row has read before in this epoch
        backwards: whether the frames are shown last to first; later steps of the segment then contain earlier frames
    """

    file: int | None
    start: int
    reset: bool
    segment: int
    backwards: bool = False


def train_plan(
    lengths: Sequence[int], num_tbins: int, num_rows: int, seed: int, epoch: int, *, reversal: float = 0.0
) -> list[list[RowStep]]:
    """Compute the schedule of a training epoch.

    Files are shuffled. Each file is divided into chunks of T frames, from a random first frame on. The sequence of all
    chunks is divided into contiguous parts of equal length, one for each batch row. So one long file can fill all batch
    rows. A file that is not finished in one batch row continues in the next batch row.

    Args:
        lengths: number of frames of each file.
        num_tbins: number T of frames per step.
        num_rows: number of batch rows over all ranks.
        seed: seed of file order, first frames and reversals.
        epoch: number of the epoch.
        reversal: share of the segments that run backwards. A segment is the part of a file in one batch row, and is
            reversed as a whole.

    Returns:
        For each batch row, the list of its steps. All lists have the same length, which is also the same in every
        epoch.
    """
    order = np.random.default_rng([seed, ORDER, epoch]).permutation(len(lengths)).tolist()
    chunks = [
        (file, start)
        for file in order
        for start in _chunk_starts(lengths[file], num_tbins, np.random.default_rng([seed, PHASE, epoch, file]))
    ]
    bounds = [row * len(chunks) // num_rows for row in range(num_rows + 1)]
    rows = _to_steps([chunks[first:stop] for first, stop in pairwise(bounds)])
    if reversal:
        rng = np.random.default_rng([seed, REVERSAL, epoch])
        rows = [list(_reversed_here_and_there(row, rng, reversal)) for row in rows]
    return rows


def _chunk_starts(length: int, num_tbins: int, rng: np.random.Generator) -> range:
    """Return the index of the first frame of each chunk of a file, for a random start of the first chunk.

    The number of chunks is at least one and does not depend on the random start, so all epochs have the same length. If
    the start would leave too few frames for the last chunk, the first chunk starts before frame 0 instead. Frames
    before frame 0 are empty and do not change the recurrent state.
    """
    count, rest = divmod(length, num_tbins)
    if count == 0:
        return range(0, 1)
    first = int(rng.integers(rest - num_tbins + 1 if count > 1 else 0, rest + 1))
    return range(first, first + count * num_tbins, num_tbins)


def _reversed_here_and_there(row: list[RowStep], rng: np.random.Generator, share: float) -> Iterator[RowStep]:
    for _, group in groupby(row, key=lambda step: step.segment):
        steps = list(group)
        backwards = bool(rng.random() < share) and steps[0].file is not None
        starts = [step.start for step in steps]
        for step, start in zip(steps, reversed(starts) if backwards else starts, strict=True):
            yield step._replace(start=start, backwards=backwards)


def eval_plan(lengths: Sequence[int], num_tbins: int, num_rows: int) -> list[list[RowStep]]:
    """Compute the schedule of an evaluation, in which one batch row reads all of a file, from its first frame on.

    The files are assigned from the longest to the shortest, each to the batch row with the fewest steps so far.

    Args:
        lengths: number of frames of each file.
        num_tbins: number T of frames per step.
        num_rows: number of batch rows over all ranks.

    Returns:
        For each batch row, the list of its steps. All lists have the same length.
    """
    rows: list[list[tuple[int, int]]] = [[] for _ in range(num_rows)]
    for file in sorted(range(len(lengths)), key=lambda file: -lengths[file]):
        min(rows, key=len).extend((file, start) for start in range(0, lengths[file], num_tbins))
    return _to_steps(rows)


def _to_steps(chunks: list[list[tuple[int, int]]]) -> list[list[RowStep]]:
    """Convert the (file, start) pairs of each batch row to steps, and pad all batch rows to the same length."""
    num_steps = max(map(len, chunks))
    rows = []
    for row_chunks in chunks:
        row: list[RowStep] = []
        for file, start in row_chunks:
            reset = not row or row[-1].file != file
            row.append(RowStep(file, start, reset, row[-1].segment + reset if row else 0))
        padding = RowStep(None, 0, True, row[-1].segment + 1 if row else 0)
        rows.append(row + [padding] * (num_steps - len(row)))
    return rows
