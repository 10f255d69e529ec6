"""Preprocessing: events to tensors."""

from collections.abc import Callable

from detector.preprocess.histo import histo

__all__ = ["PREPROCESS", "histo"]

PREPROCESS: dict[str, Callable[..., None]] = {"histo": histo}
"""Functions by the name that `data.preprocess` gives; all have the signature of `histo`."""
