from pathlib import Path

import numpy as np
import pytest

from detector.data.check.evidence import Bars
from detector.data.check.finding import Finding, count_findings, refusal

PATH = Path("set/a.raw")


def test_a_finding_as_one_line():
    finding = Finding("error", PATH, "box twice", "x 3", "one box")
    assert str(finding) == "error    set/a.raw: box twice: x 3, allowed: one box"
    warning = Finding("warning", PATH, "box twice", "x 3", "one box", "remove it")
    assert str(warning) == "warning  set/a.raw: box twice: x 3, allowed: one box; remove it"


def test_figures_do_not_make_findings_different():
    plain = Finding("error", PATH, "a", "b", "c")
    drawn = Finding("error", PATH, "a", "b", "c", evidence=(Bars("title", "events", {"ON": 1.0}),))
    assert plain == drawn and "Bars" not in repr(drawn)
    assert plain != Finding("warning", PATH, "a", "b", "c")


@pytest.mark.parametrize(
    ("rows", "found"), [([], []), ([7], ["row 7"]), ([4, 7, 9], ["3 times, first row 4"]), ([0], ["row 0"])]
)
def test_rows_with_one_fault_are_one_finding(rows, found):
    findings = count_findings(
        "warning", PATH, "box twice", np.array(rows, np.int64), lambda row: f"row {row}", "one box"
    )
    assert findings == [Finding("warning", PATH, "box twice", text, "one box") for text in found]


@pytest.mark.parametrize(
    ("message", "found", "allowed"),
    [
        ("set/a.raw: got 3, allowed: 1, 2", "got 3", "1, 2"),
        ("fields found: t; required: t, x", "fields found: t", "t, x"),
        ("contains b, needed: a dataset", "contains b", "a dataset"),
        ("set/a.raw: no\n  space", "no space", "a complete file that can be read"),
        ("set/b.raw: gone", "set/b.raw: gone", "a complete file that can be read"),
    ],
)
def test_errors_of_readers_become_findings(message, found, allowed):
    assert refusal(PATH, "unreadable", ValueError(message)) == Finding("error", PATH, "unreadable", found, allowed)
