"""Folders of YOLO labels: one text file per image with lines `class cx cy w h [score] [track]`, relative to the image.

Exports of CVAT, Label Studio and Roboflow, and the training labels and saved predictions of Ultralytics are read:
https://docs.ultralytics.com/datasets/detect. Lines of polygons become the boxes around them.
"""

import re
from pathlib import Path
from typing import NamedTuple

import yaml

from detector.labels.formats.reading import (
    IMAGE_FILE_LIMIT,
    first_heads,
    image_files,
    images_without_boxes,
    indexed_names,
    make_boxes,
    number,
    read_lines,
    read_text,
)
from detector.labels.formats.writing import (
    box_rows,
    has_scores,
    index_names,
    number_times,
    require_images,
    size_of_images,
    write_folder,
    write_times,
)
from detector.labels.label_format import LabelFile, LabelFormat

__all__ = ["YOLO"]

NOT_LABELS = frozenset(
    {"classes.txt", "labels.txt", "notes.txt", "timestamps.txt", "train.txt", "val.txt", "valid.txt", "test.txt"}
)
"""Text files in the same folder that are not labels of an image."""

LARGEST = 2
"""Largest relative coordinate. Boxes may extend beyond the image, but coordinates in pixels are larger."""

ROW = re.compile(r"\s*[0-9]+(\.0*)?([ \t]+[-+.0-9eE]+){4,}[ \t]*(?=\r|\n|$)")


class _Row(NamedTuple):
    """A line of a file: image, class id, the other values, whether the last one consists of digits, and its place."""

    image: int
    class_id: int
    values: list[float]
    whole_end: bool
    where: str


def _read(path: Path) -> LabelFile:
    files = image_files(path, ".txt", NOT_LABELS)
    rows = [row for image, file in files.items() for row in _read_rows(image, file)]
    return _label_file(rows, list(files), _names(path))


def _read_rows(image: int, file: Path) -> list[_Row]:
    rows = []
    for line, text in read_lines(read_text(file, IMAGE_FILE_LIMIT)):
        where = f"{file.name}, {line}"
        entries = text.split()
        class_id, *values = (number(entry, where) for entry in entries)
        if len(values) < 4:
            raise ValueError(f"{where}: got {len(entries)} numbers, allowed: class cx cy w h, and score and track")
        if class_id != class_id // 1:
            raise ValueError(f"{where}: got the class {entries[0]}, allowed: a whole number")
        rows.append(_Row(image, int(class_id), values, entries[-1].isdigit(), where))
    return rows


def _label_file(rows: list[_Row], images: list[int], names: dict[int, str]) -> LabelFile:
    """Decide what the columns after w and h are, and make boxes.

    Five values are a score, or a track if all are whole and one is above 1. Six values are a score and a track under
    the same condition, or if all tracks are 0 or 1 and all boxes are inside the image. Otherwise, an even number of
    values from six on is a polygon. The values of keypoints are left out.
    """
    fives, sixes = ([row for row in rows if len(row.values) == count] for count in (5, 6))
    five_is_track, six_is_track = map(_ends_are_tracks, (fives, sixes))
    probably_track = bool(sixes) and not six_is_track and all(row.whole_end and _is_inside(row) for row in sixes)
    poses = _counts_of_poses(rows)
    columns: dict[str, list] = {name: [] for name in ("t", *"xywh", "class_id", "class_confidence", "track_id")}
    polygons = keypoints = 0
    for row in rows:
        values, score, track = row.values, 1.0, 0.0
        if len(values) == 5:
            score, track = (1.0, values[4]) if five_is_track else (values[4], 0.0)
        elif len(values) == 6 and (six_is_track or probably_track):
            score, track = values[4:]
        elif len(values) in poses:
            keypoints += 1
        elif len(values) > 4:
            values = _around_polygon(row)
            polygons += 1
        _check_relative(values[:4], row.where)
        cx, cy, w, h = values[:4]
        box = (row.image, cx - w / 2, cy - h / 2, w, h, row.class_id, score, track)
        for column, value in zip(columns.values(), box, strict=True):
            column.append(value)
    if not any(columns["track_id"]):
        columns.pop("track_id")
    boxes = make_boxes(columns)
    notes = [f"{polygons} polygons were replaced by the boxes around them"] * bool(polygons)
    notes += [f"keypoints of {keypoints} boxes are not used"] * bool(keypoints)
    notes += ["lines of 7 numbers are boxes with score and track, not triangles"] * probably_track
    return LabelFile(boxes, names, (1, 1), images_without_boxes(images, boxes), True, notes=tuple(notes))


def _ends_are_tracks(rows: list[_Row]) -> bool:
    """Return whether the last values are whole numbers of which one is larger than a score or coordinate."""
    return all(row.whole_end for row in rows) and any(row.values[-1] > 1 for row in rows)


