"""Label files in CSV with a header: one line per box, as written by `evforge predict` and by many tools.

The header names the columns; several names are accepted for each. A line whose box is blank stands for an image without
boxes.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.config.label_timing import TimeUnit
from detector.labels.formats.reading import (
    NUMBER,
    image_numbers,
    image_size,
    images_without_boxes,
    make_boxes,
    number,
    number_names,
    one_recording,
    only_value,
    read_head,
    read_text,
)
from detector.labels.formats.writing import box_rows, has_tracks
from detector.labels.label_format import LabelFile, LabelFormat
from detector.utils.atomic_write import atomic_write

__all__ = ["CSV"]

UNITS: tuple[TimeUnit, ...] = ("us", "ms", "s", "ns")

TIMES: dict[str, TimeUnit | None] = {
    f"{name}_{unit}" if unit else name: unit for name in ("t", "ts", "time", "timestamp") for unit in (None, *UNITS)
}
"""Accepted names of the column of times, with the unit that they state."""

IMAGES = (
    *("frame", "frame_id", "frame_number", "frame_index", "frame_idx"),
    *("image", "image_id", "image_number", "image_index"),
)

FILES = ("filename", "file_name", "image_name", "image_path")
"""Accepted names of the column of names of image files, which contain the image number."""

COLUMNS = {
    "left": ("x", "left", "x1", "xmin", "x_min", "bb_left", "bbox_x"),
    "top": ("y", "top", "y1", "ymin", "y_min", "bb_top", "bbox_y"),
    "right": ("right", "x2", "xmax", "x_max"),
    "bottom": ("bottom", "y2", "ymax", "y_max"),
    "w": ("w", "bb_width", "bbox_width", "bbox_w", "width"),
    "h": ("h", "bb_height", "bbox_height", "bbox_h", "height"),
    "cx": ("cx", "x_center", "center_x", "xc"),
    "cy": ("cy", "y_center", "center_y", "yc"),
    "class": ("class_id", "category_id", "class", "label", "category", "class_name", "category_name", "label_name"),
    "name": ("class_name", "category_name", "label_name"),
    "track": ("track_id", "track", "object_id", "id"),
    "score": ("class_confidence", "score", "confidence", "conf", "probability"),
}
"""Accepted names of the other columns, preferred ones first."""

VIDEOS = (
    *("video", "video_id", "video_name", "sequence", "sequence_id", "sequence_name"),
    *("recording", "recording_id"),
)
"""Names of columns that state the recording of each line."""

IMAGE_SIZE = {"height", "width"}
"""Columns that contain the image size if others contain the size of the box."""

FORMS = (("left", "top", "right", "bottom"), ("cx", "cy", "w", "h"), ("left", "top", "w", "h"))
"""Columns that describe a box, in the order in which they are searched."""

ALLOWED = (
    "a header with t (or frame), x, y, w, h (or x1, y1, x2, y2, or cx, cy, w, h), class_id or class_name, and "
    "optionally class_confidence and track_id"
)


class _Table(NamedTuple):
    """Content of a CSV file.

    Args:
        header: names of the columns in lower case
        rows: cells of each line
        lines: place of each line, such as "line 2"
    """

    header: list[str]
    rows: list[list[str]]
    lines: list[str]

    def column(self, accepted: Sequence[str]) -> str | None:
        """Return the first of several names that is in the header."""
        return next((name for name in accepted if name in self.header), None)

    def cells(self, name: str) -> list[str]:
        """Return the cells of a column."""
        return [row[self.header.index(name)] for row in self.rows]

    def numbers(self, name: str) -> list[float]:
        """Return the cells of a column as numbers.

        Raises:
            ValueError: a cell is not a number.
        """
        return [number(cell, f"{line}: {name}") for cell, line in zip(self.cells(name), self.lines, strict=True)]


def _read(path: Path) -> LabelFile:
    every = _read_table(read_text(path))
    time, form = _time_column(every), _box_columns(every)
    if time is None or form is None:
        raise _no_header(every.header)
    for name in VIDEOS:
        if name in every.header:
            one_recording(every.cells(name), name)
    _check_box_columns(every, form)
    images = _times(every, time)
    full = [k for k, row in enumerate(every.rows) if any(row[every.header.index(name)] for name in form.values())]
    table = _Table(every.header, [every.rows[k] for k in full], [every.lines[k] for k in full])
    columns: dict[str, Sequence[float]] = {"t": [images[k] for k in full], **_positions(table, form)}
    names, notes = _add_classes(table, columns)
    for field, kind in (("track_id", "track"), ("class_confidence", "score")):
        found = table.column(COLUMNS[kind])
        if found is not None:
            columns[field] = table.numbers(found)
    if "track_id" in columns:
        columns["track_id"] = [0 if track == -1 else track for track in columns["track_id"]]
    boxes = make_boxes(columns)
    return LabelFile(
        boxes,
        names,
        _image_size(every, form),
        images_without_boxes(images, boxes),
        numbered=time not in TIMES,
        time_unit=TIMES.get(time),
        notes=notes,
    )


def _read_table(text: str) -> _Table:
    """Split a text into cells. The separator is the comma, semicolon or tab, whichever is most frequent in line 1."""
    text = text.lstrip("\ufeff# \t\r\n")
    first = text.splitlines()[0] if text else ""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    rows, lines = [], []
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise ValueError(f"line {reader.line_num}: got {len(row)} columns, allowed: {len(header)} as in line 1")
            rows.append([cell.strip() for cell in row])
            lines.append(f"line {reader.line_num}")
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from None
    twice = next((name for name, count in Counter(header).items() if name and count > 1), None)
    if twice is not None and any(NUMBER.fullmatch(name) for name in header):
        raise _no_header(header)
    if twice is not None:
        raise ValueError(f"two columns have the name {twice!r}, allowed: different names")
    return _Table(header, rows, lines)


def _no_header(first: Sequence[str]) -> ValueError:
    return ValueError(f"the first line is {','.join(first)[:80]!r}, allowed: {ALLOWED}")


def _time_column(table: _Table) -> str | None:
    return table.column((*TIMES, *IMAGES, *FILES))


def _box_columns(table: _Table) -> dict[str, str] | None:
    """Return the columns that describe the boxes as a dict from kind to name, None if there are none."""
    for form in FORMS:
        found = {kind: table.column(COLUMNS[kind]) for kind in form}
        if all(found.values()):
            return {kind: name for kind, name in found.items() if name is not None}
    return None


def _check_box_columns(table: _Table, form: Mapping[str, str]) -> None:
    """Check that there is one column per value of a box.

    Raises:
        ValueError: there are two, such as x and xmin; the message names them.
    """
    for kind in form:
        first, *others = [name for name in COLUMNS[kind] if name in table.header]
        other = next((name for name in others if name not in IMAGE_SIZE), None)
        if other is not None:
            raise ValueError(f"the columns {first!r} and {other!r} may both be the {kind} of the box, allowed: one")


def _times(table: _Table, name: str) -> Sequence[float]:
    return image_numbers(table.cells(name)) if name in FILES else table.numbers(name)


def _positions(table: _Table, form: Mapping[str, str]) -> dict[str, list[float]]:
    """Return the columns x, y, w, h of the boxes."""
    given = {kind: table.numbers(name) for kind, name in form.items()}
    if "right" in given:
        x, y = given["left"], given["top"]
        w, h = (
            [end - begin for begin, end in zip(given[low], given[high], strict=True)]
            for low, high in (("left", "right"), ("top", "bottom"))
        )
        return {"x": x, "y": y, "w": w, "h": h}
    w, h = given["w"], given["h"]
    if "cx" in given:
        x, y = (
            [center - size / 2 for center, size in zip(given[middle], given[extent], strict=True)]
            for middle, extent in (("cx", "w"), ("cy", "h"))
        )
        return {"x": x, "y": y, "w": w, "h": h}
    return {"x": given["left"], "y": given["top"], "w": w, "h": h}


def _add_classes(table: _Table, columns: dict[str, Sequence[float]]) -> tuple[dict[int, str], tuple[str, ...]]:
    """Add the class ids to the columns, and return the class names and notes."""
    column, name_column = table.column(COLUMNS["class"]), table.column(COLUMNS["name"])
    if column is None:
        columns["class_id"] = [0] * len(table.rows)
        return {}, ("there is no column of classes; all boxes have the class id 0",)
    cells = table.cells(column)
    if "" in cells:
        raise ValueError(f"{table.lines[cells.index('')]}: {column} is blank, allowed: the class of the box")
    if not all(NUMBER.fullmatch(cell) for cell in cells):
        names, columns["class_id"] = number_names(cells)
        return names, ()
    ids = columns["class_id"] = table.numbers(column)
    names = {}
    if name_column not in (None, column):
        for key, name in zip(ids, table.cells(str(name_column)), strict=True):
            if key % 1 == 0 and name and names.setdefault(int(key), name) != name:
                raise ValueError(
                    f"the class id {key} has the names {names[int(key)]!r} and {name!r}, allowed: one name"
                )
    return names, ()


def _image_size(table: _Table, form: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the image size if there are columns width and height in addition to those of the boxes."""
    if IMAGE_SIZE & set(form.values()) or not set(table.header) >= IMAGE_SIZE:
        return None
    sizes = set(zip(table.numbers("height"), table.numbers("width"), strict=True))
    found = only_value(sizes, "images with the (height, width)")
    return None if found is None else image_size(found[0], found[1], "columns height and width")


