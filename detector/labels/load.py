"""Read the labels of a recording: boxes in sensor pixels, with times and class ids of the dataset."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.config.extensions import LABEL_FORMATS
from detector.config.label_timing import LabelTiming, TimeUnit
from detector.events import EventReader
from detector.events.frames import Frames
from detector.events.headers.sensor_size import MAX_SIDE
from detector.events.types import BBOX_dtype
from detector.labels.boxes import field_columns, to_boxes
from detector.labels.find import detect_format, frames_file
from detector.labels.label_format import LabelFile, find_format
from detector.labels.parts import unused_parts
from detector.labels.timing import to_times

__all__ = ["EMPTY", "RecordingLabels", "add_empty", "join_names", "load_labels", "read_labels", "recording_labels"]

EMPTY = "empty"
"""Name of the class whose boxes mark labelled images without objects."""

SAME_SHAPE = 0.01
"""Largest relative difference of the horizontal and vertical scale between an image and the sensor."""


class RecordingLabels(NamedTuple):
    """Labels of a recording.

    Args:
        boxes: (M,) `BBOX_dtype`, sorted by t, in sensor pixels
        notes: how the labels were converted, one text per fact
    """

    boxes: np.ndarray
    notes: tuple[str, ...]


def load_labels(path: str | Path, time_unit: TimeUnit = "us", offset: int = 0, label_format: str = "npy") -> np.ndarray:
    """Read and check the boxes of a label file that contains times and boxes in sensor pixels.

    Accepted are any order of the fields, legacy names of fields such as `ts` for `t`, and records without padding
    bytes.

    Args:
        path: the label file.
        time_unit: unit of the times in the file. Times are rounded to whole microseconds. But if the unit is
            microseconds, times with fractions are an error.
        offset: microseconds that are added to the times.
        label_format: name or import path of a `LabelFormat`.

    Returns:
        (M,) array of `BBOX_dtype`, sorted by t. Boxes with the same time keep the order of the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the format is unknown, the file cannot be read in this format, a field is missing, or a field
            contains values that are not allowed.
    """
    return recording_labels(path, label_format, timing=LabelTiming(time_unit, offset)).boxes


def read_labels(path: str | Path, label_format: str = "auto") -> LabelFile:
    """Read a label file or folder as the reader of the format returns it, without checks of the values.

    Detections that `evforge predict` wrote as NPY or CSV have a list of the processed frames beside them. Frames
    without boxes are returned in `LabelFile.empty`, as for a COCO file.

    Args:
        path: the label file or folder.
        label_format: name or import path of a `LabelFormat`; "auto" detects the format from the content.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the format is unknown, or the file cannot be read in this format.
    """
    path = Path(path)
    if label_format == "auto":
        label_format = detect_format(path)
    format_ = find_format(label_format)
    if not (path.is_dir() if format_.is_folder else path.is_file()):
        raise FileNotFoundError(f"{path}: no such label {'folder' if format_.is_folder else 'file'}")
    try:
        found = format_.read(path)
        return _with_frames(found if isinstance(found, LabelFile) else LabelFile(np.asarray(found)), path)
    except Exception as error:  # the reader may be user code and raise anything
        reason = " ".join(str(error).split()).removeprefix(f"{path}: ") or type(error).__name__
        raise ValueError(f"{path}: not a complete label file of format {label_format}: {reason}") from error


def recording_labels(
    path: str | Path,
    label_format: str = "auto",
    recording: EventReader | None = None,
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    names: Mapping[int, str] | None = None,
) -> RecordingLabels:
    """Read the labels of a recording, and convert them to sensor pixels, microseconds and class ids of the dataset.

    Args:
        path: the label file or folder.
        label_format: name or import path of a `LabelFormat`; "auto" detects the format from the content.
        recording: the recording, needed if the labels have image numbers or are relative to the image.
        timing: how the times are determined.
        names: label map of the dataset, a dict from class id to name. If the label file contains names, its classes
            are found in the label map by name, and images without boxes become boxes of class "empty". If None, the
            class ids of the file are used, and images without boxes are left out.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: the format is unknown, the file cannot be read, or a value is not allowed; the message names it.
    """
    path = Path(path)
    content = read_labels(path, label_format)
    field = field_columns(_filled(content.boxes), str(path))["t"]
    times, text = to_times(_times_of(content, field), content, path, timing, recording, field)
    raw, scale_text = _to_pixels(_complete(content.boxes, times[: content.boxes.size]), content, path, recording)
    boxes = to_boxes(raw, str(path))
    notes = [*content.notes, _parts_text(path, label_format, recording), text, scale_text]
    if names is not None:
        boxes["class_id"], unknown = _ids_in(boxes["class_id"], content.names, names, str(path))
        boxes, unused = _with_empty(boxes, times[content.boxes.size :], names)
        notes += [unknown, unused]
    return RecordingLabels(boxes, tuple(note for note in notes if note))


def join_names(files: Iterable[LabelFile]) -> dict[int, str]:
    """Return a label map for the classes of several label files; an empty dict if the files do not name classes.

    If the files agree, the ids of the files are kept. Otherwise, the names get new ids in alphabetical order. If a file
    has images without boxes, the class "empty" is added.
    """
    files = list(files)
    joined: dict[int, str] = {}
    agree = True
    for file in files:
        for key, name in file.names.items():
            agree &= joined.setdefault(int(key), name) == name
    distinct = sorted({name for file in files for name in file.names.values()})
    if not agree or len(distinct) < len(joined):
        joined = dict(enumerate(distinct))
    return add_empty(joined, files) if joined else {}


def add_empty(names: Mapping[int, str], files: Iterable[LabelFile]) -> dict[int, str]:
    """Return `names` with the class "empty" added if one of the label files has images without boxes.

    Its id is larger than all other ids, also those of boxes in the files.
    """
    files = list(files)
    if EMPTY in names.values() or not any(len(file.empty) for file in files):
        return dict(names)
    return {**names, max([*names, *map(_largest_id, files)], default=-1) + 1: EMPTY}


def _largest_id(file: LabelFile) -> int:
    """Return the largest class id of the boxes of a file without class names; -1 if there is none."""
    if file.names or not file.boxes.size or "class_id" not in (file.boxes.dtype.names or ()):
        return -1
    largest = file.boxes["class_id"].max()
    return int(largest) if np.isfinite(largest) and abs(largest) < 2**31 else -1


def _parts_text(path: Path, label_format: str, recording: EventReader | None) -> str:
    """Return a text that names the other parts of the export to which labels belong; empty if there are none."""
    if label_format != "auto" and label_format not in LABEL_FORMATS:
        return ""
    parts = unused_parts(path, None if recording is None else recording.path)
    names = ", ".join(os.path.relpath(part, path.parent.parent) for part in parts)
    advice = f"move their files into {path}" if path.is_dir() else "merge them into one file"
    return f"other parts of this export are not used: {names}; to use all, {advice}" if parts else ""


def _with_frames(content: LabelFile, path: Path) -> LabelFile:
    """Add the processed frames without boxes if `path` is an NPY or CSV file of detections (`is_prediction`)."""
    file = frames_file(path)
    if content.numbered or "t" not in (content.boxes.dtype.names or ()) or not file.is_file():
        return content
    frames = Frames.of(json.loads(file.read_text()))
    ends = frames.end_of(0) + frames.delta_t * np.arange(frames.num_frames)
    return replace(content, empty=np.setdiff1d(np.union1d(content.empty, ends), content.boxes["t"]))


def _times_of(content: LabelFile, field: str) -> np.ndarray:
    """Return the times or image numbers of all boxes, followed by those of the images without boxes."""
    times, empty = content.boxes[field].reshape(-1), np.asarray(content.empty).reshape(-1)
    return np.concatenate([times, empty.astype(times.dtype) if not times.size else empty]) if empty.size else times


def _filled(raw: np.ndarray) -> np.ndarray:
    """Return structured boxes with the fields track_id and class_confidence, which formats may leave out."""
    found = raw.dtype.names or ()
    given = {"track_id": ("track_id",), "class_confidence": ("class_confidence", "confidence")}
    missing = [name for name, accepted in given.items() if not set(accepted) & set(found)]
    if not missing or not {"x", "y", "w", "h", "class_id"} <= set(found):
        return raw
    fields = [(name, raw.dtype[name]) for name in found] + [(name, BBOX_dtype[name]) for name in missing]
    filled = np.zeros(raw.shape, fields)
    for name in found:
        filled[name] = raw[name]
    if "class_confidence" in missing:
        filled["class_confidence"] = 1
    return filled


def _complete(raw: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return a flat copy of structured boxes in which t is int64 microseconds and positions are float64."""
    raw = _filled(raw).reshape(-1)
    columns = field_columns(raw, "labels")
    kinds = {"t": np.dtype(np.int64), **dict.fromkeys("xywh", np.dtype(np.float64))}
    boxes = np.zeros(raw.size, [(name, kinds.get(name, raw.dtype[column])) for name, column in columns.items()])
    for name, column in columns.items():
        boxes[name] = times if name == "t" else raw[column]
    return boxes


