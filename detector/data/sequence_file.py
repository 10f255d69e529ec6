"""Tensor files of a dataset, a cache of open files, and the description of a file for evaluators."""

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
    """Description of a tensor file for an evaluator.

    Args:
        path: path of the tensor file
        name: name of the tensor file without suffix
        first_t: time in microseconds at which frame 0 starts
        delta_t: duration of a frame in microseconds
        num_frames: number of frames
        height: rows of a frame in network pixels
        width: columns of a frame in network pixels
        scale: network pixels per sensor pixel
        labels: (M,) `BBOX_dtype` boxes of all classes in network pixels, with label map ids. Boxes are cropped to the
            frame, but neither interpolated nor augmented
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
        """Time grid of the frames: start, duration and number."""
        return Frames(self.first_t, self.delta_t, self.num_frames)


@dataclass(frozen=True)
class SequenceFile:
    """Paths and properties of a tensor file that was checked, and the path of its label file.

    Args:
        path: path of the tensor file
        labels_path: path of the label file
        num_frames: number of frames
        channels: channels of a frame
        height: rows of a frame in network pixels
        width: columns of a frame in network pixels
        divisor: number by which the values of frames are divided before they enter the network
        first_t: time in microseconds at which frame 0 starts
        delta_t: duration of a frame in microseconds
        scale: network pixels per sensor pixel
        dtype: name of the data type of the frames
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
        """Time grid of the frames: start, duration and number."""
        return Frames(self.first_t, self.delta_t, self.num_frames)


class OpenFile:
    """A tensor file that is open for reading, with its labels.

    Args:
        file: paths and properties of the file.
    """

    def __init__(self, file: SequenceFile) -> None:
        self.file = file
        self.labels = load_labels(file.labels_path)

    @cached_property
    def reader(self) -> TensorReader:
        """Reader of the frames of the file, opened at the first use."""
        return open_tensors(self.file.path)

    @cached_property
    def mirrored_labels(self) -> np.ndarray:
        """Labels of the file with reversed time: the last label comes first, and all times are negated."""
        mirrored = self.labels[::-1].copy()
        mirrored["t"] *= -1
        return mirrored

    @cached_property
    def info(self) -> VideoInfo:
        """Description of the file for evaluators."""
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
        """Return the targets of the T frames from frame `start` on.

        Returns:
            A list of T tensors (M, 5) x1, y1, x2, y2, class, and a (T,) bool tensor, True for labelled frames.
        """
        boxes, counts, labeled = self.target_table(targets, start)
        return list(torch.from_numpy(boxes).split(counts)), torch.from_numpy(labeled)

    def target_table(
        self, targets: TargetLoader, start: int, augmentation: Augmentation | None = None, backwards: bool = False
    ) -> tuple[np.ndarray, list[int], np.ndarray]:
        """Return the targets of T frames, in the order in which the frames are shown.

        If frames are shown backwards, the start of a frame is shown last, and the boxes must match this moment. So
        frame k gets the labels of the first labelled timestamp in its interval [start, end). If frames are shown
        forwards, these labels usually belong to frame k - 1.

        Args:
            targets: converts labels to targets.
            start: index in the file of the earliest of the T frames.
            augmentation: applied to the boxes before boxes that are too small are dropped.
            backwards: whether the frames are shown last to first.

        Returns:
            (M, 5) boxes sorted by shown frame, a list with the number of boxes of each of the T frames, and a (T,) bool
            array that states whether each frame is labelled.
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
    """Cache that keeps the most recently used files of this process open: `cache[file]` is the `OpenFile` of `file`.

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
        if self._process != os.getpid():  # inherited files share read positions with the parent
            self._open, self._process = OrderedDict(), os.getpid()
        if file.path in self._open:
            self._open.move_to_end(file.path)
        else:
            if len(self._open) >= self.capacity:
                self._open.popitem(last=False)[1].close()
            self._open[file.path] = OpenFile(file)
        return self._open[file.path]
