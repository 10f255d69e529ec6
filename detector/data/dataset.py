"""Batches of T frames from parallel streams of tensor files.

There is no reading position: batch (epoch, step) depends only on the lengths of the files and the seed. Any number of
loader processes gives the same batches, and every rank has the same number of batches.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from detector.data.augment import Augmentation, draw_augmentation
from detector.data.schedule import LaneStep, eval_plan, train_plan
from detector.data.sequence_file import FileCache, OpenFile, SequenceFile, VideoInfo
from detector.data.targets import TargetLoader
from detector.preprocess.representation import Representation
from detector.utils.compiled import compiled

__all__ = ["PackedBatch", "SequenceDataset", "StepSampler", "scale_inputs"]

AUGMENT = 3  # part of the seed; makes its draws independent of those of the schedule


class PackedBatch(NamedTuple):
    """A batch without its frames, in few bytes.

    Args:
        steps: (B,) step of each stream
        boxes: (M, 5) boxes of all frames of the first stream, then of the next
        counts: (B * T,) number of boxes of each frame
        labeled: (B, T) whether each frame is labelled
    """

    steps: list[LaneStep]
    boxes: np.ndarray
    counts: list[int]
    labeled: np.ndarray


class SequenceDataset(Dataset[dict[str, Any]]):
    """Batches of one rank, indexed by (epoch, step).

    Args:
        files: files of one split, all with the same channels and size.
        targets: converts labels to targets; its `num_tbins` is T.
        batch_size: number of streams of a rank; an evaluation uses no more than there are files.
        train: schedule by `train_plan`, otherwise by `eval_plan`.
        augment: representation of the frames, for augmentation and reversal of time; None for neither.
        reversal: share of the training segments that run backwards in time.
        seed: seed of order, phases and augmentation.
        rank: number of this process.
        world_size: number of processes.

    Attributes:
        shape: T, B, C, H, W.
        dtype: type of the frames that `pack` writes: that of the files, float32 if they differ.
        divisor: divisor that scales these frames.
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
        self._cache = FileCache(self.batch_size)  # a lane reads one file at a time
        self._planned: tuple[int, list[list[LaneStep]]] | None = None

    def lanes(self, epoch: int) -> list[list[LaneStep]]:
        """Steps of the streams of this rank in an epoch."""
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self._plan(epoch)
        return self._planned[1]

    def _plan(self, epoch: int) -> list[list[LaneStep]]:
        lengths, num_tbins = [file.num_frames for file in self.files], self.targets.num_tbins
        num_lanes = self.batch_size * self.world_size
        if self.train:
            plan = train_plan(lengths, num_tbins, num_lanes, self.seed, epoch, reversal=self.reversal)
        else:
            plan = eval_plan(lengths, num_tbins, num_lanes)
        return plan[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]

    def __len__(self) -> int:
        """Number of steps of an epoch, the same on every rank and in every epoch."""
        return len(self.lanes(0)[0])

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Any]:
        """The batch of (epoch, step).

        Returns:
            inputs: (T, B, C, H, W) float32.
            labels: list T of list B of (M, 5) float32 x1, y1, x2, y2, class 1..K in network pixels.
            mask_keep_memory: (B,) float32, 0 if a new stream starts, else 1.
            frame_is_labeled: (T, B) bool.
            video_infos: list B of (VideoInfo or None, index of the first frame in the order of the file).

        Raises:
            ValueError: frames of a file cannot be read.
        """
        frames = np.empty(self.shape, self.dtype)
        return scale_inputs(self.unpack(self.pack(index, frames), torch.from_numpy(frames)))

    def pack(self, index: tuple[int, int], frames: np.ndarray) -> PackedBatch:
        """Read the batch of (epoch, step).

        Args:
            index: epoch and step.
            frames: array of `shape` and `dtype`, overwritten.
        """
        epoch, number = index
        steps = [lane[number] for lane in self.lanes(epoch)]
        first_lane = self.rank * self.batch_size
        served = [self._serve(step, frames[:, b], epoch, first_lane + b) for b, step in enumerate(steps)]
        boxes, counts, labeled = zip(*served, strict=True)
        return PackedBatch(steps, np.concatenate(boxes), sum(counts, []), np.stack(labeled))

    def unpack(self, packed: PackedBatch, frames: Tensor) -> dict[str, Any]:
        """The batch of `__getitem__`, but with unscaled `inputs` and their `divisor`."""
        boxes, num_tbins = torch.from_numpy(packed.boxes).split(packed.counts), len(frames)
        return {
            "inputs": frames,
            "divisor": self.divisor,
            "labels": [list(boxes[t::num_tbins]) for t in range(num_tbins)],
            "mask_keep_memory": torch.tensor([0.0 if step.reset else 1.0 for step in packed.steps]),
            "frame_is_labeled": torch.from_numpy(packed.labeled).T.contiguous(),
            "video_infos": [(self._info(step), step.start) for step in packed.steps],
        }

    def _info(self, step: LaneStep) -> VideoInfo | None:
        return None if step.file is None else self._cache[self.files[step.file]].info

    def _serve(
        self, step: LaneStep, out: np.ndarray, epoch: int, lane: int
    ) -> tuple[np.ndarray, list[int], np.ndarray]:
        """Write the frames of one lane to `out` (T, C, H, W) and return its targets, see `TargetLoader.table`."""
        if step.file is None:
            out[:] = 0
            return np.zeros((0, 5), np.float32), [0] * len(out), np.zeros(len(out), bool)
        file = self.files[step.file]
        source = self._cache[file]
        augmentation = None
        if self.augment is not None:
            rng = np.random.default_rng([self.seed, AUGMENT, epoch, lane, step.segment])
            augmentation = draw_augmentation(rng, file.height, file.width)
        if file.dtype == self.dtype:
            self._show(source, step, augmentation, out)
        else:
            frames = np.empty(out.shape, file.dtype)
            self._show(source, step, augmentation, frames)
            np.divide(frames, np.float32(file.divisor), out=out)
        return source.target_table(self.targets, step.start, augmentation, step.backwards)

    def _show(self, source: OpenFile, step: LaneStep, augmentation: Augmentation | None, out: np.ndarray) -> None:
        """Write the frames of a step after augmentation, in the type of the file."""
        if augmentation is None or self.augment is None:
            source.reader.read(step.start, out)
            return
        frame = np.empty((1, *out.shape[1:]), out.dtype)
        for t in range(len(out)):
            number = step.start + (len(out) - 1 - t if step.backwards else t)
            source.reader.read(number, frame)
            augmentation.frame(frame[0], out[t], number, self.augment, step.backwards)


def scale_inputs(batch: dict[str, Any], out: Tensor | None = None) -> dict[str, Any]:
    """Convert the `inputs` of a batch to float32 and divide them by its `divisor`, on their device.

    Args:
        batch: a batch; without `divisor` it is returned unchanged.
        out: float32 memory for the result; allocated if not given.
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
    """The (epoch, step) pairs of an epoch, in order.

    Steps are already divided over the ranks. It is a `DistributedSampler` because Lightning calls `set_epoch` on one,
    and replaces any other sampler.

    Args:
        dataset: dataset of the steps.
    """

    def __init__(self, dataset: SequenceDataset) -> None:
        super().__init__(dataset, num_replicas=1, rank=0, shuffle=False)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (epoch, 0), (epoch, 1) and so on; the epoch is the last argument of `set_epoch`."""
        return iter([(self.epoch, step) for step in range(len(self))])
