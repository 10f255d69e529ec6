"""Checks of settings and arguments. A failed check raises a ValueError with the key, the value and what is allowed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Mistakes",
    "Range",
    "raise_all",
    "require",
    "require_choice",
    "require_equal",
]


class Mistakes(ValueError):
    """Several mistakes in one input. The text has one line per mistake."""


def raise_all(messages: Sequence[str]) -> None:
    """Raise a ValueError with all messages if there are any; with more than one, this is `Mistakes`."""
    if messages:
        raise (Mistakes if len(messages) > 1 else ValueError)("\n".join(messages))


def require(ok: bool, key: str, value: Any, allowed: str) -> None:
    """Raise a ValueError if `ok` is false. The other arguments are only used in the error message.

    Args:
        ok: whether the value is allowed.
        key: name of the setting or argument.
        value: the given value.
        allowed: description of the allowed values.
    """
    if not ok:
        raise ValueError(f"{key}: got {value!r}, allowed: {allowed}")


def require_choice(key: str, value: Any, names: Any) -> None:
    """Raise a ValueError unless `value` is one of `names`."""
    require(value in names, key, value, "one of " + ", ".join(names))


@dataclass(frozen=True)
class Range:
    """Range of allowed numbers.

    Args:
        above: lower bound that is not allowed itself; replaces `least` if it is given
        least: lower bound that is allowed itself; 0 if None
        most: upper bound that is allowed itself; no upper bound if None
    """

    above: float | None = None
    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        if self.most is None:
            return f"a number above {self.above}" if self.least is None else f"a number of at least {self.least}"
        return (
            f"a number above {self.above}, up to {self.most}"
            if self.least is None
            else (f"a number from {self.least} to {self.most}")
        )

    def check(self, key: str, value: Any) -> None:
        """Raise a ValueError if the setting `key` is a number outside the range. Values other than numbers pass."""
        if isinstance(value, int | float):
            low = value > self.above if self.above is not None else value >= (self.least or 0)
            require(low and (self.most is None or value <= self.most), key, value, str(self))


def require_equal(path: Path, key: str, value: Any, wanted: Any, origin: str) -> None:
    """Raise a ValueError unless a value in a file is the required value.

    Args:
        path: the file, named in the error message.
        key: name of the value.
        value: the value in the file.
        wanted: the required value.
        origin: setting or file that requires this value, named in the error message.
    """
    if value != wanted:
        raise ValueError(f"{path}: {key} is {value}, allowed by {origin}: {wanted}")
