"""Schedule of an epoch: the frames that each batch row reads at each step.

The schedule depends only on the lengths of the files, the seed and the epoch.
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
        file: index of the file; None if the batch row has no file left and gets empty, unlabelled frames
        start: index in the file of the earliest of the T frames; below 0 if the step starts before the file
        reset: whether the step begins a segment, so that the recurrent state must be reset before it
        segment: index of the segment in this batch row. A segment is the part of a file that one batch row reads
        backwards: whether the segment is shown backwards in time: the frames of a step, and the steps, are reversed
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

    Files are shuffled, and each file is divided into chunks of T frames, from a random first frame on. The chunks of
    all files form one sequence, which is divided into contiguous parts of equal length, one for each batch row. So a
    file that is not finished in one batch row continues in the next batch row, and a long file can fill all batch rows.

    Args:
        lengths: number of frames of each file.
        num_tbins: number T of frames per step.
        num_rows: number of batch rows over all ranks.
        seed: seed of file order, first frames and reversals.
        epoch: number of the epoch.
        reversal: probability that a segment is shown backwards in time. A segment is the part of a file that one batch
            row reads.

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

    There are `length` // T chunks, but at least one. This number does not depend on the random start, so all epochs
    have the same length. The first chunk can start before frame 0, if there are several chunks. Frames before frame 0
    are empty and do not change the recurrent state.
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
    """Compute the schedule of an evaluation. Each file is read completely and in order, by one batch row.

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
