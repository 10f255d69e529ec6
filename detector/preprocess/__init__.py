"""Preprocessing: events to tensors.

Floats hold values as the network takes them; bytes hold them times a divisor, and 0 is 0 in both.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from detector.preprocess.diff import diff
from detector.preprocess.event_cube import event_cube
from detector.preprocess.histo import histo, stacked_histo
from detector.preprocess.timesurface import multi_channel_timesurface, timesurface
from detector.settings import DataConfig

__all__ = [
    "PREPROCESS",
    "byte_code",
    "diff",
    "event_cube",
    "histo",
    "multi_channel_timesurface",
    "preprocess_function",
    "stacked_histo",
    "timesurface",
]

PREPROCESS: dict[str, Callable[..., None]] = {
    "histo": histo,
    "diff": diff,
    "timesurface": timesurface,
    "multi_channel_timesurface": multi_channel_timesurface,
    "event_cube": event_cube,
    "stacked_histo": stacked_histo,
}
"""Functions by the name that `data.preprocess` gives; all take the arguments of `histo`, some have more by keyword."""


def preprocess_function(data: DataConfig) -> Callable[..., None]:
    """The function that `data` asks for, with its bound and micro-bins filled in.

    Returns:
        `f(xypt, output_array, total_tbins_delta_t, downsampling_factor=0, reset=True)`, see `histo`.
    """
    return partial(PREPROCESS[data.preprocess], max_incr_per_pixel=data.max_incr_per_pixel, **data.utbin_parameters)


def byte_code(data: DataConfig) -> tuple[np.dtype, float]:
    """How bytes hold what `preprocess_function` makes: their type and their divisor."""
    signed = data.preprocess == "diff" or (data.preprocess == "event_cube" and not data.split_polarity)
    dtype = np.dtype(np.int8 if signed else np.uint8)
    counts = data.preprocess in ("histo", "stacked_histo", "diff")
    return dtype, data.max_incr_per_pixel if counts else float(np.iinfo(dtype).max)
