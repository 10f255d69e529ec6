"""Figures and videos beside results: a failure to draw never costs the results."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["decoration", "warn"]


@contextmanager
def decoration(what: str) -> Iterator[None]:
    """A block that only draws: an error in it becomes a warning on stderr, and the program continues.

    Args:
        what: that is drawn, for the message.
    """
    try:
        yield
    except Exception as error:
        warn(what, error)


def warn(what: str, error: BaseException) -> None:
    """Say on stderr, in one line, what could not be drawn and why."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    print(f"warning: {what} was not drawn: {reason}", file=sys.stderr)
