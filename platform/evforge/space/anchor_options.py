"""Anchor lists in a search space: names, literal lists, regular lists, and lists fitted to the labels.

    anchors.anchor_list:
      choice:
        - PSEE_ANCHORS
        - [[1, 1], [2.5, 1]]               # (ratio, scale) pairs
        - {ratios: 3, scales: 2}           # ratios 1/2, 1, 2 with scales 1, 2^(1/2); or lists of numbers
        - {fit: 6}                         # six anchors fitted to the training labels, when the search starts

A domain stores each option as a primitive: a name or a JSON text.
"""

import itertools
import json
from typing import Any

__all__ = ["ANCHOR_LIST", "expand_options", "fit_count", "option_text", "regular_list"]

ANCHOR_LIST = "anchors.anchor_list"
"""Key of the setting that has these options."""

ALLOWED = "a name, [[ratio, scale], ...], {ratios: NUMBER or LIST, scales: NUMBER or LIST} or {fit: NUMBER}"


def regular_list(ratios: int | list[float], scales: int | list[float]) -> list[tuple[float, float]]:
    """Combine every ratio with every scale, and return the (ratio, scale) pairs.

    Args:
        ratios: ratios height / width; a number n means n ratios around 1, each twice the previous ratio
        scales: relative sizes; a number n means the n scales 1, 2^(1/n), 2^(2/n), ... below 2
    """
    heights = [2 ** (i - (ratios - 1) / 2) for i in range(ratios)] if isinstance(ratios, int) else ratios
    sizes = [2 ** (i / scales) for i in range(scales)] if isinstance(scales, int) else scales
    return [(float(f"{ratio:.4g}"), float(f"{scale:.4g}")) for ratio, scale in itertools.product(heights, sizes)]


def expand_options(entry: Any) -> Any:
    """Replace the mappings in a YAML entry such as `{choice: [{fit: 6}, {ratios: 3, scales: 2}]}`.

    A mapping of ratios and scales becomes a list of (ratio, scale) pairs. `{fit: k}` becomes JSON text.

    Raises:
        ValueError: a mapping is not one of these two.
    """
    if not isinstance(entry, dict):
        return entry
    return {
        kind: [_expand(value) if isinstance(value, dict) else value for value in values]
        if isinstance(values, list)
        else values
        for kind, values in entry.items()
    }


def fit_count(option: Any) -> int | None:
    """Return the number k if an option is the JSON text of `{fit: k}`; None for other options."""
    return json.loads(option)["fit"] if isinstance(option, str) and option.startswith("{") else None


def option_text(pairs: list[tuple[float, float]]) -> str:
    """Convert (ratio, scale) pairs to JSON text, the form in which a domain stores them."""
    return json.dumps(pairs)


def _expand(value: dict[str, Any]) -> Any:
    if set(value) == {"fit"} and _is_count(value["fit"]):
        return json.dumps(value)
    if set(value) == {"ratios", "scales"} and all(_is_count(part) or _are_numbers(part) for part in value.values()):
        return [list(pair) for pair in regular_list(**value)]
    raise ValueError(f"got {value!r}, allowed: {ALLOWED}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, int | float) and v > 0 for v in value)
