"""Figures and videos beside results: an error while drawing them does not lose the results."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["decoration", "warn"]


@contextmanager
def decoration(what: str) -> Iterator[None]:
    """Turn an error in a block that only draws into a warning on stderr.

    Args:
        what: name of the figure or video, for the message.
    """
    try:
        yield
    except Exception as error:
        warn(what, error)


def warn(what: str, error: BaseException) -> None:
    """Print one line to stderr: what could not be drawn, and why."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    print(f"warning: {what} was not drawn: {reason}", file=sys.stderr)
