"""Check a dataset for everything in its files that would stop a training or falsify a result."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detector.config.groups import DEFAULT_DATA, DataConfig
from detector.data.check.across_files import CheckedFile, check_set
from detector.data.check.alignment.findings import SCALED, SHIFTED, Alignment, check_alignment
from detector.data.check.alignment.fit import WITHOUT_EVENTS
from detector.data.check.alignment.image_rate import span_text
from detector.data.check.contents import Done, read_contents
from detector.data.check.event_faults.sketch import SketchBuilder, box_hashes
from detector.data.check.finding import Finding, Severity, refusal
from detector.data.check.inventory import DataFile, Sensor, find_data, give_labels, label_names, stray_labels
from detector.data.check.label_file import check_labels
from detector.data.check.standing import check_standing, find_rests
from detector.data.label_map import LABEL_MAP_NAME, label_map_path, read_label_map
from detector.events import BBOX_dtype
from detector.labels import FoundLabels, LabelTiming

__all__ = ["CheckedDataset", "Finding", "check_dataset", "one_factor"]

MAX_EVIDENCE = 3
"""Number of findings of one kind that keep the data of their figures."""

MIN_POLARITY = 0.3
"""Share of the rarer polarity below which an offset of labels is only a warning.

If one polarity is rare, one edge of a moving object sends most of its events, and their centre is not that of the box.
"""


@dataclass(frozen=True)
class CheckedDataset:
    """Result of the check of a dataset.

    Args:
        findings: errors before warnings, then sorted by kind and path; empty for a valid dataset
        labels: label files and their formats, in the order of the files
        num_unknown: number of files with labels for which it could not be determined whether these fit the events.
            Files with an error or with "labels without events" are not included.
    """

    findings: list[Finding]
    labels: list[FoundLabels]
    num_unknown: int


def check_dataset(
    *paths: str | Path,
    sensor: Sensor = (None, None),
    progress: bool = False,
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    data: DataConfig = DEFAULT_DATA,
    labels: str | Path | None = None,
) -> CheckedDataset:
    """Find everything in a dataset that is wrong or unusual. Recordings are read completely.

    Args:
        paths: dataset folders with train/, val/ and test/, other folders with files, or single files. Each file is a
            recording or a tensor file, and its label file is in the same folder.
        sensor: height and width in pixels, for recordings that do not state them.
        progress: whether to show a progress bar.
        timing: how the label times of recordings are determined.
        data: `event_format`, `label_format` and `max_faulty_events` are used for recordings.
        labels: label file or folder of a single recording; if None, labels are searched beside each recording.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a folder contains no recording or tensor file.
    """
    files = list(dict.fromkeys(file for path in paths for file in find_data(path, sensor, timing, data)))
    files = give_labels(files, labels)
    maps, map_findings = _read_label_maps(files)
    findings: list[Finding] = []
    checked = []
    num_unknown = 0
    total = sum(file.path.stat().st_size for file in files)
    with tqdm(total=total, unit="B", unit_scale=True, desc="check", disable=not progress) as bar:
        for file in files:
            bar.set_postfix_str(file.path.name)
            end = bar.n + file.path.stat().st_size
            entry, found, fits = _check_file(file, maps[file.path.parent], bar.update)
            bar.update(end - bar.n)
            checked.append(entry)
            findings += _limit_evidence(found, findings)
            is_known = fits or any(each.severity == "error" or each.kind == WITHOUT_EVENTS for each in found)
            num_unknown += not is_known and file.found_labels is not None
    findings += map_findings
    findings += [
        Finding("error", path, "labels without a recording", "no file of this name beside it", "a recording or tensors")
        for path in stray_labels(files)
    ]
    root = Path(paths[0]) if len(paths) == 1 else files[0].path.parent
    findings += check_set(root, checked, dict(pair for names in maps.values() for pair in (names or {}).items()))
    sources = {entry.file.labels_path: entry.content.header.sha256 for entry in checked if entry.content.header}
    findings = one_factor(findings, sources)
    findings = sorted(dict.fromkeys(findings), key=lambda finding: (finding.severity, finding.kind, str(finding.path)))
    used = [file.found_labels for file in files]
    return CheckedDataset(findings, [each for each in used if each is not None], num_unknown)


def _limit_evidence(found: Sequence[Finding], earlier: Sequence[Finding]) -> list[Finding]:
    """Remove the evidence of findings of a kind of which enough is kept, because maps of pixels need much memory."""
    kept = Counter(finding.kind for finding in earlier if finding.evidence)
    return [finding if kept[finding.kind] < MAX_EVIDENCE else replace(finding, evidence=()) for finding in found]


def _read_label_maps(files: Sequence[DataFile]) -> tuple[dict[Path, dict[int, str] | None], list[Finding]]:
    """Return a dict from folder to label map, and findings about label maps.

    Without a label map, the classes that the label files name are used. The label map is None if there are no such
    classes either, or if it cannot be read.
    """
    unmapped = [file for file in files if label_map_path(file.path) is None]
    named = label_names(unmapped) if unmapped else {}
    maps: dict[Path, dict[int, str] | None] = {}
    findings = []
    for folder, file in reversed({file.path.parent: file for file in reversed(files)}.items()):
        maps[folder] = None
        path = label_map_path(file.path)
        if path is None and named and not file.is_tensor:
            maps[folder] = named
            continue
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


def _check_file(file: DataFile, names: dict[int, str] | None, done: Done) -> tuple[CheckedFile, list[Finding], bool]:
    """Return a file for the comparison with others, its findings, and whether its labels are known to fit the events.

    Args:
        file: the file.
        names: dict from class id to name, None if the names are not known.
        done: function that is called with the number of bytes of each step.
    """
    labels = _load_boxes(file, names)
    contents = read_contents(file, np.unique(labels["t"]), done)
    content, path = contents.content, file.labels_path
    if file.found_labels is None:
        found = Finding("error", file.path, "recording without labels", "none beside it", file.allowed_labels)
        return CheckedFile(file, content, labels["t"], None, contents.sketch), [*contents.findings, found], False
    checked = check_labels(file, content, names)
    rests = find_rests(labels)
    findings = list(check_standing(path, labels, contents.activity, rests))
    aligned = Alignment([], fits=False)
    images = file.image_numbers()
    if contents.activity is not None and not any(finding.severity == "error" for finding in findings):
        aligned = check_alignment(
            path,
            labels[rests.of_box < 0],
            contents.activity,
            file.timing.offset,
            one_sided=contents.rarer_polarity < MIN_POLARITY,
            start=content.grid.first_t if content.grid is not None else None,
            fps=None if images is None else file.timing.fps,
        )
        findings += aligned.findings
    if images is not None and not aligned.fits and not any(finding.kind == SCALED for finding in findings):
        findings += _check_rate(path, images, file.timing.fps, content.events)
    boxes = SketchBuilder()
    boxes.add(box_hashes(labels))
    entry = CheckedFile(file, content, checked.times, checked.class_ids, contents.sketch, boxes.build())
    return entry, [*contents.findings, *_one_cause(checked.findings, findings), *findings], aligned.fits


def one_factor(findings: Sequence[Finding], sources: Mapping[Path, str | None]) -> list[Finding]:
    """Change the cause of offsets in parts of a recording of which another part has scaled label times.

    A short part with scaled times seems to have a constant offset, which is another one in each part.

    Args:
        findings: findings of all files.
        sources: SHA-256 of the recording of each tensor file by path of the labels, None if it is not known.
    """
    known = {path: source for path, source in sources.items() if source is not None}
    scaled = {known[each.path]: each for each in findings if each.kind == SCALED and each.path in known}

    def corrected(finding: Finding) -> Finding:
        other = scaled.get(known.get(finding.path, "")) if finding.kind == SHIFTED else None
        if other is None:
            return finding
        return replace(
            finding, cause=f"not a constant offset, but the scaled times of {other.path.name}: {other.cause}"
        )

    return [corrected(finding) for finding in findings]


def _check_rate(path: Path, images: np.ndarray, fps: float | None, events: tuple[int, int] | None) -> Iterator[Finding]:
    """Yield a warning if the labelled images cover another time than the recording, as if their rate were wrong.

    Args:
        path: path of the label file.
        images: (K,) numbers of the labelled images, sorted and counted from 0.
        fps: images per second.
        events: times of the first and last event in microseconds.
    """
    if not images.size or fps is None or events is None:
        return
    text = span_text(int(images[-1]) + 1, int(images[0]), fps, events[1] - events[0])
    if text:
        allowed = "images that cover the recording"
        yield Finding("warning", path, "images cover another time", text, allowed, "is --label_fps right?")


def _load_boxes(file: DataFile, names: dict[int, str] | None) -> np.ndarray:
    """Return the boxes of a file without frame labels of class "empty"; no boxes if they cannot be read."""
    try:
        labels = file.load_labels(names)
    except (ValueError, OSError):
        return np.empty(0, BBOX_dtype)
    labels = labels[(labels["w"] > 0) & (labels["h"] > 0)]
    return labels[~np.isin(labels["class_id"], [key for key, name in (names or {}).items() if name == "empty"])]


def _one_cause(findings: Sequence[Finding], aligned: Sequence[Finding]) -> list[Finding]:
    """Replace causes that were derived from the ranges of the times, if a more exact one is in `aligned`."""
    exact = next((finding for finding in aligned if finding.kind in (SHIFTED, SCALED)), None)
    return [
        replace(finding, cause=exact.cause)
        if exact is not None
        and ("--label_offset" in finding.cause or (exact.kind == SCALED and "no constant offset" in finding.cause))
        else finding
        for finding in findings
    ]
