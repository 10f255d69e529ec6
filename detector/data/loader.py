"""Batches through loader processes: frames lie in memory that all of them share, only what is small is sent."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detector.data.dataset import PackedBatch, SequenceDataset, StepSampler, scale_inputs

__all__ = ["SequenceLoader"]

KEPT = 2
"""Float buffers that are used again."""

ONLY_A_LIST = [object()]
UNUSED = sys.getrefcount(ONLY_A_LIST[0])
"""References to what nothing but a list holds, the call's own included."""

PREFETCH = 2
"""Batches that each process works on ahead."""


class SequenceLoader(DataLoader):
    """The batches of an epoch, in order.

    Each process unpacks frames into one of a few buffers that are used in turn and never given back: no memory is
    mapped, cleared or handed over for a batch, and counts travel as the bytes they are in the files.

    Args:
        dataset: whose batches.
        num_workers: processes that read ahead; 0 for none.
        counts: leave `inputs` in the files' type, with `divisor` beside them, for `scale_inputs` on the device
            where they are used; in pinned memory where there is a GPU.
    """

    dataset: "_Batches"

    def __init__(self, dataset: SequenceDataset, num_workers: int, counts: bool = False) -> None:
        self._batches = _Batches(dataset, 1 + PREFETCH * num_workers)
        self._counts = counts
        self._floats: list[np.ndarray] = []
        super().__init__(
            self._batches,
            batch_size=None,
            sampler=StepSampler(dataset),
            collate_fn=_as_it_is,
            num_workers=num_workers,
            prefetch_factor=PREFETCH if num_workers else None,
            persistent_workers=num_workers > 0,
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the batches that `SequenceDataset.__getitem__` describes.

        Raises:
            ValueError: frames of a file cannot be read.
        """
        self._batches.allocate(shared=self.num_workers > 0)
        for packed in super().__iter__():
            if isinstance(packed, ValueError):
                raise packed
            yield self._unpack(*packed)

    def _unpack(self, step: int, packed: PackedBatch) -> dict[str, Any]:
        """A batch of its own: the buffer is another one's soon."""
        batch = self._batches.dataset.unpack(packed, self._batches.buffer(step))
        if not self._counts:
            return scale_inputs(batch, self._free_floats())
        inputs = batch["inputs"]
        return {**batch, "inputs": inputs.pin_memory() if torch.cuda.is_available() else inputs.clone()}

    def _free_floats(self) -> Tensor:
        """Memory for the inputs of a batch: that of an earlier one to which nothing refers any more, or fresh.

        Two are kept: while a batch is made, its user still has the one before.
        """
        for index in range(len(self._floats)):
            if sys.getrefcount(self._floats[index]) == UNUSED:  # tensors and their views refer to the array
                return torch.from_numpy(self._floats[index])
        fresh = np.empty(self._batches.dataset.shape, np.float32)
        if len(self._floats) < KEPT:
            self._floats.append(fresh)
        return torch.from_numpy(fresh)


class _Batches(Dataset[tuple[int, PackedBatch] | ValueError]):
    """What loader processes are asked for: frames in the buffer of their step, the rest as result."""

    def __init__(self, dataset: SequenceDataset, num_buffers: int) -> None:
        self.dataset = dataset
        self.num_buffers = num_buffers
        self._buffers: Tensor | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: tuple[int, int]) -> tuple[int, PackedBatch] | ValueError:
        """An error goes back as it is: raised here, it would arrive as a traceback."""
        _, step = index
        try:
            return step, self.dataset.pack(index, self.buffer(step).numpy())
        except ValueError as error:
            return error

    def allocate(self, shared: bool) -> None:
        """Make the buffers, before there are processes to share them with."""
        if self._buffers is None:
            buffers = torch.empty(self.num_buffers, *self.dataset.shape, dtype=getattr(torch, self.dataset.dtype.name))
            self._buffers = buffers.share_memory_() if shared else buffers

    def buffer(self, step: int) -> Tensor:
        """Where the frames of a step are, until the loader is asked for the step after it."""
        assert self._buffers is not None
        return self._buffers[step % self.num_buffers]


def _as_it_is(batch: Any) -> Any:
    """The default would turn tuples into lists."""
    return batch
