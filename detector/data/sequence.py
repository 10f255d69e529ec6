"""Streams of tensor files as batches of T frames: what is read when, and reading it.

Nothing here keeps a position: batch (epoch, step) is computed from the files' lengths and the seed alone. So any
number of loader processes yields the same batches, and every rank has the same number of them.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from detector.data.augment import Augmentation, draw_augmentation
from detector.data.targets import TargetLoader, scale_labels
from detector.events.labels import load_labels

__all__ = [
    "LaneStep",
    "SequenceDataset",
    "SequenceFile",
    "StepSampler",
    "VideoInfo",
    "eval_plan",
    "train_plan",
]

ORDER, PHASE, AUGMENT = range(1, 4)  # keeps draws for different purposes independent of each other


class LaneStep(NamedTuple):
    """What a lane serves at one step.

    `file` is an index (None: empty, unlabelled frames), `start` the index of the first frame, `reset` whether the
    stream starts anew, `segment` the number of streams that this lane served before.
    """

    file: int | None
    start: int
    reset: bool
    segment: int


class VideoInfo(NamedTuple):
    """A file as an evaluator sees it.

    `first_t` and `delta_t` in microseconds, `height` and `width` of a frame in network pixels, `scale` in network
    pixels per sensor pixel; `labels` (M,) `BBOX_dtype` of all classes in network pixels, with label map ids,
    cropped to the frame, neither interpolated nor augmented.
    """

    path: str
    name: str
    first_t: int
    delta_t: int
    num_frames: int
    height: int
    width: int
    scale: float
    labels: np.ndarray


@dataclass(frozen=True)
class SequenceFile:
    """A tensor file that was checked: paths, (num_frames, channels, height, width) of `data`, and what its values mean.

    Frames are divided by `divisor`; `first_t` is the time in microseconds at which frame 0 starts, `delta_t` the
    duration of a frame, `scale` the network pixels per sensor pixel.
    """

    path: Path
    labels_path: Path
    num_frames: int
    channels: int
    height: int
    width: int
    divisor: float
    first_t: int
    delta_t: int
    scale: float

    def load_targets(
        self, targets: TargetLoader, labels: np.ndarray, start: int, augmentation: Augmentation | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Targets of the frames from `start` on, given the file's labels; see `TargetLoader.__call__`."""
        return targets(
            labels,
            start,
            height=self.height,
            width=self.width,
            first_t=self.first_t,
            delta_t=self.delta_t,
            num_frames=self.num_frames,
            scale=self.scale,
            augmentation=augmentation,
        )


