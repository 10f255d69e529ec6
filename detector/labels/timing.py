"""Convert the times or the image numbers of a label file to microseconds of the recording."""

import re
from pathlib import Path

import numpy as np

from detector.config.label_timing import LabelTiming, TimeUnit
from detector.events import EventReader
from detector.labels.boxes import to_microseconds
from detector.labels.label_format import LabelFile

__all__ = ["read_image_times", "to_times"]

LARGEST_NUMBER = 10**9
"""Largest number of an image."""

WANTED = (
    "give --label_fps N (images per second), --label_times FILE (the time of each image, one per line) or, if the "
    "numbers are times, --label_time_unit"
)


def to_times(
    values: np.ndarray,
    content: LabelFile,
    path: Path,
    timing: LabelTiming,
    recording: EventReader | None,
    field: str = "t",
) -> tuple[np.ndarray, str]:
    """Convert times or image numbers of a label file to microseconds of the recording.

    Args:
        values: (M,) times or image numbers, as in `LabelFile.boxes`.
        content: the label file.
        path: path of the label file.
        timing: how times are determined.
        recording: the recording, needed for image numbers.
        field: name of the field with the times, for error messages.

    Returns:
        (M,) int64 times, and a text that describes how image numbers became times; empty for a file with times.

    Raises:
        ValueError: the times are not valid, or nothing states the times of the images.
    """
    source = f"{path}: label field {field}"
    if not content.numbered:
        return to_microseconds(values, timing.time_unit or content.time_unit or "us", source, timing.offset), ""
    numbers = to_microseconds(values, "us", f"{path}: image number")
    known, text = (None, "") if timing.fps is not None else _known_times(path, timing, recording)
    if timing.fps is None and known is None and timing.time_unit is not None:
        return to_microseconds(numbers, timing.time_unit, source, timing.offset), "image numbers are times"
    if numbers.size and not 0 <= numbers.min() <= numbers.max() <= LARGEST_NUMBER:
        found = f"{path}: image numbers from {numbers.min()} to {numbers.max()}"
        raise ValueError(f"{found}, allowed: 0 to {LARGEST_NUMBER}; {WANTED}")
    first = _first_image(numbers, content, timing, None if known is None else known.size)
    if timing.fps is not None:
        start = _start(recording, timing.fps)
        times = start + np.rint((numbers - first) * 1e6 / timing.fps).astype(np.int64)
        text = f"image {first} is at {start} us, {timing.fps:g} images per second"
        text += "" if recording is not None else ", counted from 0 because no recording is given"
    elif known is not None:
        index = numbers - first
        _check_index(index, first, known.size, f"{path}: {text}")
        times, text = known[index], f"image {first} is at {known[0] if known.size else 0} us, {text}"
    else:
        found = f"{path}: the labels have image numbers and no times"
        raise ValueError(f"{found}, needed: the time of each image; {WANTED}")
    guessed = timing.first_image is None and content.first_image is None and numbers.size and numbers.min() > 0
    if guessed and (known is None or numbers.max() != known.size):
        text += f"; the numbers {numbers.min()} to {numbers.max()} leave open whether images count from 0 or from 1: "
        text += f"if not from {first}, give --label_first_image {1 - first}"
    return times + timing.offset, text


