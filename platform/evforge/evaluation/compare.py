"""Evaluations as files, and two of them side by side: only under equal rules, on equal data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detector.utils.atomic_write import atomic_write
from evforge.display.tables import figure_text, text_table

__all__ = ["EVALUATION_FILE", "check_comparable", "compare", "find_evaluation", "read_evaluation", "write_evaluation"]

EVALUATION_FILE = "evaluation.json"
RULES = ("split", "data_fingerprint", "classes", "protocol")
"""What must be equal in two evaluations."""


def write_evaluation(path: Path, content: Mapping[str, Any]) -> None:
    """Write an evaluation; the file appears only when it is whole."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")


def find_evaluation(path: str | Path, split: str) -> Path:
    """The file that a path names: itself, or that in the folder of an evaluation, a run or a study.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    folders = path, path / f"evaluate-{split}", path / "best" / f"evaluate-{split}"
    for candidate in (path, *(folder / EVALUATION_FILE for folder in folders)):
        if candidate.is_file() and candidate.suffix == ".json":
            return candidate
    raise FileNotFoundError(f"{path}: no evaluation on {split}; `evforge evaluate {path} --split {split}` makes one")


def read_evaluation(path: Path) -> dict[str, Any]:
    """What an evaluation wrote.

    Raises:
        ValueError: the file is none of an evaluation.
    """
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not an evaluation: {error}") from None
    if not isinstance(content, dict) or not {*RULES, "metrics", "details"} <= content.keys():
        raise ValueError(f"{path}: not an evaluation, allowed: the {EVALUATION_FILE} that `evforge evaluate` writes")
    return content


def check_comparable(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: Path) -> None:
    """Refuse figures of other data or other rules.

    Args:
        ours: an evaluation, or its rules alone.
        theirs: another one.
        path: its file, for the message.

    Raises:
        ValueError: names every key that differs, with both values.
    """
    first, second = _rules(ours), _rules(theirs)
    different = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    if different:
        pairs = (f"{key} is {second.get(key)!r} there and {first.get(key)!r} here" for key in different)
        raise ValueError(f"{path}: cannot be compared, allowed: equal rules and data; {'; '.join(pairs)}")


def compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: Path) -> str:
    """Both evaluations' figures and their differences, as aligned text.

    Args:
        ours: an evaluation.
        theirs: the one to compare it with.
        path: its file.

    Raises:
        ValueError: they were measured on other data or by other rules; names what differs.
    """
    check_comparable(ours, theirs, path)
    first, second = _figures(ours), _figures(theirs)
    lines = [("", "here", "there", "difference")]
    for name in first:
        a, b = first[name], second.get(name)
        if a is not None or b is not None:
            difference = f"{a - b:+.4f}" if a is not None and b is not None else "-"
            lines.append((name, figure_text(a), figure_text(b), difference))
    return f"there: {theirs.get('checkpoint', path)}\n{text_table(lines, numbers=range(1, 4))}"


def _rules(content: Mapping[str, Any]) -> dict[str, Any]:
    rules = {key: content[key] for key in RULES if key != "protocol"}
    return {**rules, **{f"protocol.{key}": value for key, value in content["protocol"].items()}}


def _figures(content: Mapping[str, Any]) -> dict[str, float | None]:
    details = content["details"]
    figures = dict(content["metrics"])
    figures["best F1"] = details["operating_point"]["f1"]
    figures["calibration error"] = details["calibration"]["error"]
    figures["tracks found"] = details["reaction"]["found"]
    figures["median reaction time, ms"] = details["reaction"]["median_ms"]
    for name, parts in details["slices"].items():
        for part in parts:
            bounds = "-".join("" if part[end] is None else f"{part[end]:g}" for end in ("start", "stop"))
            figures[f"AP, {name} {bounds}"] = part["ap"]
    return figures
