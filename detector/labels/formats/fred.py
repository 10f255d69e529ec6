"""Label files `coordinates.txt` of the FRED dataset: lines `time: x1, y1, x2, y2`, with times in seconds.

In `interpolated_coordinates.txt`, a track id follows (https://miccunifi.github.io/FRED).
"""

import re
from pathlib import Path

from detector.labels.formats.reading import make_boxes, number, read_head, read_lines, read_text
from detector.labels.label_format import LabelFile, LabelFormat

__all__ = ["FRED"]

ROW = re.compile(r"\s*[-+.\deE]+[ \t]*:([ \t]*[-+.\deE]+[ \t]*,){3}[ \t]*[-+.\deE]+[ \t]*(?=[,\r\n]|$)", re.ASCII)


def _read(path: Path) -> LabelFile:
    columns: dict[str, list[float]] = {name: [] for name in ("t", *"xywh", "track_id")}
    for line, text in read_lines(read_text(path)):
        time, _, rest = text.partition(":")
        entries = rest.split(",")
        if len(entries) < 4:
            raise ValueError(f"{line}: got {text[:60]!r}, allowed: time: x1, y1, x2, y2, and optionally a track id")
        t, x, y, right, bottom = (number(entry, line) for entry in (time, *entries[:4]))
        track = number(entries[4], line) if len(entries) > 4 else 0
        for column, value in zip(columns.values(), (t, x, y, right - x, bottom - y, track), strict=True):
            column.append(value)
    if not any(columns["track_id"]):
        columns.pop("track_id")
    boxes = make_boxes({**columns, "class_id": [0] * len(columns["t"])})
    return LabelFile(boxes, {0: "drone"}, time_unit="s")


def _matches(path: Path) -> bool:
    return ROW.match(read_head(path)) is not None


FRED = LabelFormat(
    "_coordinates.txt",
    _read,
    ("interpolated_coordinates.txt", "coordinates.txt"),
    _matches,
)
"""Labels of FRED. For recordings in the subfolder `Event` of a sequence, the layout `fred` states the label file."""
