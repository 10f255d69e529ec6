"""Load batches of T consecutive frames. Each row of a batch reads its own sequence of tensor files.

The frames in batch (epoch, step) depend only on the lengths of the files and the seed, not on the batches that were
read before. So any number of loader processes gives the same batches. Every rank has the same number of batches.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from detector.data.augment import Augmentation, draw_augmentation
from detector.data.schedule import RowStep, eval_plan, train_plan
from detector.data.sequence_file import FileCache, OpenFile, SequenceFile, VideoInfo
from detector.data.targets import TargetLoader
from detector.preprocess.representation import Representation
from detector.utils.compiled import compiled

__all__ = ["PackedBatch", "SequenceDataset", "StepSampler", "scale_inputs"]

AUGMENT = 3  # part of the seed, so that augmentation and schedule draw independently


class PackedBatch(NamedTuple):
    """A batch without its frames, which a worker process can send in a few bytes.

    Args:
        steps: for each of the B batch rows, the file and the frames that it reads
        boxes: (M, 5) x1, y1, x2, y2, class: boxes of all T frames of the first batch row, then of the second, and so on
        counts: B * T numbers of boxes per frame, in the order of `boxes`
        labeled: (B, T) bool, whether each frame is labelled
    """

    steps: list[RowStep]
    boxes: np.ndarray
    counts: list[int]
    labeled: np.ndarray


class SequenceDataset(Dataset[dict[str, Any]]):
    """Dataset of the batches of one rank, indexed by (epoch, step).

    Args:
        files: tensor files of one split, all with the same number of channels and the same frame size.
        targets: converts labels to targets; `targets.num_tbins` is the number T of frames per step.
        batch_size: number of batch rows per rank. In an evaluation, it is limited to the number of files per rank.
        train: True for the schedule of a training (`train_plan`), False for that of an evaluation (`eval_plan`).
        augment: representation of the frames, which augmentation and time reversal need. None disables both.
        reversal: probability that a training segment is shown backwards in time. A segment is the part of a file that
            one batch row reads.
        seed: seed of file order, start positions and augmentation.
        rank: index of this process.
        world_size: number of processes.

    Attributes:
        shape: (T, B, C, H, W), the shape of the frames of a batch.
        dtype: type of the frames that `pack` writes: the type in the files, or float32 if files differ in type or
            divisor.
        divisor: number by which the frames that `pack` writes must be divided; 1 if files differ in type or divisor.
    """

    def __init__(
        self,
        files: Sequence[SequenceFile],
        targets: TargetLoader,
        batch_size: int,
        *,
        train: bool,
        augment: Representation | None = None,
        reversal: float = 0.0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.files = list(files)
        self.targets = targets
        self.batch_size = batch_size if train else min(batch_size, -(-len(files) // world_size))
        self.train = train
        self.augment = augment
        self.reversal = reversal if augment is not None and augment.reversible else 0.0
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        first = files[0]
        self.shape = (targets.num_tbins, self.batch_size, first.channels, first.height, first.width)
        alike = {(file.dtype, file.divisor) for file in files} == {(first.dtype, first.divisor)}
        self.dtype: np.dtype = np.dtype(first.dtype if alike else "float32")
        self.divisor = first.divisor if alike else 1.0
        self._cache = FileCache(self.batch_size)  # each batch row reads one file at a time
        self._planned: tuple[int, list[list[RowStep]]] | None = None

    def row_steps(self, epoch: int) -> list[list[RowStep]]:
        """Return the list of steps of each batch row of this rank in an epoch."""
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self._plan(epoch)
        return self._planned[1]

    def _plan(self, epoch: int) -> list[list[RowStep]]:
        lengths, num_tbins = [file.num_frames for file in self.files], self.targets.num_tbins
        num_rows = self.batch_size * self.world_size
        if self.train:
            plan = train_plan(lengths, num_tbins, num_rows, self.seed, epoch, reversal=self.reversal)
        else:
            plan = eval_plan(lengths, num_tbins, num_rows)
        return plan[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]

    def __len__(self) -> int:
        """Number of steps per epoch, the same on every rank and in every epoch."""
        return len(self.row_steps(0)[0])

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Any]:
        """Read the batch of (epoch, step).

        Returns:
            Dict with these keys:

            inputs: (T, B, C, H, W) float32.
            labels: T lists of B tensors (M, 5) float32, with x1, y1, x2, y2 in network pixels and class 1..K.
            mask_keep_memory: (B,) float32, 0 if a new stream starts in this batch row, else 1.
            frame_is_labeled: (T, B) bool, whether each frame is labelled.
            video_infos: list of B pairs: the `VideoInfo` of the file (None if the batch row has no file left), and the
            index in the file of the earliest of the T frames.

        Raises:
            ValueError: frames of a file cannot be read.
        """
        frames = np.empty(self.shape, self.dtype)
        return scale_inputs(self.unpack(self.pack(index, frames), torch.from_numpy(frames)))

    def pack(self, index: tuple[int, int], frames: np.ndarray) -> PackedBatch:
        """Write the frames of batch (epoch, step) to `frames`, and return all other parts of the batch.

        Args:
            index: epoch and step.
            frames: array of `shape` and `dtype`, overwritten.
        """
        epoch, number = index
        steps = [row[number] for row in self.row_steps(epoch)]
        first_row = self.rank * self.batch_size
        served = [self._serve(step, frames[:, b], epoch, first_row + b) for b, step in enumerate(steps)]
        boxes, counts, labeled = zip(*served, strict=True)
        return PackedBatch(steps, np.concatenate(boxes), sum(counts, []), np.stack(labeled))

    def unpack(self, packed: PackedBatch, frames: Tensor) -> dict[str, Any]:
        """Make the batch from the result of `pack` and the frames that `pack` wrote.

        The batch differs from that of `__getitem__` in two keys: `inputs` are the frames with their stored values, and
        `divisor` is the number by which they must be divided.
        """
        boxes, num_tbins = torch.from_numpy(packed.boxes).split(packed.counts), len(frames)
        return {
            "inputs": frames,
            "divisor": self.divisor,
            "labels": [list(boxes[t::num_tbins]) for t in range(num_tbins)],
            "mask_keep_memory": torch.tensor([0.0 if step.reset else 1.0 for step in packed.steps]),
            "frame_is_labeled": torch.from_numpy(packed.labeled).T.contiguous(),
            "video_infos": [(self._info(step), step.start) for step in packed.steps],
        }

    def _info(self, step: RowStep) -> VideoInfo | None:
        return None if step.file is None else self._cache[self.files[step.file]].info

    def _serve(self, step: RowStep, out: np.ndarray, epoch: int, row: int) -> tuple[np.ndarray, list[int], np.ndarray]:
        """Read and augment the frames of one batch row at a step. Write them to `out` (T, C, H, W).

        Return their targets: (M, 5) boxes, numbers of boxes per frame, and (T,) bool whether each frame is labelled.
        `row` is the index of the batch row over all ranks.
        """
        if step.file is None:
            out[:] = 0
            return np.zeros((0, 5), np.float32), [0] * len(out), np.zeros(len(out), bool)
        file = self.files[step.file]
        source = self._cache[file]
        augmentation = None
        if self.augment is not None:
            rng = np.random.default_rng([self.seed, AUGMENT, epoch, row, step.segment])
            augmentation = draw_augmentation(rng, file.height, file.width)
        if file.dtype == self.dtype:
            self._show(source, step, augmentation, out)
        else:
            frames = np.empty(out.shape, file.dtype)
            self._show(source, step, augmentation, frames)
            np.divide(frames, np.float32(file.divisor), out=out)
        return source.target_table(self.targets, step.start, augmentation, step.backwards)

    def _show(self, source: OpenFile, step: RowStep, augmentation: Augmentation | None, out: np.ndarray) -> None:
        """Read the frames of a step, augment them, and write them to `out`, in the type of the file."""
        if augmentation is None or self.augment is None:
            source.reader.read(step.start, out)
            return
        frame = np.empty((1, *out.shape[1:]), out.dtype)
        for t in range(len(out)):
            number = step.start + (len(out) - 1 - t if step.backwards else t)
            source.reader.read(number, frame)
            augmentation.frame(frame[0], out[t], number, self.augment, step.backwards)


def scale_inputs(batch: dict[str, Any], out: Tensor | None = None) -> dict[str, Any]:
    """Convert the `inputs` of a batch to float32 and divide them by the `divisor` of the batch, on their device.

    Args:
        batch: the batch; if it has no key `divisor`, it is returned unchanged.
        out: float32 memory for the result; allocated if None.

    Returns:
        A batch with the scaled `inputs` and without `divisor`.
    """
    if "divisor" not in batch:
        return batch
    values, divisor = batch["inputs"], batch["divisor"]
    inputs = torch.empty(values.shape, device=values.device) if out is None else out
    if values.dtype in (torch.uint8, torch.int8) and values.is_cpu:
        _divide(values.view(-1).numpy(), np.float32(divisor), inputs.view(-1).numpy())
    else:
        inputs.copy_(values)
        if divisor != 1:
            inputs /= divisor
    return {**{key: value for key, value in batch.items() if key != "divisor"}, "inputs": inputs}


@compiled
def _divide(values: np.ndarray, divisor: np.float32, out: np.ndarray) -> None:
    for i in range(values.size):
        out[i] = np.float32(values[i]) / divisor


class StepSampler(DistributedSampler):
    """Sampler of the (epoch, step) pairs of an epoch, in order.

    The dataset contains only the batches of its rank, so the sampler does not divide them among ranks. The class is a
    `DistributedSampler` because Lightning calls `set_epoch` on such samplers and would replace any other sampler.

    Args:
        dataset: dataset of the batches of this rank.
    """

    def __init__(self, dataset: SequenceDataset) -> None:
        super().__init__(dataset, num_replicas=1, rank=0, shuffle=False)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (epoch, 0), (epoch, 1) and so on, with the epoch that was last passed to `set_epoch`."""
        return iter([(self.epoch, step) for step in range(len(self))])
