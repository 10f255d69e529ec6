"""The representations that `data.preprocess` names: one record each."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from detector.config.groups import DataConfig
from detector.preprocess.diff import diff
from detector.preprocess.event_cube import event_cube
from detector.preprocess.histo import histo, stacked_histo
from detector.preprocess.timesurface import multi_channel_timesurface, timesurface

__all__ = ["REPRESENTATIONS", "Representation", "byte_code", "preprocess_function", "representation_of"]


class Representation(NamedTuple):
    """How events become the values of a frame, and what these are for augmentation.

    `function`: takes the arguments of `histo`; some have more, by keyword. `counts`: whole numbers are numbers of
    events. `reversible`: what time running backwards gives can be computed from the values; events then have the other
    polarity and micro-bins the other order, which reverses the order of the channels. `signed`: ON counts against OFF,
    so the other polarity is the other sign.
    """

    function: Callable[..., None]
    counts: bool
    reversible: bool
    signed: bool = False


REPRESENTATIONS = {
    "histo": Representation(histo, counts=True, reversible=True),
    "stacked_histo": Representation(stacked_histo, counts=True, reversible=True),
    "diff": Representation(diff, counts=False, reversible=True, signed=True),
    "timesurface": Representation(timesurface, counts=False, reversible=False),
    "multi_channel_timesurface": Representation(multi_channel_timesurface, counts=False, reversible=False),
    "event_cube": Representation(event_cube, counts=False, reversible=True),
}
"""Representations by the name that `data.preprocess` gives."""


def representation_of(data: DataConfig) -> Representation:
    """The representation that `data` asks for."""
    found = REPRESENTATIONS[data.preprocess]
    if data.preprocess == "event_cube" and not data.split_polarity:
        return found._replace(signed=True)
    return found


def preprocess_function(data: DataConfig) -> Callable[..., None]:
    """The function that `data` asks for, with its bound and micro-bins filled in.

    Returns:
        `f(xypt, output_array, total_tbins_delta_t, downsampling_factor=0, reset=True)`, see `histo`.
    """
    function = REPRESENTATIONS[data.preprocess].function
    return partial(function, max_incr_per_pixel=data.max_incr_per_pixel, **data.utbin_parameters)


def byte_code(data: DataConfig) -> tuple[np.dtype, float]:
    """How bytes hold what `preprocess_function` makes: their type and their divisor."""
    signed = data.preprocess == "diff" or (data.preprocess == "event_cube" and not data.split_polarity)
    dtype = np.dtype(np.int8 if signed else np.uint8)
    counts = data.preprocess in ("histo", "stacked_histo", "diff")
    return dtype, data.max_incr_per_pixel if counts else float(np.iinfo(dtype).max)
