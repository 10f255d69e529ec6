"""Determine the label map of a dataset: given, beside the recordings, or from the names in the label files."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from detector.data.builder.plan import BROKEN
from detector.data.builder.source import Source
from detector.data.label_map import LABEL_MAP_NAME, check_label_map, label_map_path, read_label_map
from detector.labels import LabelFile, read_labels
from detector.labels.load import EMPTY, add_empty, join_names
from detector.utils.remote import Address, Place

__all__ = ["find_label_map"]

MAX_IDS = 10
"""Largest number of class ids that an error message lists."""

EXAMPLE_NAMES = ("pedestrian", "car")
"""Names in the example of a label map in an error message."""


def find_label_map(
    sources: Sequence[Source], output: Place, given: Mapping[int, str] | None, label_format: str = "auto"
) -> dict[int, str]:
    """Return the label map of the dataset.

    This is `given`, or else the label map beside the recordings or one folder above, or else the classes that the label
    files name. If several label maps are found, they must be equal. This includes a label map that is already in
    `output`. If images without boxes were labelled, the class "empty" is added.

    Raises:
        FileNotFoundError: `given` is None, and a recording or its labels do not exist, or nothing names its classes.
        ValueError: a label map is not valid, two label maps differ, or the label map is empty. Or `given` is None, and
            the labels of all recordings without a label map cannot be read.
    """
    found = {} if given is None else {"label_map": check_label_map(given, "label_map")}
    missing = []
    for source in sources if given is None else ():
        path = label_map_path(source.recording)  # type: ignore[type-var]
        if path is None:
            missing.append(source)
        elif str(path) not in found:
            found[str(path)] = read_label_map(path)
    contents = {source: _read_labels(source, label_format) for source in sources}
    files = [content for content in contents.values() if isinstance(content, LabelFile)]
    joined = _names_of_files({source: contents[source] for source in missing}, bool(found)) if missing else {}
    if joined:
        found["the label files"] = joined
    if (output / LABEL_MAP_NAME).is_file():
        found[str(output / LABEL_MAP_NAME)] = read_label_map(output / LABEL_MAP_NAME)
    (source_name, first), *others = found.items()
    for other, names in others:
        if _without_empty(names) != _without_empty(first):
            raise ValueError(f"{other}: label map {names} differs from {first} of {source_name}, allowed: one for all")
        first = max(first, names, key=len)
    if not first:
        raise ValueError(f"{source_name}: the label map is empty, allowed: at least one class")
    return add_empty(first, files)


def _names_of_files(contents: Mapping[Source, LabelFile | Exception | None], others: bool) -> dict[int, str]:
    """Return the classes that label files name. Label files that cannot be read are ignored if there are others.

    Args:
        contents: result of `_read_labels` for each recording without a label map.
        others: whether other recordings have a label map. Recordings without one are then an error.

    Raises:
        FileNotFoundError: the labels of a recording do not name its classes.
        ValueError: the labels cannot be read, or the names are not valid.
    """
    for source, content in contents.items():
        if not isinstance(content, Exception) and (others or content is None or not content.names):
            raise _no_label_map(source, content)
    joined = join_names(content for content in contents.values() if isinstance(content, LabelFile))
    if not joined and not others:
        raise next(content for content in contents.values() if isinstance(content, Exception))
    return check_label_map(joined, "the label files")


def _without_empty(names: Mapping[int, str]) -> dict[int, str]:
    return {key: name for key, name in names.items() if name != EMPTY}


def _read_labels(source: Source, label_format: str) -> LabelFile | Exception | None:
    """Read the labels of a source. Return None for labels at a remote address.

    If the labels cannot be read, the error is returned and not raised, because the build may skip this recording.
    """
    recording = source.recording
    if isinstance(recording, Address):
        return None
    if not recording.exists():
        return FileNotFoundError(f"{recording}: no such recording, allowed: a file, or a pattern that matches files")
    try:
        found = source.find_labels(label_format)
        return read_labels(str(found.path), found.label_format)
    except BROKEN as error:
        return error


def _no_label_map(source: Source, content: LabelFile | None) -> FileNotFoundError:
    """Return the error for a recording whose classes nothing names. It shows a label map for the ids in its labels."""
    ids = [] if content is None or "class_id" not in (content.boxes.dtype.names or ()) else _ids(content.boxes)
    listed = ", ".join(f"{key:g}" for key in ids[:MAX_IDS]) + (", ..." if len(ids) > MAX_IDS else "")
    pairs = dict(zip((f"{key:g}" for key in ids or [0]), EXAMPLE_NAMES, strict=False))
    example = json.dumps(pairs)[:-1] + (", ...}" if len(ids) > len(pairs) else "}")
    named = content is not None and content.names
    reason = "but other recordings have one" if named else "and its labels do not name classes"
    return FileNotFoundError(
        f"{source.recording}: no {LABEL_MAP_NAME} beside it or one folder above, {reason}"
        f"{f' (class ids: {listed})' if ids else ''}; give --label_map '{example}' with the names of your classes, "
        "or put a file with this text there"
    )


def _ids(boxes: np.ndarray) -> list[float]:
    return np.unique(boxes["class_id"]).tolist()
