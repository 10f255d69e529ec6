import importlib.metadata

import pytest

from evforge.cluster.diagnosis.checks import Check, checks_of, outcome, print_check, print_checks, version_of


def test_an_outcome_is_ok_or_has_the_status_and_the_text_of_the_problem():
    assert outcome("disk", True, "9 GiB", "full") == Check("disk", "ok", "9 GiB")
    assert outcome("disk", False, "9 GiB", "full") == Check("disk", "FAIL", "full")
    assert outcome("disk", False, "9 GiB", "full", "warn") == Check("disk", "warn", "full")


@pytest.mark.parametrize(
    ("check", "line", "failed"),
    [
        (Check("disk", "ok", "9 GiB free"), "disk                     ok    9 GiB free\n", False),
        (Check("memory", "warn", "little"), "memory                   warn  little\n", False),
        (Check("GPU", "FAIL", "none"), "GPU                      FAIL  none\n", True),
    ],
)
def test_a_check_is_one_line(check, line, failed, capsys):
    assert print_check(check) is failed
    assert capsys.readouterr().out == line


def test_an_exception_becomes_a_failed_check_after_those_that_were_made():
    def probe():
        yield Check("a", "ok", "1")
        raise ImportError("libcuda.so:\n  not found " + "x" * 300)

    first, second = checks_of("GPU", probe)
    assert first == Check("a", "ok", "1")
    assert (second.name, second.status) == ("GPU", "FAIL")
    assert second.detail.startswith("ImportError: libcuda.so: not found xxx") and len(second.detail) == 213


def test_failures_are_counted(capsys):
    states = ["FAIL", "ok", "warn", "FAIL"]
    assert print_checks("a", lambda: (Check(str(k), status, "") for k, status in enumerate(states))) == 2
    found = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert found == [["0", "FAIL"], ["1", "ok"], ["2", "warn"], ["3", "FAIL"]]


def test_the_version_of_a_package():
    assert version_of("numpy") == importlib.metadata.version("numpy")
    assert version_of("no-such-package") is None
