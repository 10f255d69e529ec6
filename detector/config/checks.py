"""Checks of settings and arguments; each raises a ValueError that names the key, the value and what is allowed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Range",
    "require",
    "require_choice",
    "require_equal",
]


def require(ok: bool, key: str, value: Any, allowed: str) -> None:
    """Raise a ValueError unless `ok`.

    Args:
        ok: whether the value is allowed.
        key: name of the setting or argument.
        value: the value that was given.
        allowed: what is allowed instead.
    """
    if not ok:
        raise ValueError(f"{key}: got {value!r}, allowed: {allowed}")


def require_choice(key: str, value: Any, names: Any) -> None:
    """Raise a ValueError unless `value` is one of `names`."""
    require(value in names, key, value, "one of " + ", ".join(names))


@dataclass(frozen=True)
class Range:
    """Range of allowed numbers: above `above`, at least `least`, at most `most`."""

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
        """Raise a ValueError if the number of the setting `key` is outside the range; None and names are allowed."""
        if isinstance(value, int | float):
            low = value > self.above if self.above is not None else value >= (self.least or 0)
            require(low and (self.most is None or value <= self.most), key, value, str(self))


def require_equal(path: Path, key: str, value: Any, wanted: Any, origin: str) -> None:
    """Raise a ValueError that names the file unless `value` is the one that `origin` requires."""
    if value != wanted:
        raise ValueError(f"{path}: {key} is {value}, allowed by {origin}: {wanted}")