def read_image_times(path: Path, time_unit: TimeUnit | None = None) -> np.ndarray:
    """Read the times of images from a text file with one line per image, or from an NPY file.

    A line contains a time, an image number and a time, or a time and other entries such as a file name. Entries are
    separated by blanks, commas or semicolons. Lines that begin with # and a first line of names are skipped.

    Args:
        path: the file.
        time_unit: unit of the times; microseconds if None.

    Returns:
        (N,) int64 times in microseconds.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file does not contain times that increase.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of image times")
    try:
        rows = _npy_rows(path) if path.suffix == ".npy" else _text_rows(path)
    except Exception as error:  # numpy raises any error for a damaged NPY file
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a file of image times ({reason}), allowed: one time per line") from None
    times = to_microseconds(rows[:, _time_column(rows, path)], time_unit or "us", f"{path}: image time")
    falls = np.flatnonzero(np.diff(times) < 0)
    if falls.size:
        at = falls[0]
        raise ValueError(f"{path}: the times fall from {times[at]} to {times[at + 1]} us, allowed: times that increase")
    return times


def _time_column(rows: np.ndarray, path: Path) -> int:
    """Return the column with the times: the second one if the first one contains the numbers of all images.

    Raises:
        ValueError: both columns could be times.
    """
    if rows.shape[1] < 2:
        return 0
    steps = np.diff(rows, axis=0)
    if (steps[:, 0] == 1).all() and (len(rows) > 1 or rows[0, 0] in (0, 1)):
        return 1
    if (steps >= 0).all():
        found = f"two columns of increasing numbers, the first line {rows[0, 0]:g}, {rows[0, 1]:g}"
        raise ValueError(f"{path}: {found}, allowed: one time per line, or the numbers of all images and their times")
    return 0


def _first_image(numbers: np.ndarray, content: LabelFile, timing: LabelTiming, count: int | None) -> int:
    """Return the number of the first image. `count` is the number of images, None if it is not known."""
    if timing.first_image is not None:
        return timing.first_image
    if content.first_image is not None:
        return content.first_image
    if not numbers.size:
        return 0
    # Tools count from 0 or from 1. Numbers up to `count` count from 1; so, most likely, do numbers that begin with 1.
    return int(numbers.min() == 1 if count is None else numbers.min() > 0 and numbers.max() == count)


def _start(recording: EventReader | None, fps: float) -> int:
    """Return the time of the first image: a multiple of the time between two images, not after the first event."""
    first_t = (recording.first_t if recording is not None else 0) or 0
    return round(int(first_t * fps / 1e6) * 1e6 / fps)


def _known_times(path: Path, timing: LabelTiming, recording: EventReader | None) -> tuple[np.ndarray | None, str]:
    """Return the times of the images in microseconds and their source; None if they are not known."""
    if timing.times is not None:
        return read_image_times(Path(timing.times), timing.time_unit), f"times of {timing.times}"
    folder, stem = (path, path.name) if path.is_dir() else (path.parent, path.stem)
    files = [folder / "timestamps.txt", path.parent / f"{stem}_timestamps.txt", path.parent / "timestamps.txt"]
    if recording is not None:
        files.append(recording.path.with_name(f"{recording.path.stem.removesuffix('_td')}_timestamps.txt"))
    for file in files:
        if file.is_file():
            return read_image_times(file, timing.time_unit), f"times of {file}"
    stored = recording.frame_times() if recording is not None else np.zeros(0, np.int64)
    return (stored, "times of the images in the recording") if stored.size else (None, "")


def _check_index(index: np.ndarray, first: int, count: int, source: str) -> None:
    if index.size and not count:
        raise ValueError(f"{source}: there is no time, allowed: one time per image")
    if index.size and not 0 <= index.min() <= index.max() < count:
        wrong = index[(index < 0) | (index >= count)][0] + first
        raise ValueError(
            f"{source}: there is no time of image {wrong}, allowed: images {first} to {first + count - 1}; "
            "set the number of the first image by --label_first_image"
        )


def _npy_rows(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        times = np.lib.format.read_array(file, allow_pickle=False)
    return times.reshape(-1, 1)


def _text_rows(path: Path) -> np.ndarray:
    """Read the leading numbers of each line, at most two, as an (N, 1) or (N, 2) array."""
    rows: list[list[float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines()):
        entries = [entry for entry in re.split(r"[,;\s]+", line.strip()) if entry]
        if not entries or entries[0].startswith("#"):
            continue
        values = _leading_numbers(entries[:2])
        if not values and not rows and number < 2:
            continue  # names of the columns
        if not values or (rows and len(values) != len(rows[0])):
            raise ValueError(f"line {number + 1}: {line.strip()[:60]!r}")
        rows.append(values)
    return np.array(rows) if rows else np.zeros((0, 1), np.int64)


def _leading_numbers(entries: list[str]) -> list[float]:
    values: list[float] = []
    for entry in entries:
        try:
            values.append(int(entry) if re.fullmatch(r"[-+]?\d+", entry) else float(entry))
        except ValueError:
            break
    return values
