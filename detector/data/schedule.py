"""Frames of each stream at each step of an epoch, computed only from the lengths of the files and the seed."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

__all__ = ["LaneStep", "eval_plan", "train_plan"]

ORDER, PHASE, REVERSAL = 1, 2, 4  # part of the seed; makes draws for different purposes independent


class LaneStep(NamedTuple):
    """Frames of a lane at one step. A lane is one of the parallel streams of a batch.

    Args:
        file: index of the file; None for empty, unlabelled frames
        start: index of the first of the T frames in the order of the file
        reset: whether a new stream starts
        segment: number of streams that this lane served before
        backwards: the frames are shown last to first, and later steps of the segment have earlier frames
    """

    file: int | None
    start: int
    reset: bool
    segment: int
    backwards: bool = False


def train_plan(
    lengths: Sequence[int], num_tbins: int, num_lanes: int, seed: int, epoch: int, *, reversal: float = 0.0
) -> list[list[LaneStep]]:
    """Schedule of a training epoch.

    Files are shuffled and cut into chunks of T frames at a random phase. The sequence of all chunks is split into equal
    contiguous lanes, so one long file can fill all lanes, and a file continues in the next lane if a lane ends in it.

    Args:
        lengths: frames of each file.
        num_tbins: frames of a step, T.
        num_lanes: streams over all ranks.
        seed: of order, phases and reversals.
        epoch: number of the epoch.
        reversal: share of the segments (the part of a file in one lane) that run backwards, each as a whole.

    Returns:
        list `num_lanes` of lists of steps, all of the same length, which is equal in every epoch.
    """
    order = np.random.default_rng([seed, ORDER, epoch]).permutation(len(lengths)).tolist()
    chunks = [
        (file, start)
        for file in order
        for start in _chunk_starts(lengths[file], num_tbins, np.random.default_rng([seed, PHASE, epoch, file]))
    ]
    bounds = [lane * len(chunks) // num_lanes for lane in range(num_lanes + 1)]
    lanes = _lanes([chunks[first:stop] for first, stop in pairwise(bounds)])
    if reversal:
        rng = np.random.default_rng([seed, REVERSAL, epoch])
        lanes = [list(_reversed_here_and_there(lane, rng, reversal)) for lane in lanes]
    return lanes


def _chunk_starts(length: int, num_tbins: int, rng: np.random.Generator) -> range:
    """First frames of the chunks of a file; their number does not depend on the phase and is at least one.

    If the phase would lose a chunk, the grid starts before frame 0 instead: the empty frames there are before the first
    event and do not change the state, and all epochs have the same length.
    """
    count, rest = divmod(length, num_tbins)
    if count == 0:
        return range(0, 1)
    first = int(rng.integers(rest - num_tbins + 1 if count > 1 else 0, rest + 1))
    return range(first, first + count * num_tbins, num_tbins)


def _reversed_here_and_there(lane: list[LaneStep], rng: np.random.Generator, share: float) -> Iterator[LaneStep]:
    for _, group in groupby(lane, key=lambda step: step.segment):
        steps = list(group)
        backwards = bool(rng.random() < share) and steps[0].file is not None
        starts = [step.start for step in steps]
        for step, start in zip(steps, reversed(starts) if backwards else starts, strict=True):
            yield step._replace(start=start, backwards=backwards)


def eval_plan(lengths: Sequence[int], num_tbins: int, num_lanes: int) -> list[list[LaneStep]]:
    """Schedule of an evaluation: every file is completely in one lane, from its first frame on.

    The longest file is assigned first, each to the lane with the fewest frames.

    Args:
        lengths: frames of each file.
        num_tbins: frames of a step, T.
        num_lanes: streams over all ranks.

    Returns:
        list `num_lanes` of equally long lists of steps.
    """
    lanes: list[list[tuple[int, int]]] = [[] for _ in range(num_lanes)]
    for file in sorted(range(len(lengths)), key=lambda file: -lengths[file]):
        min(lanes, key=len).extend((file, start) for start in range(0, lengths[file], num_tbins))
    return _lanes(lanes)


def _lanes(chunks: list[list[tuple[int, int]]]) -> list[list[LaneStep]]:
    """Convert lanes of (file, start) to steps, padded to the longest lane."""
    num_steps = max(map(len, chunks))
    lanes = []
    for lane_chunks in chunks:
        lane: list[LaneStep] = []
        for file, start in lane_chunks:
            reset = not lane or lane[-1].file != file
            lane.append(LaneStep(file, start, reset, lane[-1].segment + reset if lane else 0))
        padding = LaneStep(None, 0, True, lane[-1].segment + 1 if lane else 0)
        lanes.append(lane + [padding] * (num_steps - len(lane)))
    return lanes
