"""Convert label files from one format to another."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.config.extensions import LABEL_FORMATS
from detector.config.label_timing import LabelTiming
from detector.events import EventReader
from detector.labels.find import detect_format, frames_file
from detector.labels.label_format import LabelFile, LabelFormat, find_format
from detector.labels.load import EMPTY, add_empty, join_names, read_labels, recording_labels

__all__ = ["Converted", "convert_labels", "format_of_name"]

NAMES = {
    "npy": (".npy",),
    "coco": (".json",),
    "csv": (".csv",),
    "mot": (".txt",),
    "yolo": ("_labels", "labels", "_yolo"),
    "voc": ("_voc", "_xml", "annotations"),
}
"""For each format that is written, ends of the names of its files and folders in lower case."""

ID_FORMATS = ("csv", "mot", "yolo")
"""Formats that store class ids, and names only if there are any."""


class Converted(NamedTuple):
    """Content of a label file that was written.

    Args:
        boxes: number of boxes
        times: number of distinct labelled times, including those of images without boxes
        names: dict from class id to name
        notes: how the labels were read, and what the written file does not contain, one text per fact
    """

    boxes: int
    times: int
    names: dict[int, str]
    notes: tuple[str, ...]


def format_of_name(path: Path) -> str:
    """Return the name of the label format that a name stands for: "coco" for `X.json`, "yolo" for a folder `X_labels`.

    Raises:
        ValueError: no format has such names.
    """
    found = next((name for name, ends in NAMES.items() if path.name.lower().endswith(ends)), None)
    if found is None:
        listed = ", ".join(f"{ends[0]} ({name})" for name, ends in NAMES.items())
        raise ValueError(
            f"{path}: the name does not determine a label format, allowed: names that end in {listed}, or --to"
        )
    return found


def convert_labels(
    source: str | Path,
    target: str | Path,
    label_format: str | None = None,
    *,
    source_format: str = "auto",
    recording: EventReader | None = None,
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    names: Mapping[int, str] | None = None,
    overwrite: bool = False,
) -> Converted:
    """Convert the labels of a recording to another format. Boxes of the written file are in pixels of the sensor.

    Args:
        source: label file or folder.
        target: label file or folder to write.
        label_format: name or import path of the format to write; by default found from the name of `target`.
        source_format: name or import path of the format of `source`.
        recording: the recording, needed for labels that are relative to the image.
        timing: how the times of the labels are determined.
        names: dict from class id to name; by default the names in `source`. Boxes of other classes keep their ids.
        overwrite: whether existing files are replaced. Folders are not replaced.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a format is unknown or cannot be written, the labels are not valid, or the target exists.
    """
    source, target = Path(source), Path(target)
    label_format = label_format or format_of_name(target)
    writer = _writer(label_format)
    _check_target(source, target, label_format, recording, overwrite=overwrite)
    content = read_labels(source, source_format)
    known = add_empty(join_names([content]) if names is None else names, [content])
    labels, notes = recording_labels(source, source_format, recording, timing, known)
    marks = np.isin(labels["class_id"], [key for key, name in known.items() if name == EMPTY])
    number = int((~marks).sum())
    if label_format == "npy":
        notes = (*notes, *_npy_notes(labels["class_id"][marks], known))
        marks[:] = False  # in this format, images without boxes are boxes of class "empty"
    boxes, empty = labels[~marks], np.unique(labels["t"][marks])
    found = {key: name for key, name in known.items() if name != EMPTY or label_format == "npy"}
    found = _written_names(found, np.unique(boxes["class_id"]).tolist(), label_format)
    size = content.image_size if recording is None else (recording.height, recording.width)
    assert writer.write is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    writer.write(target, LabelFile(boxes, found, size, np.setdiff1d(empty, boxes["t"])))
    frames_file(target).unlink(missing_ok=True)  # new boxes must never be read with the frames of an earlier file
    lost = _lost(boxes, read_labels(target, label_format))
    if recording is None and content.image_size is not None:
        height, width = content.image_size
        lost.append(f"without --recording, boxes are in pixels of images of {width} x {height}, not of the sensor")
    unnamed = ", ".join(str(key) for key in np.unique(boxes["class_id"]).tolist() if key not in found)
    if unnamed:
        lost.append(f"class ids without names: {unnamed}; give names by --label_map")
    if found and "mot" in (label_format, detect_format(source) if source_format == "auto" else source_format):
        lost.append("MOT files with class names count classes from 1: class 1 of the MOT file is the class id 0")
    return Converted(number, np.unique(labels["t"]).size, found, (*notes, *lost))


def _check_target(
    source: Path, target: Path, label_format: str, recording: EventReader | None, *, overwrite: bool
) -> None:
    """Raise a ValueError if writing the target would replace the labels, the recording, or files without permission."""
    if source.resolve() == target.resolve():
        raise ValueError(f"{target}: source and target are the same, allowed: another target")
    if recording is not None and target.resolve() == recording.path.resolve():
        raise ValueError(f"{target}: the recording would be lost, allowed: another target")
    if target.is_dir() and (any(target.iterdir()) or not find_format(label_format).is_folder):
        raise ValueError(f"{target}: this folder exists, allowed: another target; folders are not replaced")
    ends = ("_timestamps.txt", "_labels.txt") if label_format == "mot" else ()
    for path in (target, frames_file(target), *(target.with_name(f"{target.stem}{end}") for end in ends)):
        if path.is_file() and not overwrite:
            raise ValueError(f"{path}: would be replaced, allowed: another target, or --overwrite")


def _written_names(names: Mapping[int, str], class_ids: list[int], label_format: str) -> dict[int, str]:
    """Return the class names to write. Formats with ids need no names, and an id without name must stay without one.

    A MOT file, for example, counts classes from 1 only if they have names.
    """
    numbered = {key: f"class {key}" for key in {*names, *class_ids}}
    if label_format in ID_FORMATS:
        return {key: name for key, name in names.items() if name != numbered[key]}
    return {key: names.get(key, numbered[key]) for key in numbered}


def _npy_notes(empty: np.ndarray, names: Mapping[int, str]) -> list[str]:
    """Return what a user of an NPY file must know, because it contains neither names nor images."""
    notes = []
    if empty.size:
        notes.append(
            f'{empty.size} rows of class "{EMPTY}" (id {empty[0]}) stand for the labelled images without boxes'
        )
    if names:
        notes.append("the format does not store class names; put the classes below into label_map_dictionary.json")
    return notes


def _lost(boxes: np.ndarray, written: LabelFile) -> list[str]:
    """Return what a written file does not contain, one text per field."""
    back = written.boxes.dtype.names or ()
    lost = []
    if "track_id" not in back and boxes["track_id"].any():
        lost.append("the format does not store track ids")
    scores = boxes["class_confidence"]
    if "class_confidence" not in back and (scores != 1).any() and (scores != 0).any():
        lost.append("the format does not store scores")
    if written.boxes.size < boxes.size:
        lost.append(f"{boxes.size - written.boxes.size} boxes are not used when the file is read")
    return lost


def _writer(name: str) -> LabelFormat:
    found = find_format(name)
    if found.write is None:
        written = [key for key in LABEL_FORMATS if find_format(key).write is not None]
        raise ValueError(f"--to: got {name}, which is only read, allowed: {', '.join(written)}, or an import path")
    return found
