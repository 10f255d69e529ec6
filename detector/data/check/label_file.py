"""Find the faults of one label file."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detector.data.builder.label_counts import layout_cause, repeated_rows, time_cause
from detector.data.check.evidence import PixelMap
from detector.data.check.finding import Finding, Severity, count_findings, refusal
from detector.data.check.inventory import DataFile, FileContent
from detector.events.frames import Frames
from detector.events.types import BBOX_dtype
from detector.labels import LabelTiming, read_labels
from detector.labels.boxes import field_columns, to_microseconds

__all__ = ["CheckedLabels", "check_labels", "near_duplicates"]

NEAR_IOU = 0.95
"""Overlap above which two boxes of the same time and class are considered as one object."""

MAX_NEIGHBOURS = 200
"""Number of boxes, sorted by x, that are compared with each box. It bounds the cost of many boxes at one place."""

EDGE_SLACK = 1.0
"""Number of pixels by which a box may extend beyond the sensor without a finding.

Such boxes result from fitting and rounding.
"""

MIN_BOXES = 10
"""Number of boxes from which a layout that all boxes have is an error. A few large boxes may have it by chance."""

EXPLAIN = ("value not finite", "class not in the label map")
"""Kinds of findings that explain an error of `load_labels` in more detail than its message does."""

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class CheckedLabels:
    """Result of the check of a label file.

    Args:
        findings: faults of the label file
        times: distinct labelled times in microseconds, int64, sorted
        class_ids: class ids of the boxes, without frame labels of class "empty"; None if the labels cannot be read
    """

    findings: list[Finding]
    times: np.ndarray
    class_ids: frozenset[int] | None


def check_labels(file: DataFile, content: FileContent, names: Mapping[int, str] | None) -> CheckedLabels:
    """Find all faults of a label file, including labels that do not fit the recording or the label map.

    Args:
        file: recording or tensor file whose label file exists.
        content: properties of the recording or tensor file.
        names: dict from class id to name, None if the names are not known.
    """
    path, times = file.labels_path, None
    raw, timing, refused = _read_columns(file, names)
    if raw is None:
        return CheckedLabels([refused] if refused else [], np.empty(0, np.int64), None)
    finite = np.logical_and.reduce([np.isfinite(column) for column in raw.values()])
    findings = count_findings(
        "error", path, "value not finite", np.flatnonzero(~finite), lambda row: _not_finite(raw, row), "finite numbers"
    )
    labels = {name: column[finite] for name, column in raw.items()}
    with suppress(ValueError):
        times = labels["t"] = to_microseconds(labels["t"], timing.time_unit or "us", str(path), timing.offset)
        findings += _check_times(path, labels, content.grid)
    empty_ids = [key for key, name in (names or {}).items() if name == "empty"]
    is_box = ~np.isin(labels["class_id"], empty_ids)
    boxes = {name: column[is_box] for name, column in labels.items()}
    findings += [
        *_check_positions(path, boxes, content.sensor_size),
        *_check_classes(path, labels, names, _unknown_classes(file, names)),
        *_check_tracks(path, boxes),
        *_check_overlaps(path, boxes, content.sensor_size),
    ]
    if refused and not any(finding.kind in EXPLAIN for finding in findings):
        findings.append(refused)
    if times is not None and content.grid is not None:
        cause = time_cause(labels, content.grid, content.events, file.timing.time_unit)
        findings = _add_cause(findings, path, cause, ("label before the start", "label after the end"))
    if content.sensor_size is not None:
        cause = layout_cause(boxes, content.sensor_size)
        severity: Severity = "error" if _is_wrong_layout(boxes) else "warning"
        kinds = ("box outside the sensor", "box reaches beyond the sensor")
        findings = _add_cause(findings, path, cause, kinds, severity)
    class_ids = frozenset(np.unique(boxes["class_id"]).tolist())
    return CheckedLabels(findings, np.empty(0, np.int64) if times is None else np.unique(times), class_ids)


def _add_cause(
    findings: list[Finding], path: Path, cause: str | None, kinds: tuple[str, ...], severity: Severity = "warning"
) -> list[Finding]:
    """Return `findings` with a cause added to the first finding whose kind is in `kinds`.

    If there is no such finding, a finding for the cause is appended. If the cause is None, nothing is added. If
    `severity` is "error", the finding becomes an error.
    """
    if cause is None:
        return findings
    position = next((index for index, finding in enumerate(findings) if finding.kind in kinds), None)
    if position is None:
        return [*findings, Finding(severity, path, "odd labels", cause, "labels that fit the recording")]
    old = findings[position]
    changed = replace(old, cause=cause, severity="error" if severity == "error" else old.severity)
    return [*findings[:position], changed, *findings[position + 1 :]]


def _is_wrong_layout(boxes: Columns) -> bool:
    """Return whether a cause of `layout_cause` applies to all boxes, so that none of them is usable.

    These are sizes relative to the image, and x2, y2 stored as w, h in at least `MIN_BOXES` boxes.
    """
    x, y, w, h = (boxes[name].astype(np.float64) for name in "xywh")
    is_relative = all(column.max(initial=0) <= 1 for column in (x, y, w, h))
    return bool(is_relative or (x.size >= MIN_BOXES and ((w > x) & (h > y)).all()))


def _read_columns(
    file: DataFile, names: Mapping[int, str] | None
) -> tuple[Columns | None, LabelTiming, Finding | None]:
    """Read the columns of a label file.

    From an NPY file, values are read as stored: they are neither sorted nor corrected nor checked.

    Returns:
        The columns, None if they cannot be read; how their times become microseconds; and a finding if `load_labels`
        fails.
    """
    path, refused, loaded = file.labels_path, None, None
    try:
        loaded = file.load_labels(names)
    except (ValueError, OSError) as error:
        refused = refusal(path, "unreadable labels", error)
    found = file.found_labels
    if found is None or found.label_format != "npy":
        return (
            None if loaded is None else {name: loaded[name] for name in BBOX_dtype.names or ()},
            LabelTiming(),
            refused,
        )
    try:
        raw = read_labels(path, "npy").boxes
        columns = field_columns(raw, str(path))
    except (ValueError, OSError):
        return None, file.timing, refused
    return {name: raw[column].reshape(-1) for name, column in columns.items()}, file.timing, refused


def _not_finite(raw: Columns, row: int) -> str:
    name = next(name for name, column in raw.items() if not np.isfinite(column[row]))
    return f"{name} {raw[name][row]} in box {row}"


def _check_times(path: Path, labels: Columns, grid: Frames | None) -> Iterator[Finding]:
    t = labels["t"]

    def example(row: int) -> str:
        return f"t {t[row]} us"

    falls = np.flatnonzero(t[1:] < t[:-1])
    yield from count_findings(
        "error",
        path,
        "label times fall",
        falls,
        lambda row: f"from {t[row]} to {t[row + 1]} us at box {row + 1}",
        "times that do not decrease",
    )
    if grid is None:
        return
    allowed = f"{grid.first_t} to {grid.end} us"
    before, at, after = (np.flatnonzero(rows) for rows in (t < grid.first_t, t == grid.first_t, t > grid.end))
    yield from count_findings("error", path, "label before the start", before, example, allowed)
    yield from count_findings("error", path, "label after the end", after, example, allowed)
    yield from count_findings(
        "warning",
        path,
        "label at the start",
        at,
        example,
        f"times after {grid.first_t} us; it belongs to no frame",
    )


def _check_positions(path: Path, boxes: Columns, sensor_size: tuple[int, int] | None) -> Iterator[Finding]:
    x, y, w, h = (boxes[name].astype(np.float64) for name in "xywh")
    no_area = (w <= 0) | (h <= 0)

    def example(row: int) -> str:
        return f"x {x[row]:g}, y {y[row]:g}, w {w[row]:g}, h {h[row]:g} at t {boxes['t'][row]} us"

    yield from count_findings(
        "error", path, "box of no area", np.flatnonzero(no_area), example, "width and height above 0"
    )
    if sensor_size is None:
        return
    height, width = sensor_size
    outside = ~no_area & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0))
    beyond = np.maximum(np.maximum(-x, x + w - width), np.maximum(-y, y + h - height)) > EDGE_SLACK
    allowed = f"within the sensor, {width} x {height}"
    yield from count_findings("error", path, "box outside the sensor", np.flatnonzero(outside), example, allowed)
    yield from count_findings(
        "warning",
        path,
        "box reaches beyond the sensor",
        np.flatnonzero(beyond & ~outside & ~no_area),
        example,
        f"{allowed}; the part beyond is cropped",
    )


def _check_overlaps(path: Path, boxes: Columns, sensor_size: tuple[int, int] | None) -> Iterator[Finding]:
    """Find boxes of different tracks that nearly equal another box of the same time and class."""
    pairs = near_duplicates(boxes)
    if not pairs.size:
        return
    first, second = pairs[0]
    xywh = np.stack([boxes[name].astype(np.float64) for name in "xywh"], axis=1)
    shown = pairs[boxes["t"][pairs[:, 0]] == boxes["t"][first]]
    sets = {"box": xywh[shown[:, 0]], "nearly the same box": xywh[shown[:, 1]]}
    title = f"Boxes at {boxes['t'][first] / 1e6:.2f} s"
    yield Finding(
        "warning",
        path,
        "box nearly twice",
        f"{len(pairs)} times, first at t {boxes['t'][first]} us: track_id {boxes['track_id'][first]} and "
        f"{boxes['track_id'][second]}, x {boxes['x'][first]:g}, y {boxes['y'][first]:g}",
        f"one box per object; an overlap (IoU) of at most {NEAR_IOU:g}",
        "probably two label sets were joined: keep one box of each pair",
        (PixelMap(title, None, sensor_size, sets),) if sensor_size else (),
    )


def near_duplicates(boxes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Find pairs of boxes with the same time and class, different tracks and an IoU above 0.95, but not equal ones.

    Args:
        boxes: columns t, x, y, w, h, class_id and track_id.

    Returns:
        (P, 2) indices of the boxes of each pair, in order of time.
    """
    order = np.lexsort([boxes[name] for name in ("x", "class_id", "t")])
    columns = {name: boxes[name][order] for name in ("t", "class_id", "track_id")}
    x, y, w, h = (boxes[name][order].astype(np.float64) for name in "xywh")
    found = []
    for lag in range(1, min(order.size, MAX_NEIGHBOURS)):
        a, b = np.arange(order.size - lag), np.arange(lag, order.size)
        # Boxes are sorted by x, and boxes that overlap so much start near each other.
        near = (columns["t"][a] == columns["t"][b]) & (columns["class_id"][a] == columns["class_id"][b])
        near &= x[b] - x[a] <= (1 - NEAR_IOU) * w[a]
        if not near.any():
            break
        a, b = a[near], b[near]
        common_w = np.minimum(x[a] + w[a], x[b] + w[b]) - np.maximum(x[a], x[b])
        common_h = np.minimum(y[a] + h[a], y[b] + h[b]) - np.maximum(y[a], y[b])
        common = np.maximum(common_w, 0) * np.maximum(common_h, 0)
        overlap = common / np.maximum(w[a] * h[a] + w[b] * h[b] - common, 1e-9)
        equal = (x[a] == x[b]) & (y[a] == y[b]) & (w[a] == w[b]) & (h[a] == h[b])
        chosen = (overlap > NEAR_IOU) & ~equal & (columns["track_id"][a] != columns["track_id"][b])
        found.append(np.stack([order[a[chosen]], order[b[chosen]]], axis=1))
    pairs = np.concatenate([np.empty((0, 2), np.int64), *found])
    return pairs[np.argsort(boxes["t"][pairs[:, 0]], kind="stable")]


