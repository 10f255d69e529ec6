"""Errors in the drawing of figures and videos are printed as warnings, so that other results are not lost."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["decoration", "warn"]


@contextmanager
def decoration(what: str) -> Iterator[None]:
    """Run a block that only draws. An error in the block is printed to stderr as a warning and is not raised.

    Args:
        what: name of the figure or video, for the message.
    """
    try:
        yield
    except Exception as error:
        warn(what, error)


def warn(what: str, error: BaseException) -> None:
    """Print one line to stderr that says what was not drawn and why."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    print(f"warning: {what} was not drawn: {reason}", file=sys.stderr)