def _to_pixels(
    boxes: np.ndarray, content: LabelFile, path: Path, recording: EventReader | None
) -> tuple[np.ndarray, str]:
    """Scale boxes from the size of their images to the size of the sensor, in place.

    Returns:
        The boxes, and a text if boxes in pixels were scaled.

    Raises:
        ValueError: the images have another shape than the sensor, or the size of the sensor is needed but not known.
    """
    size = content.image_size
    if size is None or (recording is None and size != (1, 1)):
        return boxes, ""
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise ValueError(f"{path}: images of {size[1]!s:.20} x {size[0]!s:.20} pixels, allowed: 1 to {MAX_SIDE}")
    if recording is None:
        raise ValueError(
            f"{path}: the boxes are relative to the image size, needed: the recording, for the sensor size"
        )
    sensor = recording.height, recording.width
    if size == sensor:
        return boxes, ""
    scale_y, scale_x = sensor[0] / size[0], sensor[1] / size[1]
    if size != (1, 1) and abs(scale_x / scale_y - 1) > SAME_SHAPE:
        raise ValueError(
            f"{path}: labels of images of {size[1]} x {size[0]} pixels, the sensor has {sensor[1]} x {sensor[0]}, "
            "allowed: images of the sensor's size, or this size multiplied by a factor"
        )
    for name in "xw":
        boxes[name] *= scale_x
    for name in "yh":
        boxes[name] *= scale_y
    pixels = f"boxes scaled from {size[1]} x {size[0]} to {sensor[1]} x {sensor[0]} pixels"
    return boxes, "" if size == (1, 1) else pixels


