"""Parts that readers of label formats share: text files, image numbers, and arrays of boxes."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from detector.events.headers.sensor_size import MAX_SIDE

__all__ = [
    "IMAGE_FILE_LIMIT",
    "NUMBER",
    "SPLIT",
    "find_files",
    "first_heads",
    "image_files",
    "image_number",
    "image_numbers",
    "image_size",
    "images_without_boxes",
    "indexed_names",
    "make_boxes",
    "number",
    "number_names",
    "one_recording",
    "only_value",
    "read_head",
    "read_lines",
    "read_text",
]

HEAD = 65536
"""Number of bytes at the beginning of a file from which its format is recognized."""

IMAGE_FILE_LIMIT = 4 * 2**20
"""Largest size of a file with the labels of a single image in bytes."""

ENDINGS = re.compile(r"([._][A-Za-z]{3,4})?\.rf\.\w+(\.[A-Za-z]\w*)?$|\.[A-Za-z]\w*$", re.ASCII)
"""Matches the suffix of the name of an image, and the ending `_png.rf.<hash>` that Roboflow adds."""

SPLIT = re.compile(r"(?<![a-z])(train|val|test)(ing|id|idation)?(?![a-z])", re.IGNORECASE)
"""Matches names of folders with a part of the images of a recording, such as `valid` and `obj_train_data`."""

DIGITS = re.compile(r"[0-9]+")

NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?(nan|inf|infinity)", re.IGNORECASE)
"""Matches a number. Other than `float`, it does not accept underscores and digits of other scripts."""


def read_head(path: Path) -> str:
    """Return the text at the beginning of a file without an incomplete last line; "" if the file cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(HEAD)
    except OSError:
        return ""
    if len(data) == HEAD and b"\n" in data:
        data = data[: data.rindex(b"\n")]
    return "" if b"\0" in data else data.decode("utf-8-sig", errors="replace")


def read_text(path: Path, limit: int | None = None) -> str:
    """Read a text file in UTF-8, with or without byte order mark.

    Args:
        path: the file.
        limit: largest size in bytes; unlimited if None.

    Raises:
        ValueError: the file is too large or is not a text file in UTF-8.
    """
    with path.open("rb") as file:
        data = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(data) > limit:
        raise ValueError(f"{path.name} is larger than {limit} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: byte {error.start} is not UTF-8, allowed: a text file in UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{path.name} contains NUL bytes, allowed: a text file in UTF-8")
    return text


def read_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that are not blank, without spaces at their ends, each with "line N" for error messages."""
    for count, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if line.strip():
            yield f"line {count}", line.strip()


def number(text: str, where: str) -> float:
    """Return the number in a text, as int if it is written as one.

    Raises:
        ValueError: the text is not a number; the message begins with `where`.
    """
    text = text.strip()
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{where}: got {text[:60]!r}, allowed: a number")
    return int(text) if len(text) < 20 and text.lstrip("+-").isdigit() else float(text)


def make_boxes(columns: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Return structured boxes with one field per column: int64 if all numbers are integers, otherwise float64.

    Args:
        columns: dict from field names to M numbers each.
    """
    arrays = {name: _to_array(values) for name, values in columns.items()}
    size = len(next(iter(arrays.values())))
    boxes = np.zeros(size, [(name, values.dtype) for name, values in arrays.items()])
    for name, values in arrays.items():
        boxes[name] = values
    return boxes


def _to_array(values: Sequence[float]) -> np.ndarray:
    try:
        array = np.array(values, None if len(values) else np.int64)
        return array.astype(np.int64 if array.dtype.kind == "i" else np.float64)
    except OverflowError:  # integers of more than 1024 bits
        raise ValueError("a number is too large, allowed: numbers of 64 bits") from None


def images_without_boxes(images: Iterable[float], boxes: np.ndarray) -> np.ndarray:
    """Return the times or numbers in `images` that no box has, sorted."""
    values = _to_array(list(images))
    return np.setdiff1d(values, boxes["t"]) if boxes.size else np.unique(values)


def image_number(name: str) -> int:
    """Return the last number in the name of an image file, such as 12 for `frames/frame_000012.png`.

    Raises:
        ValueError: the name does not contain a number.
    """
    base = re.split(r"[\\/]", name)[-1]
    found = DIGITS.findall(ENDINGS.sub("", base))
    if not found or len(found[-1]) > 18:
        raise ValueError(f"{base[:80]!r} does not contain an image number, needed: a name such as frame_000012")
    return int(found[-1])


def image_numbers(names: Sequence[str]) -> list[int]:
    """Return `image_number` of each name. Names may be repeated.

    Raises:
        ValueError: a name contains no number, or two different names contain the same number.
    """
    numbers = [image_number(name) for name in names]
    found: dict[int, str] = {}
    for image, name in zip(numbers, names, strict=True):
        if found.setdefault(image, name) != name:
            both = f"{found[image][-80:]} and {name[-80:]}"
            raise ValueError(f"{both} both have the image number {image}, allowed: images of one recording")
    return numbers