def train_plan(lengths: Sequence[int], num_tbins: int, num_lanes: int, seed: int, epoch: int) -> list[list[LaneStep]]:
    """What each lane serves at each step of a training epoch.

    Files are shuffled and cut into chunks of T frames at a random phase; the chunks, laid end to end, are split into
    equal contiguous lanes. So one long file serves all lanes, and a file goes on in the next lane where one ends.

    Args:
        lengths: frames of each file.
        num_tbins: frames of a step, T.
        num_lanes: streams over all ranks.
        seed: of order and phases.
        epoch: number of the epoch.

    Returns:
        list `num_lanes` of lists of steps, all equally long and as long in every epoch.
    """
    order = np.random.default_rng([seed, ORDER, epoch]).permutation(len(lengths)).tolist()
    chunks = [
        (file, start)
        for file in order
        for start in _chunk_starts(lengths[file], num_tbins, np.random.default_rng([seed, PHASE, epoch, file]))
    ]
    bounds = [lane * len(chunks) // num_lanes for lane in range(num_lanes + 1)]
    return _lanes([chunks[first:stop] for first, stop in pairwise(bounds)])


def _chunk_starts(length: int, num_tbins: int, rng: np.random.Generator) -> range:
    """First frames of the chunks of a file, as many as fit into it whatever the phase; at least one.

    A grid that would lose a chunk to its phase starts before frame 0 instead: empty frames there come before the
    first event and harm no state, and epochs keep their length.
    """
    count, rest = divmod(length, num_tbins)
    if count == 0:
        return range(0, 1)
    first = int(rng.integers(rest - num_tbins + 1 if count > 1 else 0, rest + 1))
    return range(first, first + count * num_tbins, num_tbins)


def eval_plan(lengths: Sequence[int], num_tbins: int, num_lanes: int) -> list[list[LaneStep]]:
    """What each lane serves at each step of an evaluation: every file whole, from its first frame, on one lane.

    Files go to the least loaded lane, longest first.

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
    """Lanes of (file, start) as steps, padded to the longest."""
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


class _OpenFile(NamedTuple):
    handle: h5py.File
    labels: np.ndarray
    info: VideoInfo


class _FileCache:
    """The files of this process that were used last, at most `capacity` of them open."""

    def __init__(self, capacity: int, targets: TargetLoader) -> None:
        self.capacity = capacity
        self.targets = targets
        self._open: OrderedDict[Path, _OpenFile] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __getitem__(self, file: SequenceFile) -> _OpenFile:
        if self._process != os.getpid():  # a forked process shares the positions of inherited handles
            self._open, self._process = OrderedDict(), os.getpid()
        if file.path in self._open:
            self._open.move_to_end(file.path)
        else:
            if len(self._open) >= self.capacity:
                self._open.popitem(last=False)[1].handle.close()
            self._open[file.path] = self._read(file)
        return self._open[file.path]

    def _read(self, file: SequenceFile) -> _OpenFile:
        labels = load_labels(file.labels_path)
        info = VideoInfo(
            str(file.path),
            file.path.stem,
            file.first_t,
            file.delta_t,
            file.num_frames,
            file.height,
            file.width,
            file.scale,
            scale_labels(labels, file.scale, file.height, file.width),
        )
        return _OpenFile(h5py.File(file.path, "r"), labels, info)


class _Targets(list):
    """Targets of a batch, a list T of lists B, that travel between processes as one array.

    As they are, each of the T * B tensors would hold a file descriptor: 320 of them a batch end at the usual limit of
    1024, and the loader then hangs.
    """

    def __reduce__(self) -> tuple:
        flat = [boxes for frame in self for boxes in frame]
        return _unpack_targets, (torch.cat(flat).numpy(), [len(boxes) for boxes in flat], len(self))


def _unpack_targets(boxes: np.ndarray, counts: list[int], num_tbins: int) -> list[list[Tensor]]:
    flat = torch.from_numpy(boxes).split(counts)
    streams = len(flat) // num_tbins
    return [list(flat[t * streams : (t + 1) * streams]) for t in range(num_tbins)]


class SequenceDataset(Dataset[dict[str, Any]]):
    """Batches of this rank, by (epoch, step).

    Args:
        files: of one split, all with the same channels and size.
        targets: turns labels into targets; its `num_tbins` is T.
        batch_size: streams of a rank; an evaluation takes no more than there are files for.
        train: cut and shuffle files by `train_plan`, else stream them whole by `eval_plan`.
        augment: flip and zoom, see `draw_augmentation`.
        seed: of order, phases and augmentation.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        files: Sequence[SequenceFile],
        targets: TargetLoader,
        batch_size: int,
        *,
        train: bool,
        augment: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.files = list(files)
        self.targets = targets
        self.batch_size = batch_size if train else min(batch_size, -(-len(files) // world_size))
        self.train = train
        self.augment = augment
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._cache = _FileCache(self.batch_size, targets)  # a lane reads one file at a time
        self._planned: tuple[int, list[list[LaneStep]]] | None = None

    def lanes(self, epoch: int) -> list[list[LaneStep]]:
        """The steps of this rank's streams in an epoch."""
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self._plan(epoch)
        return self._planned[1]

    def _plan(self, epoch: int) -> list[list[LaneStep]]:
        lengths, num_tbins = [file.num_frames for file in self.files], self.targets.num_tbins
        num_lanes = self.batch_size * self.world_size
        if self.train:
            plan = train_plan(lengths, num_tbins, num_lanes, self.seed, epoch)
        else:
            plan = eval_plan(lengths, num_tbins, num_lanes)
        return plan[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank and in every epoch."""
        return len(self.lanes(0)[0])

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Any]:
        """The batch of (epoch, step).

        Returns:
            inputs: (T, B, C, H, W) float32.
            labels: list T of list B of (M, 5) float32 x1, y1, x2, y2, class 1..K in network pixels.
            mask_keep_memory: (B,) float32, 0 where the stream starts anew, else 1.
            frame_is_labeled: (T, B) bool.
            video_infos: list B of (VideoInfo or None, index of the first frame).

        Raises:
            ValueError: frames of a file cannot be read.
        """
        epoch, number = index
        steps = [lane[number] for lane in self.lanes(epoch)]
        file = self.files[0]
        inputs = torch.empty(self.targets.num_tbins, len(steps), file.channels, file.height, file.width)
        served = [
            self._serve(step, inputs[:, b], self._augmentation(step, epoch, self.rank * self.batch_size + b))
            for b, step in enumerate(steps)
        ]
        return {
            "inputs": inputs,
            "labels": _Targets(map(list, zip(*(boxes for boxes, _, _ in served), strict=True))),
            "mask_keep_memory": torch.tensor([0.0 if step.reset else 1.0 for step in steps]),
            "frame_is_labeled": torch.stack([labeled for _, labeled, _ in served], dim=1),
            "video_infos": [(info, step.start) for (_, _, info), step in zip(served, steps, strict=True)],
        }

    def _augmentation(self, step: LaneStep, epoch: int, lane: int) -> Augmentation | None:
        if not self.augment:
            return None
        rng = np.random.default_rng([self.seed, AUGMENT, epoch, lane, step.segment])
        return draw_augmentation(rng, self.files[0].height, self.files[0].width)

    def _serve(
        self, step: LaneStep, out: Tensor, augmentation: Augmentation | None
    ) -> tuple[list[Tensor], Tensor, VideoInfo | None]:
        """Write the frames of one lane to `out` (T, C, H, W); its targets, labelled frames and file."""
        if step.file is None:
            out.zero_()
            return [torch.zeros(0, 5) for _ in out], torch.zeros(len(out), dtype=torch.bool), None
        file = self.files[step.file]
        source = self._cache[file]
        frames = _read_frames(source.handle, file, step.start, len(out))
        out.copy_(augmentation.frames(frames) if augmentation else frames)
        if file.divisor != 1:
            out /= file.divisor
        return *file.load_targets(self.targets, source.labels, step.start, augmentation), source.info


def _read_frames(handle: h5py.File, file: SequenceFile, start: int, count: int) -> Tensor:
    """(count, C, H, W) frames from `start` on, of the file's type; zeros before its first and after its last."""
    data = handle["data"]
    frames = np.zeros((count, *data.shape[1:]), data.dtype)
    first, stop = max(start, 0), min(start + count, file.num_frames)
    try:
        data.read_direct(frames, np.s_[first:stop], np.s_[first - start : stop - start])
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file.path}: frames {first} to {stop - 1} cannot be read: {reason}") from None
    return torch.from_numpy(frames)


class StepSampler(DistributedSampler):
    """The (epoch, step) pairs of an epoch, in order.

    Steps are already divided over the ranks. It is a `DistributedSampler` because Lightning calls `set_epoch` on it
    and would put one of its own in the place of any other sampler.

    Args:
        dataset: whose steps are sampled.
    """

    def __init__(self, dataset: SequenceDataset) -> None:
        super().__init__(dataset, num_replicas=1, rank=0, shuffle=False)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (epoch, 0), (epoch, 1) and so on; the epoch is what `set_epoch` was given last."""
        return iter([(self.epoch, step) for step in range(len(self))])