def _unknown_classes(file: DataFile, names: Mapping[int, str] | None) -> list[str]:
    """Return the classes of a label file with class names that are not in the label map, in order of their ids."""
    found = file.found_labels
    if names is None or found is None or found.label_format == "npy":
        return []
    try:
        content = read_labels(str(found.path), found.label_format)
        ids = np.unique(content.boxes["class_id"]).tolist() if content.names else []
    except (ValueError, OSError):
        return []
    return [
        f"class {content.names[key]}" if key in content.names else f"class_id {key}"
        for key in ids
        if content.names.get(key) not in names.values()
    ]


def _check_classes(
    path: Path, labels: Columns, names: Mapping[int, str] | None, unknown: list[str]
) -> Iterator[Finding]:
    """Find boxes whose class is not in the label map.

    Args:
        path: path of the label file.
        labels: columns of the labels with class ids of the label map.
        names: label map.
        unknown: result of `_unknown_classes`: what the file calls these classes, in order of the ids in `labels`.
    """
    if names is None:
        return
    class_id = labels["class_id"]
    is_unknown = ~np.isin(class_id, list(names))
    ids = np.unique(class_id[is_unknown]).tolist()
    called = dict(zip(ids, unknown if len(unknown) == len(ids) else [f"class_id {key}" for key in ids], strict=True))
    yield from count_findings(
        "error",
        path,
        "class not in the label map",
        np.flatnonzero(is_unknown),
        lambda row: f"{called[class_id[row].item()]} at t {labels['t'][row]} us",
        ", ".join(f"{key} {name}" for key, name in names.items()) or "no class at all",
    )


