"""The tensor files of a dataset, those that are open, and what an evaluator is told about one."""

import os
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detector.data.augment import Augmentation
from detector.data.targets import TargetLoader, scale_labels
from detector.data.tensor_file import TensorReader, open_tensors
from detector.events.frames import Frames
from detector.labels import load_labels

__all__ = ["FileCache", "OpenFile", "SequenceFile", "VideoInfo"]


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

    @property
    def frames(self) -> Frames:
        """The frames of the file in recording time."""
        return Frames(self.first_t, self.delta_t, self.num_frames)


@dataclass(frozen=True)
class SequenceFile:
    """A tensor file that was checked: paths, (num_frames, channels, height, width) of `data`, and what its values mean.

    Frames are divided by `divisor`; `first_t` is the time in microseconds at which frame 0 starts, `delta_t` the
    duration of a frame, `scale` the network pixels per sensor pixel, `dtype` the name of the type of the values.
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
    dtype: str = "uint8"

    @property
    def frames(self) -> Frames:
        """The frames of the file in recording time."""
        return Frames(self.first_t, self.delta_t, self.num_frames)


class OpenFile:
    """A tensor file that is being read.

    Args:
        file: which.
    """

    def __init__(self, file: SequenceFile) -> None:
        self.file = file
        self.labels = load_labels(file.labels_path)

    @cached_property
    def reader(self) -> TensorReader:
        """Its frames."""
        return open_tensors(self.file.path)

    @cached_property
    def mirrored_labels(self) -> np.ndarray:
        """Its labels as time running backwards meets them: the last first, at minus its time."""
        mirrored = self.labels[::-1].copy()
        mirrored["t"] *= -1
        return mirrored

    @cached_property
    def info(self) -> VideoInfo:
        """What an evaluator is told about it."""
        file = self.file
        return VideoInfo(
            str(file.path),
            file.path.stem,
            file.first_t,
            file.delta_t,
            file.num_frames,
            file.height,
            file.width,
            file.scale,
            scale_labels(self.labels, file.scale, file.height, file.width),
        )

    def load_targets(self, targets: TargetLoader, start: int) -> tuple[list[Tensor], Tensor]:
        """Targets of the T frames from `start` on, see `TargetLoader.__call__`."""
        boxes, counts, labeled = self.target_table(targets, start)
        return list(torch.from_numpy(boxes).split(counts)), torch.from_numpy(labeled)

    def target_table(
        self, targets: TargetLoader, start: int, augmentation: Augmentation | None = None, backwards: bool = False
    ) -> tuple[np.ndarray, list[int], np.ndarray]:
        """Targets of the T frames from `start` on in the order in which they are shown, see `TargetLoader.table`.

        Shown backwards, frame k ends at the time at which it starts in the file. So it has the labels of the first
        labelled timestamp in [start, end) of its own, mostly those that frame k - 1 has otherwise: a box lies where
        the last events that were seen are, never where events are still to come.

        Args:
            targets: what makes them.
            start: index of the first of the frames in the file's order.
            augmentation: see `TargetLoader.__call__`.
            backwards: the last of the frames is shown first.
        """
        file = self.file
        first_t = file.first_t
        if backwards:
            start = file.num_frames - start - targets.num_tbins
            first_t = -(file.first_t + file.num_frames * file.delta_t)
        labels = self.mirrored_labels if backwards else self.labels
        shape, times = (file.height, file.width), (first_t, file.delta_t, file.num_frames)
        return targets.table(labels, start, *shape, *times, file.scale, augmentation)

    def close(self) -> None:
        """Give back what was opened."""
        if "reader" in self.__dict__:
            self.reader.close()


class FileCache:
    """The files of this process that were used last.

    Args:
        capacity: how many of them stay open.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._open: OrderedDict[Path, OpenFile] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __getitem__(self, file: SequenceFile) -> OpenFile:
        if self._process != os.getpid():  # a forked process shares the positions of inherited handles
            self._open, self._process = OrderedDict(), os.getpid()
        if file.path in self._open:
            self._open.move_to_end(file.path)
        else:
            if len(self._open) >= self.capacity:
                self._open.popitem(last=False)[1].close()
            self._open[file.path] = OpenFile(file)
        return self._open[file.path]
