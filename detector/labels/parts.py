"""Find the other parts of an export of labels that is divided into splits, as those of Roboflow and CVAT."""

from pathlib import Path

from detector.labels.find import EVENT_SUFFIXES, recording_stem
from detector.labels.formats.reading import SPLIT

__all__ = ["unused_parts"]


def unused_parts(path: Path, recording: Path | None = None) -> list[Path]:
    """Return the other parts of an export, such as `valid/labels` for `train/labels`.

    Labels in a folder `train` that contains recordings have no other parts in a folder `valid`.

    Args:
        path: label file, or folder of label files.
        recording: the recording of the labels, if it is known.
    """
    if path.suffix == ".npy" or not path.exists():
        return []
    found = [] if _has_recording_name(path, recording) else _same_names(path)
    if not _recordings(path.parent, recording):
        found += [folder / path.name for folder in _same_names(path.parent)]
    return [other for other in found if (other.is_dir() if path.is_dir() else other.is_file())]


def _same_names(path: Path) -> list[Path]:
    """Return the other paths in a folder whose names differ only in the split, such as `b_val` for `b_train`."""
    split = SPLIT.search(path.name)
    if split is None:
        return []
    ends = path.name[: split.start()], path.name[split.end() :]
    found = [(SPLIT.search(other.name), other) for other in sorted(path.parent.iterdir()) if other != path]
    return [
        other
        for match, other in found
        if match is not None and (other.name[: match.start()], other.name[match.end() :]) == ends
    ]


def _has_recording_name(path: Path, recording: Path | None) -> bool:
    """Return whether the name of labels begins with that of a recording beside them, such as `train_labels/`."""
    return any(path.name.startswith(recording_stem(file)) for file in _recordings(path.parent, recording))


def _recordings(folder: Path, recording: Path | None) -> list[Path]:
    files = [file for file in folder.iterdir() if file.suffix in EVENT_SUFFIXES]
    known = recording is not None and recording.resolve().parent == folder.resolve()
    return [*files, recording] if known and recording is not None else files
