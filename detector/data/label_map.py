"""The label map of a dataset: `label_map_dictionary.json`, class ids and their names."""

import json
import re
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path

from detector.config.class_names import check_class_names, metric_name
from detector.config.groups import DataConfig

__all__ = ["LABEL_MAP_NAME", "check_label_map", "class_names", "metric_name", "parse_label_map", "read_label_map"]

LABEL_MAP_NAME = "label_map_dictionary.json"

MAX_ID = 999_999
"""Class ids index a table of all ids up to the largest."""


def read_label_map(path: str | Path) -> dict[int, str]:
    """Class ids and names of a `label_map_dictionary.json` (`{"0": "pedestrian", ...}`), by id.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a JSON object from ids to distinct names.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such label map; a dataset folder holds one, see `evforge build`")
    return parse_label_map(path.read_bytes(), str(path))


def parse_label_map(text: str | bytes, source: str) -> dict[int, str]:
    """The label map in a JSON text (UTF-8); `source` names it in the error. Otherwise as `read_label_map`."""
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        pairs = json.loads(text, object_pairs_hook=list)
        ids, names = [int(key) for key, _ in pairs], [name for _, name in pairs]
        if not text.lstrip().startswith("{") or not all(re.fullmatch("-?[0-9]+", key) for key, _ in pairs):
            raise ValueError("not an object of ids")
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f'{source}: not a label map, which looks like {{"0": "pedestrian", "1": "car"}}') from None
    if len(set(ids)) < len(ids):
        twice = next(key for key in ids if ids.count(key) > 1)
        raise ValueError(f"{source}: class id {twice} has several names, allowed: one name per id")
    return check_label_map(dict(zip(ids, names, strict=True)), source)


def check_label_map(label_map: Mapping[int, str], source: str) -> dict[int, str]:
    """A label map sorted by id.

    Raises:
        ValueError: an id or name is not allowed, or two ids share a name; the message begins with `source`.
    """
    whole = all(isinstance(key, Integral) and 0 <= key <= MAX_ID for key in label_map)
    if not whole or len({str(name) for name in label_map.values()}) < len(label_map):
        raise ValueError(f"{source}: classes are {dict(label_map)}, allowed: distinct names for ids from 0 to {MAX_ID}")
    check_class_names(source, label_map.values())
    return {int(key): label_map[key] for key in sorted(label_map)}


def class_names(data: DataConfig) -> list[str]:
    """Names of the classes 1..K: `data.classes`, or all names of the dataset's label map except "empty".

    Raises:
        FileNotFoundError: the dataset has no label map.
        ValueError: it is not a JSON object from ids to names.
    """
    if data.classes:
        return list(data.classes)
    return [name for name in read_label_map(Path(data.dataset_path) / LABEL_MAP_NAME).values() if name != "empty"]