def _is_inside(row: _Row) -> bool:
    """Return whether a box is inside the image except for rounding, which is rare for the values of a polygon."""
    return all(
        size / 2 - 0.001 <= center <= 1.001 - size / 2
        for center, size in zip(row.values[:2], row.values[2:4], strict=True)
    )


def _counts_of_poses(rows: list[_Row]) -> set[int]:
    """Return the numbers of values 4 + 3k of lines with k keypoints x, y, v, where v is 0, 1 or 2 in all of them."""
    counts = {len(row.values) for row in rows if len(row.values) > 6 and len(row.values) % 3 == 1}
    return counts - {len(row.values) for row in rows if not set(row.values[6::3]) <= {0, 1, 2}}


def _around_polygon(row: _Row) -> list[float]:
    x, y = row.values[::2], row.values[1::2]
    if len(x) != len(y):
        raise ValueError(
            f"{row.where}: got {len(row.values) + 1} numbers, allowed: class cx cy w h, and score and "
            "track, or class and pairs of x and y"
        )
    return [(min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)]


def _check_relative(values: list[float], where: str) -> None:
    wrong = next((value for value in values if not -LARGEST <= value <= LARGEST), None)
    if wrong is not None:
        raise ValueError(
            f"{where}: got {wrong:g}, which looks like pixels, allowed: coordinates divided by the size "
            "of the image, from 0 to 1"
        )


def _names(folder: Path) -> dict[int, str]:
    """Read class names from `classes.txt`, `obj.names` or `data.yaml` in the folder or one of the two above it."""
    for place in (folder, folder.parent, folder.parent.parent):
        for name in ("classes.txt", "obj.names", "data.yaml"):
            file = place / name
            if file.is_file():
                return _yaml_names(file) if name == "data.yaml" else indexed_names(file)
    return {}


def _yaml_names(file: Path) -> dict[int, str]:
    """Return the entry `names` of a YAML file. Texts such as "no" stay texts, and aliases are not expanded."""
    try:
        root = yaml.compose(read_text(file, limit=2**17), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{file.name} is not a YAML file: {reason}") from None
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    found = next((value for key, value in entries if key.value == "names"), None)
    if isinstance(found, yaml.SequenceNode):
        pairs = list(enumerate(found.value))
    elif isinstance(found, yaml.MappingNode):
        pairs = [(int(number(str(key.value), f"{file.name}: key of names")), value) for key, value in found.value]
    else:
        return {}
    if not all(isinstance(value, yaml.ScalarNode) for _, value in pairs):
        raise ValueError(f"{file.name}: names contains lists, allowed: a list of names, or names by class id")
    return {key: value.value for key, value in pairs}


def _matches(path: Path) -> bool:
    """Return whether the first files have lines of labels. Files without lines are images without boxes."""
    heads = first_heads(path, ".txt", NOT_LABELS)
    return bool(heads) and all(
        any(sign.isdigit() for sign in file.stem) and (not head.strip() or ROW.match(head) is not None)
        for file, head in heads.items()
    )


def _write(path: Path, content: LabelFile) -> None:
    """Write a folder with a file per image, `classes.txt` and `timestamps.txt`.

    The files are those that Ultralytics uses for training: the format has no place for tracks, and scores are written
    only if one of them is not 1.
    """
    require_images(content)
    height, width = size_of_images(content, "YOLO")
    times, image_of_box = number_times(content)
    names = ("class_id", *"xywh", *["class_confidence"] * has_scores(content.boxes))
    lines: list[list[str]] = [[] for _ in times]
    for image, (class_id, x, y, w, h, *score) in zip(image_of_box, box_rows(content.boxes, *names), strict=True):
        values = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height, *score)
        lines[image].append(" ".join([str(int(class_id)), *map(repr, values)]) + "\n")
    classes = index_names(content.names)
    with write_folder(path) as folder:
        for image, text in enumerate(lines):
            (folder / f"frame_{image:06d}.txt").write_text("".join(text))
        if classes:
            (folder / "classes.txt").write_text(classes, encoding="utf-8")
        write_times(folder / "timestamps.txt", times)


YOLO = LabelFormat(
    "_labels",
    _read,
    (
        "{stem}_yolo",
        "{stem}/labels",
        "{stem}/labels/train",
        "{stem}/obj_train_data",
        "{stem}/train/labels",
        "{stem}",
        "labels",
        "obj_train_data",
        "train/labels",
    ),
    _matches,
    _write,
    is_folder=True,
)
"""Folders of YOLO labels; the paths are those of exports from CVAT, Label Studio, Roboflow and Ultralytics."""