def _ids_in(
    class_id: np.ndarray, file_names: Mapping[int, str], names: Mapping[int, str], source: str
) -> tuple[np.ndarray, str]:
    """Return the ids of the label map `names` for class ids of a file with the names `file_names`.

    A class that is not in the label map gets an id that is not in the label map either.

    Returns:
        The ids, and a text that names the classes that are not in the label map.

    Raises:
        ValueError: no box has a class of the label map.
    """
    if not file_names:
        return class_id, ""
    by_name = {name: key for key, name in names.items()}
    free = max(names, default=-1) + 1
    found = np.empty(class_id.size, class_id.dtype)
    for number, key in enumerate(np.unique(class_id)):
        name = file_names.get(int(key))
        found[class_id == key] = by_name.get(name, free + number) if name is not None else free + number
    unknown = ", ".join(str(file_names.get(key, f"id {key}")) for key in np.unique(class_id[found >= free]).tolist())
    if not unknown:
        return found, ""
    if (found >= free).all():
        raise ValueError(f"{source}: the classes are {unknown}, allowed by the label map: {', '.join(by_name)}")
    return found, f"classes that are not in the label map: {unknown}"


def _with_empty(boxes: np.ndarray, times: np.ndarray, names: Mapping[int, str]) -> tuple[np.ndarray, str]:
    """Add a box of class "empty" for each time of an image without boxes.

    Returns:
        The boxes, sorted by t, and a text if the label map has no class "empty".
    """
    if not times.size:
        return boxes, ""
    empty_id = next((key for key, name in names.items() if name == EMPTY), None)
    if empty_id is None:
        return boxes, f'{times.size} images without boxes are not used: the label map has no class "{EMPTY}"'
    marks = np.zeros(times.size, BBOX_dtype)
    marks["t"], marks["class_id"] = times, empty_id
    joined = np.concatenate([boxes, marks])
    return joined[np.argsort(joined["t"], kind="stable")], ""
