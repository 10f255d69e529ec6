"""The label map of a dataset, `label_map_dictionary.json`, which gives each class id a name."""

import json
import re
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import TypeVar

from detector.config.class_names import check_class_names, metric_name
from detector.config.groups import DataConfig
from detector.utils.remote import Address, Place

__all__ = [
    "LABEL_MAP_NAME",
    "check_label_map",
    "class_names",
    "label_map_path",
    "metric_name",
    "parse_label_map",
    "read_label_map",
]

File = TypeVar("File", Path, Address)

LABEL_MAP_NAME = "label_map_dictionary.json"

MAX_ID = 999_999
"""Largest allowed class id. It limits the size of tables with an entry for each class id."""


def label_map_path(path: File) -> File | None:
    """Return the path of the label map in the folder of a file or one folder above; None if there is no label map."""
    folder = path.absolute().parent
    return next((file for file in (folder / LABEL_MAP_NAME, folder.parent / LABEL_MAP_NAME) if file.is_file()), None)


def read_label_map(path: str | Place) -> dict[int, str]:
    """Read a `label_map_dictionary.json`, such as `{"0": "pedestrian", "1": "car"}`.

    Returns:
        Dict from class id to name, sorted by id.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a JSON object with ids as keys and distinct names as values.
    """
    path = Path(path) if isinstance(path, str) else path
    if not path.is_file():
        raise FileNotFoundError(
            f'{path}: no such label map, which is a JSON file that contains {{"0": "pedestrian"}} for example; '
            "`evforge build` writes one to the dataset folder"
        )
    with path.open("rb") as file:
        return parse_label_map(file.read(), str(path))


def parse_label_map(text: str | bytes, source: str) -> dict[int, str]:
    """Parse the JSON text (UTF-8) of a label map; return a dict from class id to name, sorted by id.

    Raises:
        ValueError: the text is not a JSON object with ids as keys and distinct names as values; the message begins with
            `source`.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        pairs = json.loads(text, object_pairs_hook=list)
        ids, names = [int(key) for key, _ in pairs], [name for _, name in pairs]
        if not text.lstrip().startswith("{") or not all(re.fullmatch("-?[0-9]+", key) for key, _ in pairs):
            raise ValueError("not an object of ids")
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f'{source}: not a label map, which is an object {{"0": "pedestrian", "1": "car"}}') from None
    if len(set(ids)) < len(ids):
        twice = next(key for key in ids if ids.count(key) > 1)
        raise ValueError(f"{source}: class id {twice} has several names, allowed: one name per id")
    return check_label_map(dict(zip(ids, names, strict=True)), source)


def check_label_map(label_map: Mapping[int, str], source: str) -> dict[int, str]:
    """Check a label map and return it sorted by id.

    Raises:
        ValueError: an id is not a whole number from 0 to `MAX_ID`, a name is not allowed, or two ids have the same
            name. The message begins with `source`.
    """
    whole = all(isinstance(key, Integral) and 0 <= key <= MAX_ID for key in label_map)
    if not whole or len({str(name) for name in label_map.values()}) < len(label_map):
        raise ValueError(f"{source}: classes are {dict(label_map)}, allowed: distinct names for ids from 0 to {MAX_ID}")
    check_class_names(source, label_map.values())
    return {int(key): label_map[key] for key in sorted(label_map)}


def class_names(data: DataConfig) -> list[str]:
    """Return the names of the classes 1..K.

    These are `data.classes` if it is set, otherwise all names in the dataset's label map except "empty".

    Raises:
        FileNotFoundError: the dataset has no label map.
        ValueError: the label map is not a JSON object with ids as keys and distinct names as values.
    """
    if data.classes:
        return list(data.classes)
    return [name for name in read_label_map(Path(data.dataset_path) / LABEL_MAP_NAME).values() if name != "empty"]