def find_files(folder: Path, suffix: str, skipped: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Yield the files with a suffix in a folder and its direct subfolders, in any order.

    Args:
        folder: the folder.
        suffix: end of the names in lower case, such as ".xml".
        skipped: names in lower case of files that are left out. Names that begin with "readme" are left out too.
    """
    folders = []
    for entry in _entries(folder):
        if entry.is_dir():
            folders.append(entry.path)
        elif _is_wanted(entry, suffix, skipped):
            yield Path(entry.path)
    for path in folders:
        yield from (Path(entry.path) for entry in _entries(path) if _is_wanted(entry, suffix, skipped))


def _entries(folder: str | Path) -> Iterator[os.DirEntry]:
    with os.scandir(folder) as entries:
        yield from entries


def _is_wanted(entry: os.DirEntry, suffix: str, skipped: frozenset[str]) -> bool:
    name = entry.name.lower()
    hidden = name.startswith((".", "readme"))
    return name.endswith(suffix) and name not in skipped and not hidden and entry.is_file()


def first_heads(folder: Path, suffix: str, skipped: frozenset[str] = frozenset(), count: int = 8) -> dict[Path, str]:
    """Return the beginnings of the first files that `find_files` yields; an empty dict if this fails."""
    try:
        return {path: read_head(path) for path in islice(find_files(folder, suffix, skipped), count)}
    except OSError:
        return {}


def image_files(folder: Path, suffix: str, skipped: frozenset[str] = frozenset()) -> dict[int, Path]:
    """Return the files with a suffix in a folder and its subfolders by image number, sorted.

    Raises:
        ValueError: there is no such file, a name contains no number, two names contain the same number, or there are
            several subfolders other than those of splits, which are probably those of several recordings.
    """
    found: dict[int, Path] = {}
    for path in find_files(folder, suffix, skipped):
        image = image_number(path.name)
        if image in found:
            names = " and ".join(sorted(str(file.relative_to(folder)) for file in (path, found[image])))
            several = path.parent != found[image].parent
            allowed = "the labels of one recording; give each recording its own folder" if several else ""
            raise ValueError(f"{names} both have the image number {image}, allowed: {allowed or 'one file per image'}")
        found[image] = path
    if not found:
        raise ValueError(f"the folder contains no {suffix} files of images")
    _check_folders({path.parent for path in found.values()} - {folder})
    return dict(sorted(found.items()))


def _check_folders(folders: set[Path]) -> None:
    """Check that several subfolders are those of splits, and not those of several recordings."""
    splits = [SPLIT.search(folder.name) for folder in folders]
    if len({match[1].lower() for match in splits if match}) < len(folders):
        one_recording((folder.name for folder in folders), "folder")


def number_names(names: Sequence[str]) -> tuple[dict[int, str], list[int]]:
    """Number class names in alphabetical order.

    Args:
        names: name of the class of each box.

    Returns:
        Dict from class id to name, and the class id of each box.
    """
    distinct = dict(enumerate(sorted(set(names))))
    ids = {name: key for key, name in distinct.items()}
    return distinct, [ids[name] for name in names]


def indexed_names(path: Path) -> dict[int, str]:
    """Read a file with one class name per line. Line k has the class id k, counted from 0; blank lines have no name."""
    lines = re.split(r"\r\n|\n|\r", read_text(path, limit=2**18))
    return {key: line.strip() for key, line in enumerate(lines) if line.strip()}


def image_size(height: float, width: float, where: str) -> tuple[int, int]:
    """Return the height and width of an image as integers.

    Raises:
        ValueError: they are not whole numbers from 1 to 65536; the message begins with `where`.
    """
    if not all(1 <= side <= MAX_SIDE and side == int(side) for side in (height, width)):
        found = f"{height!s:.20} x {width!s:.20}"
        raise ValueError(f"{where}: got the image size {found}, allowed: whole numbers from 1 to {MAX_SIDE}")
    return int(height), int(width)


def one_recording(names: Iterable[Any], kind: str) -> None:
    """Check that all images belong to one recording.

    Args:
        names: name or id of the recording of each image.
        kind: what the names are, such as "video".

    Raises:
        ValueError: there are two names, which the message states.
    """
    found = sorted({str(name) for name in names})
    if len(found) > 1:
        raise ValueError(
            f"labels of several recordings, {kind} {found[0]:.60} and {kind} {found[1]:.60}, allowed: one; split them "
            "into one file or folder per recording"
        )


def only_value(values: set[Any], text: str) -> Any:
    """Return the only element of a set; None if the set is empty.

    Raises:
        ValueError: there are several elements; the message begins with `text` and names two of them.
    """
    if len(values) > 1:
        first, second = sorted(values)[:2]
        raise ValueError(f"{text} {first} and {second}, allowed: the same in all images")
    return next(iter(values), None)
