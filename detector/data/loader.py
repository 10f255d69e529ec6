"""Load batches with worker processes. Frames are in shared memory, and only small objects are sent."""

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
"""Number of float32 arrays that are kept and reused."""

ONLY_A_LIST = [object()]
UNUSED = sys.getrefcount(ONLY_A_LIST[0])
"""Result of `sys.getrefcount` for an object to which only one list refers."""

PREFETCH = 2
"""Number of batches that each worker process prepares ahead."""


class SequenceLoader(DataLoader):
    """Loader of the batches of an epoch, in order.

    Worker processes unpack frames into a few shared buffers, which are reused in a fixed order. So memory is neither
    allocated nor sent for a batch, and frames keep the type of the files until they are scaled.

    Args:
        dataset: dataset of the batches.
        num_workers: number of worker processes; 0 reads in this process.
        keep_dtype: whether to keep `inputs` in the type of the files and to add their `divisor`, so that `scale_inputs`
            can scale them on the device where they are used. If there is a GPU, such `inputs` are in pinned memory.
    """

    dataset: "_Batches"

    def __init__(self, dataset: SequenceDataset, num_workers: int, keep_dtype: bool = False) -> None:
        self._batches = _Batches(dataset, 1 + PREFETCH * num_workers)
        self._keep_dtype = keep_dtype
        self._floats: list[np.ndarray] = []
        super().__init__(
            self._batches,
            batch_size=None,
            sampler=StepSampler(dataset),
            collate_fn=_as_it_is,
            num_workers=num_workers,
            prefetch_factor=PREFETCH if num_workers else None,
            persistent_workers=num_workers > 0,
            generator=torch.Generator(),  # without it, each epoch would draw from the global generator
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the batches of an epoch in the form of `SequenceDataset.__getitem__`.

        With `keep_dtype`, `inputs` are not scaled, and the batch has a key `divisor`.

        Raises:
            ValueError: frames of a file cannot be read.
        """
        self._batches.allocate(shared=self.num_workers > 0)
        for packed in super().__iter__():
            if isinstance(packed, ValueError):
                raise packed
            yield self._unpack(*packed)

    def _unpack(self, step: int, packed: PackedBatch) -> dict[str, Any]:
        """Make a batch that shares no memory with the buffer of the step, because later steps overwrite the buffer."""
        batch = self._batches.dataset.unpack(packed, self._batches.buffer(step))
        if not self._keep_dtype:
            return scale_inputs(batch, self._free_floats())
        inputs = batch["inputs"]
        return {**batch, "inputs": inputs.pin_memory() if torch.cuda.is_available() else inputs.clone()}

    def _free_floats(self) -> Tensor:
        """Return memory for the inputs of a batch: a kept array that no earlier batch uses any more, or a new array.

        Two arrays are kept, because the previous batch is still in use while a batch is made.
        """
        for index in range(len(self._floats)):
            if sys.getrefcount(self._floats[index]) == UNUSED:  # tensors and views that are in use refer to the array
                return torch.from_numpy(self._floats[index])
        fresh = np.empty(self._batches.dataset.shape, np.float32)
        if len(self._floats) < KEPT:
            self._floats.append(fresh)
        return torch.from_numpy(fresh)


class _Batches(Dataset[tuple[int, PackedBatch] | ValueError]):
    """Dataset for worker processes, which writes frames to the buffer of a step and returns the rest of the batch."""

    def __init__(self, dataset: SequenceDataset, num_buffers: int) -> None:
        self.dataset = dataset
        self.num_buffers = num_buffers
        self._buffers: Tensor | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: tuple[int, int]) -> tuple[int, PackedBatch] | ValueError:
        """Return the step and its packed batch, or an error if frames of a file cannot be read.

        The error is returned and not raised: a raised error would arrive in the main process as text with a traceback.
        """
        _, step = index
        try:
            return step, self.dataset.pack(index, self.buffer(step).numpy())
        except ValueError as error:
            return error

    def allocate(self, shared: bool) -> None:
        """Allocate the buffers. If `shared`, this must happen before the worker processes start."""
        if self._buffers is None:
            buffers = torch.empty(self.num_buffers, *self.dataset.shape, dtype=getattr(torch, self.dataset.dtype.name))
            self._buffers = buffers.share_memory_() if shared else buffers

    def buffer(self, step: int) -> Tensor:
        """Return the buffer for the frames of a step. Its content is valid until the next step is requested."""
        assert self._buffers is not None
        return self._buffers[step % self.num_buffers]


def _as_it_is(batch: Any) -> Any:
    """Return the batch unchanged. The default `collate_fn` would convert tuples to lists."""
    return batch
