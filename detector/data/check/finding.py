"""Findings of a dataset check."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from detector.data.check.evidence import Evidence

__all__ = ["Finding", "Severity", "count_findings", "refusal"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """A property of a file or folder that is wrong (error), or unusual but usable (warning).

    Args:
        severity: error or warning
        path: the file or folder
        kind: name of the fault, the same for every file
        found: what was found; for a repeated fault, the number of occurrences and the first one
        allowed: the expected value
        cause: a likely cause and its remedy, empty if not known
        evidence: data of the figure that shows the fault
    """

    severity: Severity
    path: Path
    kind: str
    found: str
    allowed: str
    cause: str = ""
    evidence: tuple[Evidence, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        text = f"{self.severity:<7}  {self.path}: {self.kind}: {self.found}, allowed: {self.allowed}"
        return f"{text}; {self.cause}" if self.cause else text


def count_findings(
    severity: Severity, path: Path, kind: str, rows: np.ndarray, example: Callable[[int], str], allowed: str
) -> list[Finding]:
    """Combine all rows of a file that have the same fault into one finding. Return an empty list if there are no rows.

    Args:
        severity: error or warning.
        path: the file.
        kind: name of the fault.
        rows: indices of the rows that have the fault.
        example: function that describes the fault of the row with a given index.
        allowed: the expected value.
    """
    if not rows.size:
        return []
    first = example(int(rows[0]))
    return [Finding(severity, path, kind, first if rows.size == 1 else f"{rows.size} times, first {first}", allowed)]


def refusal(path: Path, kind: str, error: Exception) -> Finding:
    """Convert an exception of a file reader to a finding with the severity "error".

    The message of the exception has the form `path: what was found, allowed: what is allowed`.
    """
    text = " ".join(str(error).split()).removeprefix(f"{path}: ")
    for mark in (", allowed: ", "; required: ", ", needed: "):
        found, split, allowed = text.partition(mark)
        if split:
            return Finding("error", path, kind, found, allowed)
    return Finding("error", path, kind, text, "a complete file that can be read")
