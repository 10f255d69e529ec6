"""`evforge check`: prints the faults of a dataset and returns an exit code."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from detector.config.groups import DEFAULT_DATA, DataConfig
from detector.data.check.dataset import Finding, check_dataset
from detector.data.check.inventory import Sensor
from detector.labels import LabelTiming

__all__ = ["check", "findings_text"]

LINES_OF_A_KIND = 10


def check(
    paths: Sequence[str],
    sensor: Sensor = (None, None),
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    *,
    data: DataConfig = DEFAULT_DATA,
) -> int:
    """Check recordings, tensor files or a dataset folder for faults, and print what was found.

    Args:
        paths: either one dataset folder, or recordings and tensor files.
        sensor: height and width in pixels, for recordings that do not state them.
        timing: how the label times of recordings are determined.
        data: settings with the formats of recordings and labels, and the tolerated share of faulty events.

    Returns:
        1 if at least one fault is an error, 0 if there are only warnings or no faults.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a folder contains no recording or tensor file.
    """
    findings = check_dataset(*paths, sensor=sensor, progress=True, timing=timing, data=data)
    print(findings_text(findings))
    return int(any(finding.severity == "error" for finding in findings))


def findings_text(findings: Iterable[Finding]) -> str:
    """Format at most ten findings of each kind, one per line, and then the total numbers of errors and warnings.

    Args:
        findings: the faults that `check_dataset` returned, in the same order.
    """
    lines: list[str] = []
    counts: Counter[str] = Counter()
    for (severity, kind), group in groupby(findings, lambda finding: (finding.severity, finding.kind)):
        found = list(group)
        counts[severity] += len(found)
        lines += [str(finding) for finding in found[:LINES_OF_A_KIND]]
        if len(found) > LINES_OF_A_KIND:
            lines.append(f"{severity:<7}  ... and {len(found) - LINES_OF_A_KIND} more files: {kind}")
    if not lines:
        return "no findings: labels and recordings fit together"
    return "\n".join([*lines, "", f"{counts['error']} error(s), {counts['warning']} warning(s)"])
