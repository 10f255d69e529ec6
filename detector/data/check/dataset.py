"""Check a dataset for everything in its files that would stop a training or falsify a result."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detector.config.groups import DEFAULT_DATA, DataConfig
from detector.data.check.across_files import CheckedFile, check_set
from detector.data.check.alignment.findings import SHIFTED, check_alignment
from detector.data.check.contents import Done, read_contents
from detector.data.check.event_faults.sketch import SketchBuilder, box_hashes
from detector.data.check.finding import Finding, Severity, refusal
from detector.data.check.inventory import DataFile, Sensor, find_data, stray_labels
from detector.data.check.label_file import check_labels
from detector.data.check.standing import check_standing, find_rests
from detector.data.label_map import LABEL_MAP_NAME, label_map_path, read_label_map
from detector.events import BBOX_dtype
from detector.labels import LabelTiming

__all__ = ["Finding", "check_dataset"]

MAX_EVIDENCE = 3
"""Number of findings of one kind that keep the data of their figures."""

MIN_POLARITY = 0.3
"""Share of the rarer polarity below which an offset of labels is only a warning.

If one polarity is rare, one edge of a moving object sends most of its events, and their centre is not that of the box.
"""


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
    findings: list[Finding] = []
    checked = []
    total = sum(file.path.stat().st_size for file in files)
    with tqdm(total=total, unit="B", unit_scale=True, desc="check", disable=not progress) as bar:
        for file in files:
            bar.set_postfix_str(file.path.name)
            end = bar.n + file.path.stat().st_size
            entry, found = _check_file(file, maps[file.path.parent], bar.update)
            bar.update(end - bar.n)
            checked.append(entry)
            findings += _limit_evidence(found, findings)
    findings += map_findings
    findings += [
        Finding("error", path, "labels without a recording", "no file of this name beside it", "a recording or tensors")
        for path in stray_labels(files)
    ]
    root = Path(paths[0]) if len(paths) == 1 else files[0].path.parent
    findings += check_set(root, checked, dict(pair for names in maps.values() for pair in (names or {}).items()))
    return sorted(dict.fromkeys(findings), key=lambda finding: (finding.severity, finding.kind, str(finding.path)))


def _limit_evidence(found: Sequence[Finding], earlier: Sequence[Finding]) -> list[Finding]:
    """Remove the evidence of findings of a kind of which enough is kept, because maps of pixels need much memory."""
    kept = Counter(finding.kind for finding in earlier if finding.evidence)
    return [finding if kept[finding.kind] < MAX_EVIDENCE else replace(finding, evidence=()) for finding in found]


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
    labels = _load_boxes(file, names)
    contents = read_contents(file, np.unique(labels["t"]), done)
    content, path = contents.content, file.labels_path
    if file.found_labels is None:
        missing = f"{path.name} is missing beside it"
        found = Finding("error", file.path, "recording without labels", missing, "a label file for each")
        return CheckedFile(file, content, labels["t"], None, contents.sketch), [*contents.findings, found]
    checked = check_labels(file, content, names)
    rests = find_rests(labels)
    findings = list(check_standing(path, labels, contents.activity, rests))
    if contents.activity is not None and not any(finding.severity == "error" for finding in findings):
        one_sided = contents.rarer_polarity < MIN_POLARITY
        moving = labels[rests.of_box < 0]
        findings += check_alignment(path, moving, contents.activity, file.timing.offset, one_sided=one_sided)
    boxes = SketchBuilder()
    boxes.add(box_hashes(labels))
    entry = CheckedFile(file, content, checked.times, checked.class_ids, contents.sketch, boxes.build())
    return entry, [*contents.findings, *_one_offset(checked.findings, findings), *findings]


def _load_boxes(file: DataFile, names: dict[int, str] | None) -> np.ndarray:
    """Return the boxes of a file without frame labels of class "empty"; no boxes if they cannot be read."""
    try:
        labels = file.load_labels(names)
    except (ValueError, OSError):
        return np.empty(0, BBOX_dtype)
    labels = labels[(labels["w"] > 0) & (labels["h"] > 0)]
    return labels[~np.isin(labels["class_id"], [key for key, name in (names or {}).items() if name == "empty"])]


def _one_offset(findings: Sequence[Finding], aligned: Sequence[Finding]) -> list[Finding]:
    """Replace offsets that were derived from the ranges of the times, if a more exact one is in `aligned`."""
    exact = next((finding.cause for finding in aligned if finding.kind == SHIFTED), None)
    return [
        replace(finding, cause=exact) if exact and "--label_offset" in finding.cause else finding
        for finding in findings
    ]
