"""Checks of settings and arguments; each raises a ValueError that names the key, the value and what is allowed."""

from pathlib import Path
from typing import Any

__all__ = [
    "require",
    "require_choice",
    "require_equal",
    "require_fraction",
    "require_not_negative",
    "require_positive",
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


def require_positive(group: str, section: Any, *names: str) -> None:
    """Raise a ValueError for the first of the named fields of `section` that is not above 0; None is allowed."""
    for name in names:
        value = getattr(section, name)
        require(value is None or value > 0, f"{group}.{name}", value, "a number above 0")


def require_not_negative(group: str, section: Any, *names: str) -> None:
    """Raise a ValueError for the first of the named fields of `section` that is below 0."""
    for name in names:
        value = getattr(section, name)
        require(value >= 0, f"{group}.{name}", value, "a number of at least 0")


def require_fraction(group: str, section: Any, *names: str) -> None:
    """Raise a ValueError for the first of the named fields of `section` outside 0..1."""
    for name in names:
        value = getattr(section, name)
        require(0 <= value <= 1, f"{group}.{name}", value, "a number from 0 to 1")


def require_equal(path: Path, key: str, value: Any, wanted: Any, origin: str) -> None:
    """Raise a ValueError that names the file unless `value` is what `origin` asks for."""
    if value != wanted:
        raise ValueError(f"{path}: {key} is {value}, allowed by {origin}: {wanted}")