def _check_tracks(path: Path, boxes: Columns) -> Iterator[Finding]:
    t, track, class_id = boxes["t"], boxes["track_id"], boxes["class_id"]
    yield from count_findings(
        "warning",
        path,
        "box twice",
        repeated_rows(boxes),
        lambda row: f"x {boxes['x'][row]:g}, y {boxes['y'][row]:g} at t {t[row]} us",
        "each box once",
    )
    by_time = np.lexsort((track, t))
    twice = by_time[1:][(np.diff(t[by_time]) == 0) & (np.diff(track[by_time]) == 0)]
    if twice.size and np.unique(track).size == 1:
        yield Finding(
            "warning",
            path,
            "no track ids",
            f"all {track.size} boxes have track_id {track[0]}",
            "an id for each object; labels cannot be interpolated without them",
        )
        return
    yield from count_findings(
        "error",
        path,
        "track twice at one time",
        twice,
        lambda row: f"track_id {track[row]} at t {t[row]} us",
        "one box per track and time",
    )
    by_track = np.lexsort((t, track))
    changes = by_track[1:][(np.diff(track[by_track]) == 0) & (np.diff(class_id[by_track]) != 0)]
    yield from count_findings(
        "warning",
        path,
        "track changes its class",
        changes,
        lambda row: f"track_id {track[row]} is of class_id {class_id[row]} from t {t[row]} us",
        "one class per track",
    )
