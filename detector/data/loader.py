"""Load batches with worker processes, which write frames to shared memory and send only small objects."""

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

    Worker processes write the frames of each batch to one of a few buffers in shared memory. The buffers are allocated
    once and used in turn, so frames are not sent between processes. The frames in the buffers have the type of the
    files, such as uint8.

    Args:
        dataset: dataset of the batches.
        num_workers: number of worker processes; 0 reads in this process.
        keep_dtype: If False, `inputs` are float32 and already divided by the divisor of the dataset. If True, `inputs`
            keep the type of the files, and the batch has a key `divisor`. The caller then calls `scale_inputs`, for
            example on a GPU. If there is a GPU, these `inputs` are in pinned memory.
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
        """Yield the batches of an epoch: dicts with the keys that `SequenceDataset.__getitem__` describes.

        With `keep_dtype`, `inputs` keep the type of the files, and the batch also has a key `divisor`.

        Raises:
            ValueError: frames of a file cannot be read.
        """
        self._batches.allocate(shared=self.num_workers > 0)
        for packed in super().__iter__():
            if isinstance(packed, ValueError):
                raise packed
            yield self._unpack(*packed)

    def _unpack(self, step: int, packed: PackedBatch) -> dict[str, Any]:
        """Make a batch with a copy of the frames in the buffer of the step, because a later step overwrites them."""
        batch = self._batches.dataset.unpack(packed, self._batches.buffer(step))
        if not self._keep_dtype:
            return scale_inputs(batch, self._free_floats())
        inputs = batch["inputs"]
        return {**batch, "inputs": inputs.pin_memory() if torch.cuda.is_available() else inputs.clone()}

    def _free_floats(self) -> Tensor:
        """Return float32 memory for the inputs of a batch: a kept array that no batch uses any more, or a new array.

        Two arrays are kept, because the previous batch is still in use while the next batch is made.
        """
        for index in range(len(self._floats)):
            if sys.getrefcount(self._floats[index]) == UNUSED:  # tensors and views that are in use refer to the array
                return torch.from_numpy(self._floats[index])
        fresh = np.empty(self._batches.dataset.shape, np.float32)
        if len(self._floats) < KEPT:
            self._floats.append(fresh)
        return torch.from_numpy(fresh)


class _Batches(Dataset[tuple[int, PackedBatch] | ValueError]):
    """Dataset for worker processes. It writes frames to the buffer of a step and returns the other parts of a batch."""

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
        """Allocate the buffers at the first call. With `shared`, worker processes that start later share the memory."""
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
