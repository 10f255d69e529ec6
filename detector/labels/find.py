"""Find the label file of a recording."""

from collections.abc import Iterator
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple, overload

from detector.config.extensions import LABEL_FORMATS
from detector.labels.label_format import LabelFormat, find_format
from detector.utils.remote import Address, Place

__all__ = [
    "FoundLabels",
    "detect_format",
    "find_labels",
    "is_prediction",
    "labels_path",
    "recording_stem",
    "searched_names",
]

EVENT_SUFFIXES = (".raw", ".dat", ".h5", ".hdf5", ".npz", ".aedat", ".aedat4", ".bag", ".mcap", ".db3", ".es", ".bin")
"""Suffixes of files that are recordings and no label files."""


class FoundLabels(NamedTuple):
    """Labels that were found beside a recording.

    Args:
        path: label file, or folder of label files
        label_format: name of the format
        others: other labels of this recording, which are not used
    """

    path: Place
    label_format: str
    others: tuple[Path, ...] = ()


def recording_stem(recording: Place) -> str:
    """Return the name of a recording without its suffix and without `_td`.

    The names of the label file and the tensor files of the recording begin with this stem.
    """
    return recording.stem.removesuffix("_td")


@overload
def labels_path(recording: Path, label_format: str = "auto") -> Path: ...
@overload
def labels_path(recording: Place, label_format: str = "auto") -> Place: ...
def labels_path(recording: Place, label_format: str = "auto") -> Place:
    """Return the path of the labels of a recording. If there are none, return the path at which they are expected.

    Args:
        recording: path or address of the recording.
        label_format: name or import path of a `LabelFormat`; "auto" searches labels of all built-in formats.

    Raises:
        ValueError: the format does not exist.
    """
    if isinstance(recording, Path):
        found = find_labels(recording, label_format)
        if found is not None:
            return found.path
    suffix = find_format("npy" if label_format == "auto" else label_format).suffix
    return recording.parent / f"{recording_stem(recording)}{suffix}"


def find_labels(recording: Place, label_format: str = "auto") -> FoundLabels | None:
    """Search the labels of a recording in its folder.

    The paths and the formats are tried in a fixed order: names with the name of the recording before names that belong
    to a whole folder, detections of a model last. The content must fit the format. If no content fits, a file with the
    usual name of a format is returned, so that reading it tells what is wrong. At a remote address, only files are
    found and not folders.

    Args:
        recording: path or address of the recording.
        label_format: name or import path of a `LabelFormat`; "auto" searches labels of all built-in formats.

    Returns:
        The first labels in this order; None if there are no labels.

    Raises:
        ValueError: the format does not exist.
    """
    candidates = _candidates(recording, label_format)
    if isinstance(recording, Address):
        first = next(candidates, None)
        return None if first is None else FoundLabels(*first)
    found = sorted(candidates, key=lambda candidate: is_prediction(candidate[0]))
    if not found:
        return None
    others = dict.fromkeys(path for path, _ in found if isinstance(path, Path) and path != found[0][0])
    return FoundLabels(*found[0], tuple(others))


def is_prediction(path: Place) -> bool:
    """Return whether a file of boxes was written by `detector.inference`, which stores the processed frames."""
    if not isinstance(path, Path) or not path.is_file():
        return False
    if path.suffix.lower() != ".json":
        return Path(f"{path}.frames.json").is_file()
    with suppress(OSError, ValueError), path.open("rb") as file:  # an empty file cannot be mapped
        return mmap(file.fileno(), 0, access=ACCESS_READ).find(b'"num_frames"') >= 0
    return False


def detect_format(path: Path) -> str:
    """Return the name of the format of a label file or folder from its content.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: no built-in format matches.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such label file")
    for name, format_ in _formats("auto").items():
        if format_.matches is not None and _fits(path, format_):
            return name
    raise ValueError(
        f"{path}: not a label file or folder of a known format, allowed: {', '.join(LABEL_FORMATS)}, or an import path "
        f"in {LABEL_FORMATS.key}"
    )


def searched_names(recording: Place, label_format: str = "auto") -> str:
    """Return the names of label files and folders of a recording as text, for error messages: one for each format."""
    stem = recording_stem(recording)
    names = (f"{stem}{format_.suffix}{'/' * format_.is_folder}" for format_ in _formats(label_format).values())
    return ", ".join(dict.fromkeys(names))


def _formats(label_format: str) -> dict[str, LabelFormat]:
    names = LABEL_FORMATS if label_format == "auto" else (label_format,)
    return {name: find_format(name) for name in names}


def _candidates(recording: Place, label_format: str) -> Iterator[tuple[Place, str]]:
    """Yield the existing labels of a recording with their formats, in the order in which they are preferred."""
    stem, formats = recording_stem(recording), _formats(label_format)
    own = [(f"{stem}{format_.suffix}", name) for name, format_ in formats.items()]
    own += [(text, name) for name, format_ in formats.items() for text in format_.patterns if "{stem}" in text]
    shared = [(text, name) for name, format_ in formats.items() for text in format_.patterns if "{stem}" not in text]
    for text, name in own:
        path = recording.parent / text.replace("{stem}", stem)
        if path != recording and _fits(path, formats[name], sniff=label_format == "auto"):
            yield path, name
    if isinstance(recording, Address):
        return
    for text, name in shared:
        path = recording.parent / text
        if path != recording and _fits(path, formats[name]) and _is_alone(recording):
            yield path, name
    for name, format_ in formats.items():
        path = recording.parent / f"{stem}{format_.suffix}"
        if format_.suffix.startswith("_") and _fits(path, format_, sniff=False):
            yield path, name


def _fits(path: Place, format_: LabelFormat, *, sniff: bool = True) -> bool:
    if isinstance(path, Address):
        return not format_.is_folder and path.is_file()
    if not (path.is_dir() if format_.is_folder else path.is_file()):
        return False
    return not sniff or format_.matches is None or format_.matches(path)


def _is_alone(recording: Path) -> bool:
    """Return whether a recording is the only one in its folder, so that labels in this folder belong to it."""
    stem = recording_stem(recording)
    suffixes = {recording.suffix, *EVENT_SUFFIXES}
    formats = _formats("auto").values()
    return not any(
        path.suffix in suffixes
        and recording_stem(path) != stem
        and not any(_fits(path, format_) for format_ in formats if format_.matches is not None)
        for path in recording.parent.iterdir()
        if path.is_file()
    )
