"""Lines of `evforge doctor`: what was looked at, how it is, and what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Probe", "Status", "checks_of", "print_check", "print_checks"]

Status = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Args:
        name: what was looked at
        status: ok, warn (works, but with limits) or FAIL
        detail: what was found and, unless it is ok, what to do
    """

    name: str
    status: Status
    detail: str


Probe = Callable[[], Iterator[Check]]


def print_checks(name: str, probe: Probe) -> int:
    """Print a line a check.

    Returns:
        How many FAIL.
    """
    return sum(map(print_check, checks_of(name, probe)))


def print_check(check: Check) -> bool:
    """Print one line.

    Returns:
        Whether it is a FAIL.
    """
    print(f"{check.name:<24} {check.status:<4}  {check.detail}", flush=True)
    return check.status == "FAIL"


def checks_of(name: str, probe: Probe) -> Iterator[Check]:
    """Checks of a probe; whatever it raises is one that FAILs."""
    try:
        yield from probe()
    except Exception as error:  # a broken installation raises anything; the other lines must still be printed
        yield Check(name, "FAIL", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
