"""Label files of MOTChallenge: lines `image, track, left, top, width, height, score, class, visibility`.

Images are numbered from 1. MOTChallenge counts pixels from 1 too (https://motchallenge.net/instructions), but CVAT and
most trackers do not, so left and top are used as they are. CVAT writes class names into `labels.txt` in the same
folder; class c is in line c, counted from 1. A line with the size and the score 0 stands for an image without boxes.
"""

import re
from pathlib import Path

from detector.labels.formats.reading import (
    images_without_boxes,
    indexed_names,
    make_boxes,
    number,
    read_head,
    read_lines,
    read_text,
)
from detector.labels.formats.writing import (
    box_rows,
    has_scores,
    has_tracks,
    index_names,
    number_times,
    scores_of,
    write_times,
)
from detector.labels.label_format import LabelFile, LabelFormat
from detector.utils.atomic_write import atomic_write

__all__ = ["MOT"]

COLUMNS = ("t", "track_id", *"xywh", "class_confidence", "class_id")

ALLOWED = "image, track, left, top, width, height, and optionally score, class and visibility"

ROW = re.compile(r"\s*\d+[ \t]*(,[ \t]*[-+.\deE]+[ \t]*){6,11}(?=[\r\n]|$)", re.ASCII)


def _read(path: Path) -> LabelFile:
    rows = [_read_row(text, line) for line, text in read_lines(read_text(path))]
    without = {row[0] for row in rows if not any(row[4:7])}
    rows = [row for row in rows if any(row[4:7])]
    without -= {row[0] for row in rows}
    columns: dict[str, list[float]] = {name: [row[k] for row in rows] for k, name in enumerate(COLUMNS)}
    notes: list[str] = []
    columns["class_id"] = _classes(columns["class_id"], notes)
    columns["track_id"] = [0 if track == -1 else track for track in columns["track_id"]]
    columns = _use_scores(columns, notes)
    names = _names(path)
    if names:
        columns["class_id"] = [key - 1 for key in columns["class_id"]]
        if min(columns["class_id"], default=0) < 0:
            raise ValueError("a box has no class, allowed: classes from 1, whose names are in the lines of labels.txt")
    if not any(columns["track_id"]):
        columns.pop("track_id")
    boxes = make_boxes(columns)
    return LabelFile(boxes, names, None, images_without_boxes(without, boxes), True, 1, notes=tuple(notes))


def _read_row(text: str, line: str) -> list[float]:
    """Return the first eight numbers of a line. Those that are missing are -1."""
    entries = text.rstrip(",").split(",")
    if not 6 <= len(entries) <= 12:
        raise ValueError(f"{line}: got {len(entries)} numbers with commas, allowed: {ALLOWED}")
    row = [number(entry, line) for entry in entries]
    if not 0 <= row[0] <= 10**9 or row[0] % 1 or row[1] % 1:
        raise ValueError(f"{line}: got the image {row[0]} and the track {row[1]}, allowed: whole numbers")
    return [*map(int, row[:2]), *(row[2:8] + [-1.0, -1.0])[:6]]


def _classes(values: list[float], notes: list[str]) -> list[float]:
    """Return class ids. They are 0 if the column is missing, or contains the x of positions in 3D."""
    if any(value % 1 for value in values):
        notes.append("the eighth column contains fractions and is not the class; all boxes have the class id 0")
        return [0] * len(values)
    missing = sum(value < 0 for value in values)
    if 0 < missing < len(values):
        notes.append(f"{missing} boxes without class (-1) get the class id 0")
    return [max(int(value), 0) for value in values]


def _use_scores(columns: dict[str, list[float]], notes: list[str]) -> dict[str, list[float]]:
    """Interpret the seventh column, which is a flag in ground truth, and otherwise the score.

    In ground truth, boxes have tracks, and the flag is 0 for boxes that are not evaluated, which are left out. A score
    of -1 in all lines means that there are no scores.
    """
    scores = columns["class_confidence"]
    if all(score == -1 for score in scores):
        return {**columns, "class_confidence": [1.0] * len(scores)}
    if any(score not in (0, 1) for score in scores) or not any(columns["track_id"]):
        return columns
    left_out = scores.count(0)
    if left_out:
        notes.append(f"{left_out} boxes with the flag 0 (not evaluated) are not used, nor images that have no others")
    return {
        name: [value for value, flag in zip(values, scores, strict=True) if flag] for name, values in columns.items()
    }


def _names(path: Path) -> dict[int, str]:
    files = (path.with_name(f"{path.stem}_labels.txt"), path.with_name("labels.txt"))
    file = next((file for file in files if file.is_file() and file != path), None)
    return {} if file is None else indexed_names(file)


def _matches(path: Path) -> bool:
    return ROW.match(read_head(path)) is not None


def _write(path: Path, content: LabelFile) -> None:
    """Write `X.txt`, the times `X_timestamps.txt`, and the class names `X_labels.txt`.

    Images are numbered from 1. An image without boxes has a line with a box of size 0 and the flag 0 (not evaluated).
    If there are names, classes are counted from 1. Boxes with the track id 0 get the track -1.
    """
    times, image_of_box = number_times(content)
    names, tracks = index_names(content.names), has_tracks(content.boxes)
    boxes = content.boxes
    scores = scores_of(boxes) if has_scores(boxes) else [1] * len(boxes)
    track_ids = [int(track) or -1 for track in boxes["track_id"]] if tracks else [-1] * len(boxes)
    rows = zip(image_of_box.tolist(), track_ids, box_rows(boxes, *"xywh", "class_id"), scores, strict=True)
    lines = [
        f"{image + 1},{track},{x!r},{y!r},{w!r},{h!r},{score!r},{int(class_id) + bool(names)},1\n"
        for image, track, (x, y, w, h, class_id), score in rows
    ]
    without_boxes = sorted(set(range(len(times))) - set(image_of_box.tolist()))
    lines += [f"{image + 1},-1,0,0,0,0,0,-1,-1\n" for image in without_boxes]
    with atomic_write(path) as part:
        part.write_text("".join(lines))
    write_times(path.with_name(f"{path.stem}_timestamps.txt"), times)
    if names:
        with atomic_write(path.with_name(f"{path.stem}_labels.txt")) as part:
            part.write_text(names, encoding="utf-8")


MOT = LabelFormat(
    "_gt.txt",
    _read,
    ("{stem}_mot.txt", "{stem}.txt", "{stem}/gt/gt.txt", "{stem}/gt.txt", "gt/gt.txt", "gt.txt"),
    _matches,
    _write,
)
"""Label files of MOTChallenge and of the MOT export of CVAT."""
