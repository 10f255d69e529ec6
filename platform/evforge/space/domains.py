"""Domains of a search space: the values that a key can have."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["DOMAINS", "Domain", "parse_domain"]


@dataclass(frozen=True)
class Domain:
    """The values that a searched key can have: a list of options (a choice), or a range of numbers.

    Args:
        kind: name of the domain in `DOMAINS`, such as "choice" or "uniform"
        options: values to choose from, as text, numbers or booleans; empty for a range
        low: smallest value of a range
        high: largest value of a range; `randint` includes it
    """

    kind: str
    options: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def is_choice(self) -> bool:
        """Whether the domain is a choice; False for a range."""
        return bool(self.options)

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(option, int | float) for option in self.options)

    @property
    def extremes(self) -> tuple[Any, ...]:
        """All options of a choice, or both ends of a range."""
        return self.options if self.is_choice else (self.low, self.high)

    def value_of(self, option: Any) -> Any:
        """Convert an option to a value of the configuration: JSON text of a list is parsed, others stay unchanged."""
        if isinstance(option, str) and option.startswith("[") and option in self.options:
            return json.loads(option)
        return option

    def contains(self, option: Any) -> bool:
        """Return whether the option is one of the domain's values."""
        return option in self.options if self.is_choice else self.low <= option <= self.high

    def smallest(self, at_least: float) -> float | None:
        """Return the smallest value of a numeric domain that is at least `at_least`; None if all values are smaller."""
        if self.is_choice:
            return min((option for option in self.options if option >= at_least), default=None)
        return max(self.low, at_least) if at_least <= self.high else None

    def within(self, at_least: float | None, at_most: float | None) -> "Domain":
        """Return a copy of the domain without values below `at_least` or above `at_most`. None means no limit."""
        low = -math.inf if at_least is None else at_least
        high = math.inf if at_most is None else at_most
        if not self.is_choice:
            return replace(self, low=max(self.low, low), high=min(self.high, high))
        if at_least is None and at_most is None:
            return self
        return replace(self, options=tuple(option for option in self.options if low <= option <= high))

    def draw(self, generator: random.Random) -> Any:
        """Draw a random value."""
        if self.is_choice:
            return generator.choice(self.options)
        if self.kind == "randint":
            return generator.randint(math.ceil(self.low), math.floor(self.high))
        if self.kind == "loguniform":
            return math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        return generator.uniform(self.low, self.high)

    def draw_near(self, value: Any, generator: random.Random) -> Any:
        """Draw a value near `value`, within the domain.

        For a choice, the result is the option before or after `value` in the list; at an end of the list it can be
        `value` itself. If `value` is not an option, the result is a random option. For a range, the result is 0.8 or
        1.2 times `value`, limited to the range.
        """
        if self.is_choice:
            if value not in self.options:
                return self.draw(generator)
            index = self.options.index(value) + generator.choice((-1, 1))
            return self.options[min(max(index, 0), len(self.options) - 1)]
        moved = min(max(value * generator.choice((0.8, 1.2)), self.low), self.high)
        return round(moved) if self.kind == "randint" else moved

    def suggest(self, trial: Any, name: str) -> Any:
        """Let an Optuna trial choose a value of the domain for the parameter `name`, and return it."""
        if self.is_choice:
            return trial.suggest_categorical(name, list(self.options))
        if self.kind == "randint":
            return trial.suggest_int(name, math.ceil(self.low), math.floor(self.high))
        return trial.suggest_float(name, self.low, self.high, log=self.kind == "loguniform")


def _choice(kind: str, values: list[Any]) -> Domain:
    if not values:
        raise ValueError(f"{kind}: got {values!r}, allowed: at least one value")
    options = tuple(json.dumps(value) if isinstance(value, list) else value for value in values)
    for option in options:
        if not isinstance(option, str | int | float | bool | None):
            raise ValueError(f"{kind}: got {option!r}, allowed: names, numbers, true, false and lists")
    if len(set(map(repr, options))) != len(options):
        raise ValueError(f"{kind}: got {values!r}, allowed: distinct values")
    return Domain(kind, options)


def _range(kind: str, values: list[Any]) -> Domain:
    wanted = "[low, high] with low < high" + (" and low > 0" if kind == "loguniform" else "")
    try:  # `float` is needed, as YAML reads 1e-4 as text
        low, high = (math.nan if isinstance(value, bool) else float(value) for value in values)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high or not math.isfinite(high - low) or (kind == "loguniform" and low <= 0):
        raise ValueError(f"{kind}: got {values!r}, allowed: {wanted}")
    if kind != "randint":
        return Domain(kind, (), low, high)
    if not low.is_integer() or not high.is_integer():
        raise ValueError(f"{kind}: got {values!r}, allowed: whole numbers, both included")
    return Domain(kind, (), int(low), int(high))


DOMAINS: dict[str, Callable[[str, list[Any]], Domain]] = {
    "choice": _choice,
    "grid": _choice,
    "uniform": _range,
    "loguniform": _range,
    "randint": _range,
}


def parse_domain(entry: Any) -> Domain:
    """Convert a YAML entry such as `{uniform: [0.4, 0.6]}` to a domain.

    Raises:
        ValueError: the entry is invalid; the message states the accepted entries.
    """
    allowed = ", ".join(DOMAINS)
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(f"got {entry!r}, allowed: {{domain: values}} with a domain of {allowed}")
    kind, values = next(iter(entry.items()))
    if kind not in DOMAINS:
        raise ValueError(f"got domain {kind!r}, allowed: {allowed}")
    if not isinstance(values, list):
        raise ValueError(f"{kind}: got {values!r}, allowed: a list")
    return DOMAINS[kind](kind, values)
