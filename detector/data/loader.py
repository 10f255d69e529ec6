"""Batches through loader processes: frames are stored in shared memory, and only small objects are sent."""

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
"""Number of float buffers that are reused."""

ONLY_A_LIST = [object()]
UNUSED = sys.getrefcount(ONLY_A_LIST[0])
"""Reference count of an object that only a list holds, including the reference of the call."""

PREFETCH = 2
"""Number of batches that each process prepares ahead."""


class SequenceLoader(DataLoader):
    """The batches of an epoch, in order.

    Each process unpacks frames into one of a few buffers that are reused in order: no memory is allocated or sent for a
    batch, and frames keep the type of the files until they are scaled.

    Args:
        dataset: dataset of the batches.
        num_workers: processes that read ahead; 0 reads in this process.
        counts: keep `inputs` in the type of the files, with their `divisor`, for `scale_inputs` on the device where
            they are used; in pinned memory if there is a GPU.
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
        """A batch that does not use the buffer, which later batches overwrite."""
        batch = self._batches.dataset.unpack(packed, self._batches.buffer(step))
        if not self._counts:
            return scale_inputs(batch, self._free_floats())
        inputs = batch["inputs"]
        return {**batch, "inputs": inputs.pin_memory() if torch.cuda.is_available() else inputs.clone()}

    def _free_floats(self) -> Tensor:
        """Memory for the inputs of a batch: that of an earlier batch without references, or a new array.

        Two arrays are kept, because the previous batch is still in use while a batch is made.
        """
        for index in range(len(self._floats)):
            if sys.getrefcount(self._floats[index]) == UNUSED:  # tensors and their views refer to the array
                return torch.from_numpy(self._floats[index])
        fresh = np.empty(self._batches.dataset.shape, np.float32)
        if len(self._floats) < KEPT:
            self._floats.append(fresh)
        return torch.from_numpy(fresh)


class _Batches(Dataset[tuple[int, PackedBatch] | ValueError]):
    """Batches for loader processes: frames are written to the buffer of their step, the rest is returned."""

    def __init__(self, dataset: SequenceDataset, num_buffers: int) -> None:
        self.dataset = dataset
        self.num_buffers = num_buffers
        self._buffers: Tensor | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: tuple[int, int]) -> tuple[int, PackedBatch] | ValueError:
        """Errors are returned: if raised here, they would arrive as text with a traceback."""
        _, step = index
        try:
            return step, self.dataset.pack(index, self.buffer(step).numpy())
        except ValueError as error:
            return error

    def allocate(self, shared: bool) -> None:
        """Allocate the buffers, before the processes that share them start."""
        if self._buffers is None:
            buffers = torch.empty(self.num_buffers, *self.dataset.shape, dtype=getattr(torch, self.dataset.dtype.name))
            self._buffers = buffers.share_memory_() if shared else buffers

    def buffer(self, step: int) -> Tensor:
        """Buffer with the frames of a step, valid until the next step is requested."""
        assert self._buffers is not None
        return self._buffers[step % self.num_buffers]


def _as_it_is(batch: Any) -> Any:
    """Return the batch unchanged; the default would convert tuples to lists."""
    return batch
