"""Reading and writing of evaluation files, and comparison of two evaluations with equal rules and data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evforge.display.tables import metric_text, range_text, text_table
from evforge.training.run_folder import RECORD_FILE, write_text

__all__ = [
    "EVALUATION_FILE",
    "check_comparable",
    "compare",
    "different_rules",
    "find_evaluation",
    "read_evaluation",
    "write_evaluation",
]

EVALUATION_FILE = "evaluation.json"
RULES = ("split", "data_fingerprint", "classes", "protocol")
"""Keys whose values must be equal in two evaluations that are compared."""


def write_evaluation(path: Path, content: Mapping[str, Any]) -> None:
    """Write an evaluation to a JSON file. A partly written file never exists under this path."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def find_evaluation(path: str | Path, split: str) -> Path:
    """Find the evaluation file of a split: `path` itself, or the file in the folder of an evaluation, a run or a study.

    Raises:
        FileNotFoundError: there is no evaluation of `split`.
    """
    path = Path(path)
    folders = path, path / f"evaluate-{split}", path / "best" / f"evaluate-{split}"
    for candidate in (path, *(folder / EVALUATION_FILE for folder in folders)):
        if candidate.is_file() and candidate.suffix == ".json":
            return candidate
    if not (path / RECORD_FILE).is_file() and any(path.glob(f"*/{RECORD_FILE}")):
        allowed = f"the folder of one of them, or an {EVALUATION_FILE}"
        raise FileNotFoundError(f"{path}: is a folder of several runs, allowed: {allowed}")
    raise FileNotFoundError(f"{path}: no evaluation on {split}; `evforge evaluate {path} --split {split}` makes one")


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read an evaluation from a file that `write_evaluation` wrote.

    Raises:
        ValueError: the file is not an evaluation.
    """
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not an evaluation: {error}") from None
    if not isinstance(content, dict) or not {*RULES, "metrics", "details"} <= content.keys():
        raise ValueError(f"{path}: not an evaluation, allowed: the {EVALUATION_FILE} that `evforge evaluate` writes")
    return content


def check_comparable(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: Path) -> None:
    """Check that two evaluations used the same data and the same rules.

    Args:
        ours: content of an evaluation file; only the keys in `RULES` are needed.
        theirs: content of the evaluation file to compare with.
        path: path of the file of `theirs`, for the error message.

    Raises:
        ValueError: data or rules differ; the message names every key that differs, with both values.
    """
    different = different_rules(ours, theirs)
    if different:
        raise ValueError(f"{path}: cannot be compared, allowed: equal rules and data; {different}")


def different_rules(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Describe every difference between the data and rules of two evaluations, with both values.

    Args:
        ours: content of an evaluation file; only the keys in `RULES` are needed.
        theirs: content of the evaluation file to compare with.

    Returns:
        The differences in one line; empty if there are none.
    """
    first, second = _rules(ours), _rules(theirs)
    return "; ".join(
        f"{key} is {second.get(key)!r} there and {first.get(key)!r} here"
        for key in {**first, **second}
        if first.get(key) != second.get(key)
    )


def compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: Path) -> str:
    """Format a table with the metrics of two evaluations and the differences between them.

    Args:
        ours: content of an evaluation file.
        theirs: content of the evaluation file to compare with.
        path: path of the file of `theirs`, for messages.

    Raises:
        ValueError: data or rules differ; the message names every key that differs, with both values.
    """
    check_comparable(ours, theirs, path)
    first, second = _metrics(ours), _metrics(theirs)
    lines = [("", "here", "there", "difference")]
    for name, a in first.items():
        b = second.get(name)
        if a is not None or b is not None:
            difference = f"{a - b:+.4f}" if a is not None and b is not None else "-"
            lines.append((name, metric_text(a), metric_text(b), difference))
    return f"there: {theirs.get('checkpoint', path)}\n{text_table(lines, numbers=range(1, 4))}"


def _rules(content: Mapping[str, Any]) -> dict[str, Any]:
    rules = {key: content[key] for key in RULES if key in content and key != "protocol"}
    return {**rules, **{f"protocol.{key}": value for key, value in content["protocol"].items()}}


def _metrics(content: Mapping[str, Any]) -> dict[str, float | None]:
    details = content["details"]
    return {
        **content["metrics"],
        "best F1": details["operating_point"]["f1"],
        "calibration error": details["calibration"]["error"],
        "tracks found": details["reaction"]["found"],
        "median reaction time, ms": details["reaction"]["median_ms"],
        **{
            f"AP, {name} {range_text(part['start'], part['stop'])}": part["ap"]
            for name, parts in details["slices"].items()
            for part in parts
        },
    }
