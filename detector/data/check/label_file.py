"""Faults of one label file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detector.data.builder.label_counts import layout_cause, repeated_rows, time_cause
from detector.data.check.finding import Finding, count_findings, refusal
from detector.events.frames import Frames
from detector.labels import TimeUnit, load_labels
from detector.labels.npy import field_columns, to_microseconds

__all__ = ["CheckedLabels", "LabelContext", "check_labels"]

EDGE_SLACK = 1.0
"""Pixels by which a box may reach beyond the sensor without a word: boxes are fitted and rounded."""

EXPLAIN = ("value not finite", "class not in the label map")
"""Findings that say what `load_labels` refuses in more detail."""

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class LabelContext:
    """What the labels of a file must fit to; None where it is not known.

    Args:
        sensor_size: height and width in pixels
        grid: frames of the recording or tensor file
        names: class names by id
        events: times of the first and last event in microseconds
        time_unit: unit of the label times
    """

    sensor_size: tuple[int, int] | None = None
    grid: Frames | None = None
    names: Mapping[int, str] | None = None
    events: tuple[int, int] | None = None
    time_unit: TimeUnit = "us"


@dataclass(frozen=True)
class CheckedLabels:
    """What was found in a label file.

    Args:
        findings: its faults
        times: distinct labelled times in microseconds, int64, in order
        class_ids: classes of its boxes, frame labels of class "empty" left out; None if they cannot be read
    """

    findings: list[Finding]
    times: np.ndarray
    class_ids: frozenset[int] | None


def check_labels(path: Path, context: LabelContext) -> CheckedLabels:
    """Look for every fault that a label file can have by itself or in its context.

    Args:
        path: the label file, which exists.
        context: recording, sensor and label map.
    """
    refused = _refusal(path, context.time_unit)
    raw = _read_columns(path)
    if raw is None:
        return CheckedLabels([refused] if refused else [], np.empty(0, np.int64), None)
    finite = np.logical_and.reduce([np.isfinite(column) for column in raw.values()])
    findings = count_findings(
        "error", path, "value not finite", np.flatnonzero(~finite), lambda row: _not_finite(raw, row), "finite numbers"
    )
    labels = {name: column[finite] for name, column in raw.items()}
    times = _microseconds(path, labels["t"], context.time_unit)
    if times is not None:
        labels["t"] = times
        findings += _check_times(path, labels, context.grid)
    empty_ids = [key for key, name in (context.names or {}).items() if name == "empty"]
    is_box = ~np.isin(labels["class_id"], empty_ids)
    boxes = {name: column[is_box] for name, column in labels.items()}
    findings += [
        *_check_places(path, boxes, context.sensor_size),
        *_check_classes(path, labels, context.names),
        *_check_tracks(path, boxes),
    ]
    if refused and not any(finding.kind in EXPLAIN for finding in findings):
        findings.append(refused)
    if times is not None and context.grid is not None:
        cause = time_cause(labels, context.grid, context.events)
        findings = _add_cause(findings, path, cause, ("label before the start", "label after the end"))
    if context.sensor_size is not None:
        cause = layout_cause(boxes, context.sensor_size)
        findings = _add_cause(findings, path, cause, ("box outside the sensor", "box reaches beyond the sensor"))
    class_ids = frozenset(np.unique(boxes["class_id"]).tolist())
    return CheckedLabels(findings, np.empty(0, np.int64) if times is None else np.unique(times), class_ids)


def _add_cause(findings: list[Finding], path: Path, cause: str | None, kinds: tuple[str, ...]) -> list[Finding]:
    """Findings with a cause: that of the first of these kinds, or else a finding of its own."""
    if cause is None:
        return findings
    place = next((index for index, finding in enumerate(findings) if finding.kind in kinds), None)
    if place is None:
        return [*findings, Finding("warning", path, "odd labels", cause, "labels that fit the recording")]
    return [replace(finding, cause=cause) if index == place else finding for index, finding in enumerate(findings)]


def _refusal(path: Path, time_unit: TimeUnit) -> Finding | None:
    try:
        load_labels(path, time_unit)
    except (ValueError, OSError) as error:
        return refusal(path, "unreadable labels", error)
    return None


def _microseconds(path: Path, times: np.ndarray, time_unit: TimeUnit) -> np.ndarray | None:
    try:
        return to_microseconds(times, time_unit, str(path))
    except ValueError:
        return None


def _read_columns(path: Path) -> Columns | None:
    """The columns as they lie in the file, whose order and values `load_labels` would mend or refuse."""
    try:
        raw = np.load(path, allow_pickle=False)
        columns = field_columns(raw, str(path))
    except (ValueError, EOFError, OSError):
        return None
    return {name: raw[column].reshape(-1) for name, column in columns.items()}


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
        "times that only grow",
    )
    if grid is None:
        return
    allowed = f"{grid.first_t} to {grid.end} us"
    before, at, after = (np.flatnonzero(rows) for rows in (t < grid.first_t, t == grid.first_t, t > grid.end))
    yield from count_findings("error", path, "label before the start", before, example, allowed)
    yield from count_findings("error", path, "label after the end", after, example, allowed)
    yield from count_findings(
        "warning", path, "label at the start", at, example, f"times after {grid.first_t} us; it belongs to no frame"
    )


def _check_places(path: Path, boxes: Columns, sensor_size: tuple[int, int] | None) -> Iterator[Finding]:
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
        f"{allowed}; what lies beyond is cut off",
    )


def _check_classes(path: Path, labels: Columns, names: Mapping[int, str] | None) -> Iterator[Finding]:
    if names is None:
        return
    class_id = labels["class_id"]
    yield from count_findings(
        "error",
        path,
        "class not in the label map",
        np.flatnonzero(~np.isin(class_id, list(names))),
        lambda row: f"class_id {class_id[row]} at t {labels['t'][row]} us",
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
            "an id for each object, without which labels cannot be interpolated",
        )
        return
    yield from count_findings(
        "error",
        path,
        "track twice at one time",
        twice,
        lambda row: f"track_id {track[row]} at t {t[row]} us",
        "one box a track and time",
    )
    by_track = np.lexsort((t, track))
    changes = by_track[1:][(np.diff(track[by_track]) == 0) & (np.diff(class_id[by_track]) != 0)]
    yield from count_findings(
        "warning",
        path,
        "track changes its class",
        changes,
        lambda row: f"track_id {track[row]} is of class_id {class_id[row]} from t {t[row]} us",
        "one class a track",
    )
