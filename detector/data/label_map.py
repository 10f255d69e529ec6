"""The label map of a dataset: `label_map_dictionary.json`, class ids and their names."""

import json
from pathlib import Path

from detector.config.groups import DataConfig

__all__ = ["LABEL_MAP_NAME", "class_names", "parse_label_map", "read_label_map"]

LABEL_MAP_NAME = "label_map_dictionary.json"


def read_label_map(path: str | Path) -> dict[int, str]:
    """Class ids and names of a `label_map_dictionary.json` (`{"0": "pedestrian", ...}`), by id.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a JSON object from ids to names.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such label map; a dataset folder holds one, see `evforge build`")
    return parse_label_map(path.read_text(), str(path))


def parse_label_map(text: str, source: str) -> dict[int, str]:
    """The label map in a JSON text; `source` names it in the error. Otherwise as `read_label_map`."""
    try:
        label_map = {int(key): str(name) for key, name in json.loads(text).items()}
    except (ValueError, AttributeError):
        raise ValueError(f'{source}: not a label map, which looks like {{"0": "pedestrian", "1": "car"}}') from None
    return dict(sorted(label_map.items()))


def class_names(data: DataConfig) -> list[str]:
    """Names of the classes 1..K: `data.classes`, or all names of the dataset's label map except "empty".

    Raises:
        FileNotFoundError: the dataset has no label map.
        ValueError: it is not a JSON object from ids to names.
    """
    if data.classes:
        return list(data.classes)
    return [name for name in read_label_map(Path(data.dataset_path) / LABEL_MAP_NAME).values() if name != "empty"]
