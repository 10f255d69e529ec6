"""Time surfaces: when each pixel last fired."""

import numpy as np

from detector.preprocess.binning import EventColumns, check_output, into_bins
from detector.preprocess.kernels import mark_levels, mark_times

__all__ = ["MULTI_CHANNEL_UTBINS", "multi_channel_timesurface", "timesurface"]

MULTI_CHANNEL_UTBINS = 3
"""Micro-bins of `multi_channel_timesurface`: with two polarities they make six channels."""


def timesurface(
    xypt: np.ndarray | EventColumns,
    output_array: np.ndarray,
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    reset: bool = True,
    max_incr_per_pixel: float = 5.0,
) -> None:
    """Time of the last event by time bin, polarity and pixel.

    A float output holds (t - start + 1) / duration of its bin, so the bin's first microsecond gives the least value
    above 0, its last one 1, and no event 0. uint8 holds 255 times that, rounded up: 1 to 255, and 0 for no event.

    Args:
        xypt: `EventCD` array or columns x, y, p, t; t in microseconds from the start of the first bin. Not changed.
        output_array: (T, 2, H, W) uint8, float16 or float32, filled in place; channel 0 for OFF events, 1 for ON.
        total_tbins_delta_t: duration of all T bins in microseconds; events outside are dropped.
        downsampling_factor: k takes the last event of each square of 2^k x 2^k sensor pixels.
        reset: start from no events; otherwise the later time of the array and the events stays.
        max_incr_per_pixel: without effect, for the sake of one signature.

    Raises:
        ValueError: a shape or type that does not fit, or an event outside the output.
    """
    _surfaces(xypt, output_array, total_tbins_delta_t, downsampling_factor, reset, max_incr_per_pixel, 1)


def multi_channel_timesurface(
    xypt: np.ndarray | EventColumns,
    output_array: np.ndarray,
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    reset: bool = True,
    max_incr_per_pixel: float = 5.0,
) -> None:
    """The `timesurface` of each third of a time bin: six channels, (T, 6, H, W), channel 2 * third + p.

    No open source tells how others lay out their six channels: this layout is ours.

    Arguments and errors as in `timesurface`; times are relative to the third.
    """
    utbins = MULTI_CHANNEL_UTBINS
    _surfaces(xypt, output_array, total_tbins_delta_t, downsampling_factor, reset, max_incr_per_pixel, utbins)


def _surfaces(
    xypt: np.ndarray | EventColumns,
    output: np.ndarray,
    total: int,
    shift: int,
    reset: bool,
    bound: float,
    num_utbins: int,
) -> None:
    check_output(output, 2 * num_utbins, total, shift, bound)
    bins, _, height, width = output.shape
    events = into_bins(xypt, bins * num_utbins, total)
    in_bytes = output.dtype == np.uint8
    mark = mark_levels if in_bytes else mark_times
    direct = reset and output.dtype != np.float16
    scratch = None if direct else np.empty((2, height, width), np.uint8 if in_bytes else np.float32)
    frames = (frame for step in output for frame in step.reshape(num_utbins, 2, height, width))
    for k, frame in enumerate(frames):
        surface = frame if scratch is None else scratch
        surface[:] = 0
        first, end = events.edges[k : k + 2].tolist()
        inside = mark(*events.within(*events.bounds[k : k + 2]), shift, first, end - first, surface)
        events.check(inside, output.shape, shift)
        if scratch is not None:
            np.maximum(surface, 0 if reset else frame, out=frame, casting="same_kind")
