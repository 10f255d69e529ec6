"""Representations `timesurface` and `multi_channel_timesurface`: the time of the last event of each pixel."""

from functools import partial

import numpy as np

from detector.config.groups import DataConfig
from detector.preprocess.binning import EventColumns, check_output, into_bins
from detector.preprocess.kernels import mark
from detector.preprocess.representation import Representation

__all__ = [
    "multi_channel_representation",
    "multi_channel_timesurface",
    "timesurface",
    "timesurface_representation",
]

MULTI_CHANNEL_UTBINS = 3
"""Number of micro-bins of `multi_channel_timesurface`, which has two channels per micro-bin."""


def timesurface(
    xypt: np.ndarray | EventColumns,
    output_array: np.ndarray,
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    reset: bool = True,
    max_incr_per_pixel: float = 5.0,
    *,
    num_utbins: int = 1,
) -> None:
    """Compute the time of the last event by time bin, micro-bin, polarity and pixel.

    A float output contains (t - start + 1) / duration, with the start and duration of the micro-bin. This is 1 /
    duration in the first microsecond of the micro-bin and 1 in the last one. A uint8 output contains 255 times this
    value, rounded up (1 to 255). Pixels without an event are 0.

    Args:
        xypt: `EventCD` array or columns x, y, p, t, with t in microseconds from the start of the first bin. Not
            changed.
        output_array: (T, 2 * num_utbins, H, W) uint8, float16 or float32, filled in place. The channel is 2 * micro-bin
            + p, with p = 0 for OFF events and 1 for ON events.
        total_tbins_delta_t: duration of all T bins in microseconds. Events outside the bins are dropped.
        downsampling_factor: exponent k; an output pixel contains the last event of 2^k x 2^k sensor pixels.
        reset: whether to start from 0. If False, a value in `output_array` is only replaced by a later time.
        max_incr_per_pixel: has no effect; part of the signature that all representations share.
        num_utbins: number of micro-bins per time bin.

    Raises:
        ValueError: a shape or type is not allowed, or an event is outside the output.
    """
    shift, output = downsampling_factor, output_array
    check_output(output, 2 * num_utbins, total_tbins_delta_t, shift, max_incr_per_pixel)
    bins, _, height, width = output.shape
    events = into_bins(xypt, bins * num_utbins, total_tbins_delta_t)
    in_bytes = output.dtype == np.uint8
    direct = reset and output.dtype != np.float16
    scratch = None if direct else np.empty((2, height, width), np.uint8 if in_bytes else np.float32)
    frames = (frame for step in output for frame in step.reshape(num_utbins, 2, height, width))
    for k, frame in enumerate(frames):
        surface = frame if scratch is None else scratch
        surface[:] = 0
        first, end = events.edges[k : k + 2].tolist()
        columns, levels = events.within(*events.bounds[k : k + 2]), 255 if in_bytes else 0
        inside = mark(*columns, shift, first, end - first, levels, surface)
        events.check(inside, output.shape, shift)
        if scratch is not None:
            np.maximum(surface, 0 if reset else frame, out=frame, casting="same_kind")


multi_channel_timesurface = partial(timesurface, num_utbins=MULTI_CHANNEL_UTBINS)


def timesurface_representation(data: DataConfig, num_utbins: int = 1) -> Representation:
    """Create the representation `timesurface` with the settings in `data`."""
    return Representation(
        timesurface if num_utbins == 1 else multi_channel_timesurface,
        channels=2 * num_utbins,
        dtype="uint8",
        divisor=255,
        parameters={"max_incr_per_pixel": data.max_incr_per_pixel},
        torch_form="detector.preprocess.torch_form:timesurface",
    )


def multi_channel_representation(data: DataConfig) -> Representation:
    """Create the representation `timesurface` with three micro-bins per time bin.

    Other software may order the six channels differently.
    """
    return timesurface_representation(data, MULTI_CHANNEL_UTBINS)