def _matches(path: Path) -> bool:
    try:
        table = _read_table(read_head(path).lstrip("# \t\r\n").split("\n", 1)[0])
    except ValueError:
        return False
    return _time_column(table) is not None and _box_columns(table) is not None


def _write(path: Path, content: LabelFile) -> None:
    """Write a CSV file with the columns of `evforge predict`, and `track_id` if there are tracks."""
    boxes = content.boxes
    scores = (
        boxes["class_confidence"].tolist() if "class_confidence" in (boxes.dtype.names or ()) else [1.0] * len(boxes)
    )
    tracks = boxes["track_id"].tolist() if has_tracks(boxes) else None
    header = ["t", *"xywh", "class_id", "class_confidence", "class_name", *["track_id"] * (tracks is not None)]
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(header)
        for k, row in enumerate(box_rows(boxes, "t", *"xywh", "class_id")):
            name = content.names.get(int(row[5]), "")
            lines.writerow([*row, scores[k], name, *([tracks[k]] if tracks is not None else [])])
        lines.writerows([time, *[""] * (len(header) - 1)] for time in np.asarray(content.empty).tolist())


CSV = LabelFormat(
    "_bbox.csv",
    _read,
    ("{stem}_labels.csv", "{stem}.csv", "labels.csv", "annotations.csv", "_annotations.csv"),
    _matches,
    _write,
)
"""CSV files with a header."""
