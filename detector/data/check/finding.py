"""One line of a dataset check."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

__all__ = ["Finding", "count_findings", "refusal"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something about a file or folder that is wrong (error), or odd but usable (warning).

    Args:
        severity: error or warning
        path: the file or folder
        kind: what is the matter, the same words for every file
        found: details; of repeated findings their number and the first
        allowed: what would be right
        cause: a likely cause and what to do about it, if known
    """

    severity: Severity
    path: Path
    kind: str
    found: str
    allowed: str
    cause: str = ""

    def __str__(self) -> str:
        text = f"{self.severity:<7}  {self.path}: {self.kind}: {self.found}, allowed: {self.allowed}"
        return f"{text}; {self.cause}" if self.cause else text


def count_findings(
    severity: Severity, path: Path, kind: str, rows: np.ndarray, example: Callable[[int], str], allowed: str
) -> list[Finding]:
    """One finding for all rows of a file that have the same fault, none if there are none.

    Args:
        severity: error or warning.
        path: the file.
        kind: the fault.
        rows: indices of the rows that have it.
        example: describes a row.
        allowed: what would be right.
    """
    if not rows.size:
        return []
    first = example(int(rows[0]))
    return [Finding(severity, path, kind, first if rows.size == 1 else f"{rows.size} times, first {first}", allowed)]


def refusal(path: Path, kind: str, error: Exception) -> Finding:
    """The error of a reader as a finding: `path: found, allowed: what is allowed`, without the path."""
    text = " ".join(str(error).split()).removeprefix(f"{path}: ")
    for mark in (", allowed: ", "; required: ", ", needed: "):
        found, split, allowed = text.partition(mark)
        if split:
            return Finding("error", path, kind, found, allowed)
    return Finding("error", path, kind, text, "a whole file that can be read")
