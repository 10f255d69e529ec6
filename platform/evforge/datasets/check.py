"""`evforge check`: prints the faults of a dataset and returns an exit code."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from detector.config.groups import DEFAULT_DATA, DataConfig, TrainConfig
from detector.data.check.dataset import CheckedDataset, Finding, check_dataset
from detector.data.check.inventory import Sensor
from detector.labels import FoundLabels, LabelTiming
from detector.utils.decoration import decoration
from evforge.datasets.check_figures import save_findings
from evforge.datasets.folders import expand_folders
from evforge.display.json_output import json_text, only_json
from evforge.training.run_folder import unique_folder

__all__ = ["check", "findings_text", "labels_text"]

LINES_OF_A_KIND = MAX_LABEL_FILES = 10


def check(
    paths: Sequence[str],
    sensor: Sensor = (None, None),
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    *,
    data: DataConfig = DEFAULT_DATA,
    output: str | None = None,
    storage: str = TrainConfig.storage,
    labels: str | None = None,
    as_json: bool = False,
) -> int:
    """Check recordings, tensor files or a dataset folder for faults, print what was found, and draw figures of it.

    Args:
        paths: either one dataset folder, or recordings and tensor files.
        sensor: height and width in pixels, for recordings that do not state them.
        timing: how the label times of recordings are determined.
        data: settings with the formats of recordings and labels, and the tolerated share of faulty events.
        output: folder for the figures. If None, a new folder in `storage` is created if there is anything to draw.
        storage: parent of new folders.
        labels: label file or folder of a single recording; if None, labels are searched beside each recording.
        as_json: whether standard output is one JSON document instead of text.

    Returns:
        1 if at least one fault is an error, 0 if there are only warnings or no faults.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a folder contains no recording or tensor file.
    """
    files = expand_folders(paths, data)
    checked = check_dataset(
        *files, sensor=sensor, progress=sys.stderr.isatty(), timing=timing, data=data, labels=labels
    )
    findings = checked.findings
    with only_json(as_json):
        print(labels_text(checked.labels))
        print(findings_text(findings, checked.num_unknown))
        figures = _draw(findings, Path(paths[0]), output, storage)
    if as_json:
        print(json_text({**_facts(checked), "figures": figures}))
    return int(any(finding.severity == "error" for finding in findings))


def _facts(checked: CheckedDataset) -> dict[str, Any]:
    """Return the result of a check as the dict that `--json` prints."""
    counts = Counter(finding.severity for finding in checked.findings)
    names = ("severity", "path", "kind", "found", "allowed", "cause")
    return {
        "num_errors": counts["error"],
        "num_warnings": counts["warning"],
        "num_unknown": checked.num_unknown,
        "labels": [{"path": found.path, "format": found.label_format} for found in checked.labels],
        "findings": [{name: getattr(finding, name) for name in names} for finding in checked.findings],
    }


def _draw(findings: Sequence[Finding], path: Path, output: str | None, storage: str) -> Path | None:
    """Write the figures of the findings, print their folder and return it. If this fails, print a warning."""
    if not any(finding.evidence for finding in findings):
        return None
    with decoration("the set of figures of the findings"):
        name = path.resolve().name.partition(".")[0]
        folder = Path(output) if output else unique_folder(storage, f"check-{name}")
        if save_findings(folder, findings):
            print(f"figures: {folder}")
            return folder
    return None


def labels_text(labels: Sequence[FoundLabels]) -> str:
    """Format the label files and their formats: at most ten files, one per line, and the number of further ones."""
    lines = [f"labels in the format {found.label_format}: {found.path}" for found in labels[:MAX_LABEL_FILES]]
    if len(labels) > MAX_LABEL_FILES:
        lines.append(f"... and {len(labels) - MAX_LABEL_FILES} more label files")
    return "\n".join(lines) or "no labels"


def findings_text(findings: Iterable[Finding], num_unknown: int = 0) -> str:
    """Format at most ten findings of each kind, one per line, and then the total numbers of errors and warnings.

    Args:
        findings: the faults that `check_dataset` returned, in the same order.
        num_unknown: number of files for which it could not be determined whether the labels fit the events.
    """
    lines: list[str] = []
    counts: Counter[str] = Counter()
    for (severity, kind), group in groupby(findings, lambda finding: (finding.severity, finding.kind)):
        found = list(group)
        counts[severity] += len(found)
        lines += [str(finding) for finding in found[:LINES_OF_A_KIND]]
        if len(found) > LINES_OF_A_KIND:
            lines.append(f"{severity:<7}  ... and {len(found) - LINES_OF_A_KIND} more files: {kind}")
    files = "1 file" if num_unknown == 1 else f"{num_unknown} files"
    unknown = f"whether the labels fit the events could not be determined in {files}" if num_unknown else ""
    if not lines:
        return f"no findings; {unknown}" if unknown else "no findings: labels and recordings fit together"
    lines += [unknown] if unknown else []
    return "\n".join([*lines, "", f"{counts['error']} error(s), {counts['warning']} warning(s)"])
