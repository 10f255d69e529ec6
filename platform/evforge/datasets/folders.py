"""Recordings in a folder: what the verbs build, inspect and check read if a folder is given."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from detector.config.groups import DEFAULT_DATA, DataConfig
from detector.data.check.inventory import SUFFIXES, DataFile, Sensor, find_data
from detector.labels import LabelTiming

__all__ = ["expand_folders", "find_files", "find_recordings"]

OTHER_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".txt", ".xml", ".yaml", ".yml", ".md", ".pdf", ".mp4", ".gif")
"""Suffixes of files beside recordings, which are not recordings even if `data.event_format` names a format."""


def find_recordings(folder: Path, data: DataConfig = DEFAULT_DATA) -> list[Path]:
    """Find the recordings in a folder and all its subfolders, and print their number to standard error.

    Label files, images, tensor files and hidden files are not recordings.

    Args:
        folder: the folder.
        data: formats of recordings and labels. If `data.event_format` is not "auto", recordings may have any suffix.

    Raises:
        ValueError: there is no recording.
    """
    files = list(dict.fromkeys(_walk(folder, data)))
    found = [file.path for file in files if not file.is_tensor and file.path.suffix.lower() not in OTHER_SUFFIXES]
    if not found:
        reason = f"{len(files)} tensor files and no recording" if files else "no recording"
        wanted = f"files that end in {', '.join(SUFFIXES)}"
        if data.event_format != "auto":
            wanted = f"files in the format {data.event_format}"
        raise ValueError(f"{folder}: {reason} in it or in its subfolders, allowed: a folder with recordings ({wanted})")
    print(f"{folder}: {len(found)} recording{'s' * (len(found) > 1)} found", file=sys.stderr, flush=True)
    return found


def find_files(path: Path, sensor: Sensor, timing: LabelTiming, data: DataConfig) -> list[DataFile]:
    """Find the files of a dataset as `detector.data.check.inventory.find_data`, or else the recordings in subfolders.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the folder and its subfolders contain no recording or tensor file.
    """
    return [file for part in expand_folders([str(path)], data) for file in find_data(part, sensor, timing, data)]


def expand_folders(paths: Sequence[str], data: DataConfig) -> list[str]:
    """Replace each folder that has recordings only in its subfolders by these recordings. Other paths are unchanged.

    Raises:
        ValueError: a folder and its subfolders contain no recording or tensor file.
    """
    found: list[str] = []
    for path in paths:
        is_other = Path(path).is_dir() and not _files_of(Path(path), data)
        found += map(str, find_recordings(Path(path), data)) if is_other else [path]
    return found


def _walk(folder: Path, data: DataConfig) -> Iterator[DataFile]:
    yield from _files_of(folder, data)
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            yield from _walk(child, data)


def _files_of(folder: Path, data: DataConfig) -> list[DataFile]:
    with suppress(ValueError):  # there is no recording or tensor file in the folder itself
        return find_data(folder, data=data)
    return []
