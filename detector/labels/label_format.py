"""`LabelFormat`, the interface of a format of label files, and `LabelFile`, the content of a label file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detector.config.extensions import LABEL_FORMATS
from detector.config.label_timing import TimeUnit

__all__ = ["LabelFile", "LabelFormat", "find_format"]


@dataclass(frozen=True)
class LabelFile:
    """Content of a label file or of a folder of label files.

    Args:
        boxes: (M,) structured boxes in any order, with the fields x, y, w, h, class_id and t of any numeric types, and
            optionally track_id and class_confidence. x, y is the top-left corner. t is a time, or the number of an
            image if `numbered` is True
        names: dict from class id to name, empty if the file does not contain names
        image_size: height and width of the images that the boxes refer to. (1, 1) if the boxes are relative to the size
            of the image; None if they are in pixels of the sensor
        empty: (E,) times or numbers of images without boxes, which were labelled too
        numbered: whether t and `empty` are numbers of images instead of times
        first_image: number of the first image in this format, such as 1 in MOT files; None if files differ
        time_unit: unit of the times if the format or the file states it, otherwise None
        notes: what a user should know about this file, such as numbers of objects that are not used, one text each
    """

    boxes: np.ndarray
    names: Mapping[int, str] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    empty: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    numbered: bool = False
    first_image: int | None = None
    time_unit: TimeUnit | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelFormat:
    """A format of label files.

    Args:
        suffix: end of the names of label files. With "_bbox.npy", the labels of `X.raw` and of `X_td.dat` are in
            `X_bbox.npy` in the same folder
        read: function that reads a label file into a `LabelFile`, or into an array as in `LabelFile.boxes`. The values
            are checked afterwards
        patterns: further paths at which the labels of a recording are searched, relative to its folder. `{stem}` is the
            name of the recording without suffix. A path without `{stem}` is used only if the folder contains a single
            recording
        matches: function that returns whether a path, which exists, is probably a label file of this format. It reads
            only the beginning of the file. If None, a label file of this format is recognized by its name only
        write: function that writes a `LabelFile` with times in microseconds to a path; None if the format is only read
        is_folder: whether the labels are stored in a folder with one file per image
    """

    suffix: str
    read: Callable[[Path], "np.ndarray | LabelFile"]
    patterns: tuple[str, ...] = ()
    matches: Callable[[Path], bool] | None = None
    write: Callable[[Path, LabelFile], None] | None = None
    is_folder: bool = False


def find_format(name: str) -> LabelFormat:
    """Return the format with a name in `LABEL_FORMATS` or an import path.

    Raises:
        ValueError: the format does not exist or is not a `LabelFormat`.
    """
    found = LABEL_FORMATS[name]
    if not isinstance(found, LabelFormat):
        raise ValueError(f"{LABEL_FORMATS.key}: {name} is a {type(found).__name__}, allowed: a LabelFormat")
    return found
