"""Check a dataset for everything in its files that would stop a training or falsify a result."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detector.config.groups import DEFAULT_DATA, DataConfig
from detector.data.check.across_files import CheckedFile, check_set
from detector.data.check.finding import Finding, Severity, count_findings, refusal
from detector.data.check.inventory import (
    DataFile,
    FileContent,
    Sensor,
    TensorHeader,
    find_data,
    read_tensor_header,
    stray_labels,
)
from detector.data.check.label_file import CheckedLabels, check_labels
from detector.data.check.statistics import BIN_US, scan_events
from detector.data.label_map import LABEL_MAP_NAME, label_map_path, read_label_map
from detector.events.frames import Frames
from detector.labels import LabelTiming
from detector.utils.hdf5_file import open_hdf5

__all__ = ["Finding", "check_dataset"]

Done = Callable[[int], object]
"""Function called with the number of bytes that were read since the last call."""


def check_dataset(
    *paths: str | Path,
    sensor: Sensor = (None, None),
    progress: bool = False,
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    data: DataConfig = DEFAULT_DATA,
) -> list[Finding]:
    """Find everything in a dataset that is wrong or unusual. Recordings are read completely.

    Args:
        paths: dataset folders with train/, val/ and test/, other folders with files, or single files. Each file is a
            recording or a tensor file, and its label file is in the same folder.
        sensor: height and width in pixels, for recordings that do not state them.
        progress: whether to show a progress bar.
        timing: how the label times of recordings are determined.
        data: `event_format`, `label_format` and `max_faulty_events` are used for recordings.

    Returns:
        Findings, with errors before warnings, then sorted by kind and path; an empty list for a valid dataset.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a folder contains no recording or tensor file.
    """
    files = list(dict.fromkeys(file for path in paths for file in find_data(path, sensor, timing, data)))
    maps, map_findings = _read_label_maps(files)
    findings, checked = [], []
    total = sum(file.path.stat().st_size for file in files)
    with tqdm(total=total, unit="B", unit_scale=True, desc="check", disable=not progress) as bar:
        for file in files:
            bar.set_postfix_str(file.path.name)
            end = bar.n + file.path.stat().st_size
            entry, found = _check_file(file, maps[file.path.parent], bar.update)
            bar.update(end - bar.n)
            checked.append(entry)
            findings += found
    findings += map_findings
    findings += [
        Finding("error", path, "labels without a recording", "no file of this name beside it", "a recording or tensors")
        for path in stray_labels(files)
    ]
    root = Path(paths[0]) if len(paths) == 1 else files[0].path.parent
    findings += check_set(root, checked, dict(pair for names in maps.values() for pair in (names or {}).items()))
    return sorted(dict.fromkeys(findings), key=lambda finding: (finding.severity, finding.kind, str(finding.path)))


def _read_label_maps(files: Sequence[DataFile]) -> tuple[dict[Path, dict[int, str] | None], list[Finding]]:
    """Return a dict from folder to label map, and findings about label maps.

    The label map is None if it is missing or cannot be read.
    """
    maps: dict[Path, dict[int, str] | None] = {}
    findings = []
    for folder, file in reversed({file.path.parent: file for file in reversed(files)}.items()):
        maps[folder] = None
        path = label_map_path(file.path)
        if path is None:
            severity: Severity = "error" if file.is_tensor else "warning"
            found = f"no {LABEL_MAP_NAME} beside the files or one folder above"
            findings.append(Finding(severity, folder, "no label map", found, 'one like {"0": "pedestrian"}'))
            continue
        try:
            maps[folder] = read_label_map(path)
        except ValueError as error:
            findings.append(refusal(path, "unreadable label map", error))
    return maps, findings


def _check_file(file: DataFile, names: dict[int, str] | None, done: Done) -> tuple[CheckedFile, list[Finding]]:
    content, findings = _check_tensors(file.path) if file.is_tensor else _check_recording(file, done)
    if file.found_labels is not None:
        labels = check_labels(file, content, names)
    else:
        missing = f"{file.labels_path.name} is missing beside it"
        found = Finding("error", file.path, "recording without labels", missing, "a label file for each")
        labels = CheckedLabels([found], np.empty(0, np.int64), None)
    return CheckedFile(file, content, labels.times, labels.class_ids), [*findings, *labels.findings]


def _check_recording(file: DataFile, done: Done) -> tuple[FileContent, list[Finding]]:
    path, content = file.path, FileContent()
    size = path.stat().st_size
    try:
        with file.open_events() as reader:
            content = FileContent((reader.height, reader.width))
            faults = reader.faults
            events = scan_events(reader, lambda part: done(int(part * size)))
    except (ValueError, OSError) as error:
        return content, [refusal(path, "recording cannot be read", error)]
    if events.first_t is None or events.last_t is None:
        return content, [Finding("error", path, "empty recording", "no events", "at least one")]
    span = events.first_t, events.last_t
    findings = [Finding("warning", path, "faulty events", str(faults), "none")] if faults.total else []
    return replace(content, grid=Frames.of_events(*span, BIN_US), events=span), findings


def _check_tensors(path: Path) -> tuple[FileContent, list[Finding]]:
    try:
        header = read_tensor_header(path)
        findings = _not_finite(path, header) if header.dtype.kind == "f" else []
    except (ValueError, OSError) as error:
        return FileContent(), [refusal(path, "tensor file cannot be read", error)]
    return FileContent(header.sensor_size, header.grid, None, header), findings


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
