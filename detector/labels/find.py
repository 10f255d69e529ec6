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
    "frames_file",
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
        return frames_file(path).is_file()
    with suppress(OSError, ValueError), path.open("rb") as file:  # an empty file cannot be mapped
        return mmap(file.fileno(), 0, access=ACCESS_READ).find(b'"num_frames"') >= 0
    return False


def frames_file(path: Path) -> Path:
    """Return the path at which `detector.inference` stores the processed frames of an NPY or CSV file of boxes."""
    return Path(f"{path}.frames.json")


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
    """Return the names of labels of a recording as text, for error messages about a recording without labels.

    For each format, the text contains a name that begins with the name of the recording, and one that belongs to a
    whole folder; for a single format, all names of the second kind. If the folder contains labels of the second kind,
    but also several recordings, the text names these labels and the name that they need to belong to this recording.

    Args:
        recording: path or address of the recording.
        label_format: name or import path of a `LabelFormat`; "auto" for all built-in formats.
    """
    stem, formats = recording_stem(recording), _formats(label_format).values()
    if isinstance(recording, Address):
        return ", ".join(dict.fromkeys(_shown(f"{stem}{each.suffix}", each) for each in formats if not each.is_folder))
    found = next(
        ((text, each) for each in formats for text in _shared(each) if _fits(recording.parent / text, each)), None
    )
    others = 0 if found is None else len(set(_other_recordings(recording)))
    if found is not None and others:
        text, each = found
        given, wanted = _shown(text, each), _shown(f"{stem}{each.suffix}", each)
        return f"{wanted} instead of {given}, which could belong to any of the {others + 1} recordings in this folder"
    own = dict.fromkeys(_shown(f"{stem}{each.suffix}", each) for each in formats)
    count = 1 if label_format == "auto" else None
    shared = dict.fromkeys(_shown(text, each) for each in formats for text in _shared(each)[:count])
    return ", ".join(own) + (f", or in a folder with one recording {', '.join(shared)}" if shared else "")


def _shown(name: str, format_: LabelFormat) -> str:
    """Return a name as it is shown in messages, in which names of folders end with a slash."""
    return f"{name}/" if format_.is_folder else name


def _shared(format_: LabelFormat) -> list[str]:
    """Return the paths of labels that belong to the only recording of a folder."""
    return [text for text in format_.patterns if "{stem}" not in text]


def _formats(label_format: str) -> dict[str, LabelFormat]:
    names = LABEL_FORMATS if label_format == "auto" else (label_format,)
    return {name: find_format(name) for name in names}


def _candidates(recording: Place, label_format: str) -> Iterator[tuple[Place, str]]:
    """Yield the existing labels of a recording with their formats, in the order in which they are preferred."""
    stem, formats = recording_stem(recording), _formats(label_format)
    own = [(f"{stem}{format_.suffix}", name) for name, format_ in formats.items()]
    own += [(text, name) for name, format_ in formats.items() for text in format_.patterns if "{stem}" in text]
    shared = [(text, name) for name, format_ in formats.items() for text in _shared(format_)]
    for text, name in own:
        path = recording.parent / text.replace("{stem}", stem)
        if path != recording and _fits(path, formats[name], sniff=label_format == "auto"):
            yield path, name
    if isinstance(recording, Address):
        return
    for text, name in shared:
        path = recording.parent / text
        if path != recording and _fits(path, formats[name]) and next(_other_recordings(recording), None) is None:
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


def _other_recordings(recording: Path) -> Iterator[str]:
    """Yield the stems of the other recordings in the folder of a recording. Labels in it may belong to these."""
    stem = recording_stem(recording)
    suffixes = {recording.suffix, *EVENT_SUFFIXES}
    formats = [format_ for format_ in _formats("auto").values() if format_.matches is not None]
    for path in recording.parent.iterdir():
        other = recording_stem(path)
        if path.suffix in suffixes and other != stem and path.is_file() and not any(_fits(path, f) for f in formats):
            yield other
