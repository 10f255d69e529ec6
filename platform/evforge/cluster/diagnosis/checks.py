"""Checks of `evforge doctor`: the result of a check, and functions that run and print checks."""

import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Probe", "Status", "checks_of", "outcome", "print_check", "print_checks", "version_of"]

Status = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Check:
    """Result of one check, which `evforge doctor` prints as one line.

    Args:
        name: subject of the check
        status: ok, warn (works with limitations) or FAIL
        detail: what was found and, unless the status is ok, how to solve the problem
    """

    name: str
    status: Status
    detail: str


def outcome(name: str, fits: bool, detail: str, problem: str, status: Status = "FAIL") -> Check:
    """Return a check with the status ok and the text `detail` if `fits`, else with `status` and the text `problem`."""
    return Check(name, "ok", detail) if fits else Check(name, status, problem)


Probe = Callable[[], Iterator[Check]]


def print_checks(name: str, probe: Probe, found: list[Check] | None = None) -> int:
    """Run a function that yields checks, and print one line per check.

    Args:
        name: name of the check that is printed if the function raises an exception.
        probe: the function that yields checks.
        found: list to which the checks are appended.

    Returns:
        Number of checks with the status FAIL.
    """
    failed = 0
    for check in checks_of(name, probe):
        failed += print_check(check)
        if found is not None:
            found.append(check)
    return failed


def print_check(check: Check) -> bool:
    """Print a check as one line.

    Returns:
        True if the status is FAIL.
    """
    print(f"{check.name:<24} {check.status:<4}  {check.detail}", flush=True)
    return check.status == "FAIL"


def checks_of(name: str, probe: Probe) -> Iterator[Check]:
    """Yield the checks that `probe()` yields. If it raises an exception, yield a check `name` with the status FAIL."""
    try:
        yield from probe()
    except Exception as error:  # a broken installation can raise any error, but the other checks must still run
        yield Check(name, "FAIL", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None if the package is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
