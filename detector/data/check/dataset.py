"""Check of a dataset: everything about its files that would stop a training or spoil a figure, found beforehand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from detector.data.check.across_files import CheckedFile, check_set
from detector.data.check.finding import Finding, count_findings, refusal
from detector.data.check.inventory import (
    DataFile,
    Sensor,
    TensorHeader,
    find_data,
    read_tensor_header,
    stray_labels,
)
from detector.data.check.label_file import CheckedLabels, LabelContext, check_labels
from detector.data.check.statistics import BIN_US, scan_events
from detector.data.label_map import LABEL_MAP_NAME, label_map_near, read_label_map
from detector.events.faults import MAX_FAULTY
from detector.events.frames import Frames
from detector.labels import TimeUnit
from detector.utils.hdf5_file import open_hdf5

__all__ = ["Finding", "check_dataset"]

Done = Callable[[int], object]
"""Told after each step how many bytes more are done."""


def check_dataset(
    *paths: str | Path,
    sensor: Sensor = (None, None),
    progress: bool = False,
    label_time_unit: TimeUnit = "us",
    max_faulty_events: float = MAX_FAULTY,
) -> list[Finding]:
    """Look for everything that is wrong or odd in a dataset. Recordings are read to their end.

    Args:
        paths: a dataset folder with train/, val/ and test/, or recordings or tensor files with labels beside them.
        sensor: height and width in pixels, for recordings that do not tell them.
        progress: show a progress bar.
        label_time_unit: unit of the label times of recordings.
        max_faulty_events: part of a recording's events that may be faulty.

    Returns:
        findings, errors first, those of one kind together; none for a sound dataset.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: a folder holds no recording or tensor file.
    """
    files = list(dict.fromkeys(file for path in paths for file in find_data(path, sensor, label_time_unit)))
    maps = _LabelMaps()
    findings, checked = [], []
    total = sum(file.path.stat().st_size for file in files)
    with tqdm(total=total, unit="B", unit_scale=True, desc="check", disable=not progress) as bar:
        for file in files:
            bar.set_postfix_str(file.path.name)
            end = bar.n + file.path.stat().st_size
            entry, found = _check_file(replace(file, max_faulty_events=max_faulty_events), maps, bar.update)
            bar.update(end - bar.n)
            checked.append(entry)
            findings += found
    findings += maps.findings
    findings += [
        Finding("error", path, "labels without a recording", "no file of this name beside it", "a recording or tensors")
        for path in stray_labels(files)
    ]
    root = Path(paths[0]) if len(paths) == 1 else files[0].path.parent
    findings += check_set(root, checked, maps.names)
    return sorted(dict.fromkeys(findings), key=lambda finding: (finding.severity, finding.kind, str(finding.path)))


class _LabelMaps:
    """Label maps of the files' folders, each read once, and what is wrong with them."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.names: dict[int, str] = {}
        self._known: dict[Path, dict[int, str] | None] = {}

    def of(self, file: DataFile) -> dict[int, str] | None:
        """The label map that holds for a file, None if there is none that can be read."""
        folder = file.path.parent
        if folder not in self._known:
            self._known[folder] = self._read(file)
            self.names.update(self._known[folder] or {})
        return self._known[folder]

    def _read(self, file: DataFile) -> dict[int, str] | None:
        path = label_map_near(file.path)
        if path is None:
            self.findings.append(
                Finding(
                    "error" if file.is_tensor else "warning",
                    file.path.parent,
                    "no label map",
                    f"no {LABEL_MAP_NAME} beside the files or one folder above",
                    'one like {"0": "pedestrian"}',
                )
            )
            return None
        try:
            return read_label_map(path)
        except ValueError as error:
            self.findings.append(refusal(path, "unreadable label map", error))
            return None


class _Content(NamedTuple):
    """What a file holds, and what is wrong with it."""

    findings: list[Finding]
    sensor_size: tuple[int, int] | None = None
    grid: Frames | None = None
    events: tuple[int, int] | None = None
    header: TensorHeader | None = None


def _check_file(file: DataFile, maps: _LabelMaps, done: Done) -> tuple[CheckedFile, list[Finding]]:
    names = maps.of(file)
    content = _check_tensors(file.path) if file.is_tensor else _check_recording(file, done)
    if file.labels_path.is_file():
        context = LabelContext(content.sensor_size, content.grid, names, content.events, file.label_time_unit)
        labels = check_labels(file.labels_path, context)
    else:
        missing = f"{file.labels_path.name} is missing beside it"
        found = Finding("error", file.path, "recording without labels", missing, "a label file for each")
        labels = CheckedLabels([found], np.empty(0, np.int64), None)
    entry = CheckedFile(file, content.grid, content.header, labels.times, labels.class_ids)
    return entry, [*content.findings, *labels.findings]


def _check_recording(file: DataFile, done: Done) -> _Content:
    path, sensor_size = file.path, None
    size = path.stat().st_size
    try:
        with file.open_events() as reader:
            sensor_size = reader.height, reader.width
            faults = reader.faults
            events = scan_events(reader, lambda part: done(int(part * size)))
    except (ValueError, OSError) as error:
        return _Content([refusal(path, "recording cannot be read", error)], sensor_size)
    if events.first_t is None or events.last_t is None:
        return _Content([Finding("error", path, "empty recording", "no events", "at least one")], sensor_size)
    found = [Finding("warning", path, "faulty events", str(faults), "none")] if faults.total else []
    span = events.first_t, events.last_t
    return _Content(found, sensor_size, Frames.of_events(*span, BIN_US), span)


def _check_tensors(path: Path) -> _Content:
    try:
        header = read_tensor_header(path)
        findings = _not_finite(path, header) if header.dtype.kind == "f" else []
    except (ValueError, OSError) as error:
        return _Content([refusal(path, "tensor file cannot be read", error)])
    return _Content(findings, header.sensor_size, header.grid, None, header)


def _not_finite(path: Path, header: TensorHeader) -> list[Finding]:
    with open_hdf5(path) as file:
        data = file["data"]
        frames = [index for index in range(header.shape[0]) if not np.isfinite(data[index]).all()]
    return count_findings(
        "error",
        path,
        "tensor value not finite",
        np.array(frames, np.int64),
        lambda frame: f"NaN or infinity in frame {frame}",
        "finite numbers",
    )
