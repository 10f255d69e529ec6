"""The tensor files of a dataset, a cache of open files, and the description of a file for evaluators."""

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
    """Description of a file for an evaluator.

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
    """A checked tensor file: paths, shape (num_frames, channels, height, width) of `data`, and meaning of its values.

    Frames are divided by `divisor`; `first_t` is the time in microseconds at which frame 0 starts, `delta_t` the
    duration of a frame, `scale` the network pixels per sensor pixel, `dtype` the name of the data type.
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
    """A tensor file that is open for reading.

    Args:
        file: the file.
    """

    def __init__(self, file: SequenceFile) -> None:
        self.file = file
        self.labels = load_labels(file.labels_path)

    @cached_property
    def reader(self) -> TensorReader:
        """Reader of its frames, opened at the first use."""
        return open_tensors(self.file.path)

    @cached_property
    def mirrored_labels(self) -> np.ndarray:
        """Its labels with time reversed: the last label first, at minus its time."""
        mirrored = self.labels[::-1].copy()
        mirrored["t"] *= -1
        return mirrored

    @cached_property
    def info(self) -> VideoInfo:
        """Its description for evaluators."""
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
        """Targets of the T frames starting at `start`, see `TargetLoader.__call__`."""
        boxes, counts, labeled = self.target_table(targets, start)
        return list(torch.from_numpy(boxes).split(counts)), torch.from_numpy(labeled)

    def target_table(
        self, targets: TargetLoader, start: int, augmentation: Augmentation | None = None, backwards: bool = False
    ) -> tuple[np.ndarray, list[int], np.ndarray]:
        """Targets of the T frames starting at `start` in the order in which they are shown, see `TargetLoader.table`.

        If shown backwards, frame k ends at the time at which it starts in the file. So it has the labels of the first
        labelled timestamp in its [start, end), usually those that frame k - 1 has otherwise: boxes are at the positions
        of the last events that were shown.

        Args:
            targets: converts labels to targets.
            start: index of the first of the frames in the order of the file.
            augmentation: see `TargetLoader.__call__`.
            backwards: the frames are shown last to first.
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
        """Close the reader, if it was opened."""
        if "reader" in self.__dict__:
            self.reader.close()


class FileCache:
    """Cache of the files that this process used last.

    Args:
        capacity: largest number of open files.
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
