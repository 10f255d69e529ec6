"""Convert label files from one format to another."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.config.extensions import LABEL_FORMATS
from detector.config.label_timing import LabelTiming
from detector.events import EventReader
from detector.labels.label_format import LabelFile, LabelFormat, find_format
from detector.labels.load import EMPTY, add_empty, join_names, read_labels, recording_labels

__all__ = ["Converted", "convert_labels", "format_of_name"]


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
    """Return the name of the label format that a file name stands for, such as "coco" for `X.json`.

    Raises:
        ValueError: several formats have such names, or none.
    """
    ends = {"npy": ".npy", "coco": ".json", "csv": ".csv", "mot": ".txt"}
    found = next((name for name, end in ends.items() if path.suffix.lower() == end), None)
    if found is None:
        listed = ", ".join(f"{end} ({name})" for name, end in ends.items())
        raise ValueError(f"{path}: the name does not determine a label format, allowed: names with {listed}, or --to")
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
) -> Converted:
    """Convert the labels of a recording to another format. Boxes of the written file are in pixels of the sensor.

    Args:
        source: label file or folder.
        target: label file or folder to write; an existing file is replaced.
        label_format: name or import path of the format to write; by default found from the name of `target`.
        source_format: name or import path of the format of `source`.
        recording: the recording, needed for labels that are relative to the image.
        timing: how the times of the labels are determined.
        names: dict from class id to name; by default the names in `source`. Boxes of other classes keep their ids.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a format is unknown or cannot be written, or the labels are not valid.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise ValueError(f"{target}: source and target are the same, allowed: another target")
    label_format = label_format or format_of_name(target)
    writer = _writer(label_format)
    _check_target(target, label_format, recording)
    content = read_labels(source, source_format)
    known = add_empty(join_names([content]) if names is None else names, [content])
    labels, notes = recording_labels(source, source_format, recording, timing, known)
    marks = np.isin(labels["class_id"], [key for key, name in known.items() if name == EMPTY])
    number = int((~marks).sum())
    if label_format == "npy":
        marks[:] = False  # in this format, images without boxes are boxes of class "empty"
    boxes, empty = labels[~marks], np.unique(labels["t"][marks])
    found = {key: name for key, name in known.items() if name != EMPTY or label_format == "npy"}
    found |= {key: f"class {key}" for key in np.unique(boxes["class_id"]).tolist() if key not in found}
    size = content.image_size if recording is None else (recording.height, recording.width)
    assert writer.write is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    writer.write(target, LabelFile(boxes, found, size, np.setdiff1d(empty, boxes["t"])))
    lost = _lost(boxes, read_labels(target, label_format))
    if recording is None and content.image_size is not None:
        height, width = content.image_size
        lost = [*lost, f"without --recording, boxes are in pixels of images of {width} x {height}, not of the sensor"]
    return Converted(number, np.unique(labels["t"]).size, found, (*notes, *lost))


def _check_target(target: Path, label_format: str, recording: EventReader | None) -> None:
    """Raise a ValueError if writing the target would replace the recording, or files beside a new target."""
    if recording is not None and target.resolve() == recording.path.resolve():
        raise ValueError(f"{target}: the recording would be lost, allowed: another target")
    ends = ("_timestamps.txt", "_labels.txt") if label_format == "mot" and not target.exists() else ()
    for path in (target.with_name(f"{target.stem}{end}") for end in ends):
        if path.exists():
            raise ValueError(f"{path}: would be replaced, allowed: another target")


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
