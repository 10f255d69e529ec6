"""Parts that writers of label formats share: numbers of images, files of image times, and folders."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from detector.labels.label_format import LabelFile
from detector.utils.atomic_write import atomic_write

__all__ = [
    "box_rows",
    "has_scores",
    "has_tracks",
    "index_names",
    "number_times",
    "require_images",
    "scores_of",
    "size_of_images",
    "write_folder",
    "write_times",
]

LARGEST_INDEX = 9999
"""Largest class id in a file with one class name per line."""


def number_times(content: LabelFile) -> tuple[np.ndarray, np.ndarray]:
    """Number the images of labels from 0.

    Returns:
        (N,) int64 times of the images with and without boxes in increasing order, and (M,) image of each box.
    """
    of_boxes = content.boxes["t"].astype(np.int64)
    times = np.union1d(of_boxes, np.asarray(content.empty).astype(np.int64))
    return times, np.searchsorted(times, of_boxes)


def require_images(content: LabelFile) -> None:
    """Check that there is an image to write. A folder without a file per image cannot be read.

    Raises:
        ValueError: there are neither boxes nor images without boxes.
    """
    if not len(content.boxes) and not len(content.empty):
        raise ValueError("there are no labels to write, needed: at least one box or one image without boxes")


def box_rows(boxes: np.ndarray, *names: str) -> Iterator[tuple]:
    """Yield the named fields of each box as Python numbers, whose texts are exact."""
    return zip(*(boxes[name].tolist() for name in names), strict=True)


def has_tracks(boxes: np.ndarray) -> bool:
    """Return whether boxes have track ids other than 0."""
    return "track_id" in (boxes.dtype.names or ()) and bool(boxes["track_id"].any())


def has_scores(boxes: np.ndarray) -> bool:
    """Return whether boxes have scores. They have none if all are 1, or if all are 0, the value of fields not set."""
    scores = boxes["class_confidence"] if "class_confidence" in (boxes.dtype.names or ()) else np.ones(0)
    return bool((scores != 1).any() and (scores != 0).any())


def scores_of(boxes: np.ndarray) -> list[float]:
    """Return the scores of boxes, which are 1 if boxes have none."""
    return boxes["class_confidence"].tolist() if has_scores(boxes) else [1.0] * len(boxes)


def size_of_images(content: LabelFile, format_name: str) -> tuple[int, int]:
    """Return the height and width of the images.

    Raises:
        ValueError: the size is not known.
    """
    if content.image_size is None:
        raise ValueError(f"{format_name} labels are relative to the image size, needed: the height and width")
    return content.image_size


def index_names(names: Mapping[int, str]) -> str:
    """Return a text with the name of class id k in line k, counted from 0. Lines of ids without name are blank.

    Raises:
        ValueError: an id is negative or very large, or a name does not fit into a line.
    """
    if not names:
        return ""
    if not 0 <= min(names) <= max(names) <= LARGEST_INDEX:
        raise ValueError(f"class ids from {min(names)} to {max(names)}, allowed: 0 to {LARGEST_INDEX}")
    for name in names.values():
        if not name.strip() or len(name.splitlines()) != 1:
            raise ValueError(f"the class name {name!r} does not fit into a line, allowed: a text of one line")
    return "".join(f"{names.get(key, '')}\n" for key in range(max(names) + 1))


def write_times(path: Path, times: np.ndarray) -> None:
    """Write a file with the time of each image in microseconds, one per line."""
    with atomic_write(path) as part:
        part.write_text("".join(f"{time}\n" for time in times.tolist()))


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which becomes the folder `path` if the block ends without an error.

    Raises:
        ValueError: `path` exists and is not an empty folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path}: exists already, allowed: a new or an empty folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o777 & ~umask)
        part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
