"""Checks of `evforge doctor`: their subject, their status, and what to do."""

import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Probe", "Status", "checks_of", "outcome", "print_check", "print_checks", "version_of"]

Status = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Args:
        name: subject of the check
        status: ok, warn (works with limits) or FAIL
        detail: what was found and, if the status is not ok, what to do
    """

    name: str
    status: Status
    detail: str


def outcome(name: str, fits: bool, detail: str, problem: str, status: Status = "FAIL") -> Check:
    """A check that is ok with `detail` if `fits`, otherwise has `status` with `problem`."""
    return Check(name, "ok", detail) if fits else Check(name, status, problem)


Probe = Callable[[], Iterator[Check]]


def print_checks(name: str, probe: Probe) -> int:
    """Print one line per check.

    Returns:
        Number of checks that FAIL.
    """
    return sum(map(print_check, checks_of(name, probe)))


def print_check(check: Check) -> bool:
    """Print one line.

    Returns:
        Whether the status is FAIL.
    """
    print(f"{check.name:<24} {check.status:<4}  {check.detail}", flush=True)
    return check.status == "FAIL"


def checks_of(name: str, probe: Probe) -> Iterator[Check]:
    """Checks of a probe; an exception of the probe becomes a check that FAILs."""
    try:
        yield from probe()
    except Exception as error:  # a broken installation raises any error; the other lines must still be printed
        yield Check(name, "FAIL", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def version_of(package: str) -> str | None:
    """Version of an installed package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
