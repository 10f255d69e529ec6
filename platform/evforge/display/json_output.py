"""Output of verbs as one JSON document: `--json`."""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["json_text", "only_json"]


@contextmanager
def only_json(active: bool) -> Iterator[None]:
    """Context manager that prints the text of its block to standard error, so that standard output is free for JSON.

    Args:
        active: whether the text is redirected; if False, the block prints as usual.
    """
    if not active:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def json_text(facts: Any) -> str:
    """Format facts as a JSON document. Numbers that JSON does not have (NaN, infinity) become null.

    Args:
        facts: dicts, sequences, numbers, text, paths and NumPy values.
    """
    return json.dumps(_plain(facts), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    """Convert a value to the types of JSON."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
