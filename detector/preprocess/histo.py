"""Histograms of events: counts by pixel and polarity."""

from math import ceil

import numpy as np

from detector.preprocess.binning import EventColumns, check_output, into_bins
from detector.preprocess.kernels import count, divide

__all__ = ["histo", "stacked_histo"]


def histo(
    xypt: np.ndarray | EventColumns,
    output_array: np.ndarray,
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    reset: bool = True,
    max_incr_per_pixel: float = 5.0,
) -> None:
    """Count events by time bin, polarity and pixel.

    Bin k of T covers [k * total / T, (k + 1) * total / T); events outside [0, total) are dropped. Counts are clipped
    at `max_incr_per_pixel`: uint8 holds them as they are, a float divided by the bound (0 to 1).

    Args:
        xypt: `EventCD` array or columns x, y, p, t; t in microseconds from the start of the first bin. Not changed.
        output_array: (T, 2, H, W) uint8, float16 or float32, filled in place; channel 0 counts OFF events, 1 ON events.
        total_tbins_delta_t: duration of all T bins in microseconds.
        downsampling_factor: k sums squares of 2^k x 2^k sensor pixels.
        reset: start from 0; otherwise add to what the array holds, by the same bound.
        max_incr_per_pixel: count at which a pixel saturates.

    Raises:
        ValueError: a shape, type or bound that does not fit, or an event outside the output.
    """
    _histograms(xypt, output_array, total_tbins_delta_t, downsampling_factor, reset, max_incr_per_pixel, 1)


def stacked_histo(
    xypt: np.ndarray | EventColumns,
    output_array: np.ndarray,
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    reset: bool = True,
    max_incr_per_pixel: float = 5.0,
    *,
    num_utbins: int = 3,
) -> None:
    """Count events by time bin, polarity, micro-bin and pixel: the stacked histogram of RVT (Gehrig, Scaramuzza 2023).

    Otherwise as `histo`. RVT itself takes 10 micro-bins of 5 ms and clips at 255.

    Args:
        xypt: as in `histo`.
        output_array: (T, 2 * num_utbins, H, W); channel p * num_utbins + micro-bin.
        total_tbins_delta_t: as in `histo`.
        downsampling_factor: as in `histo`.
        reset: as in `histo`.
        max_incr_per_pixel: count in a micro-bin at which a pixel saturates.
        num_utbins: micro-bins of a time bin.

    Raises:
        ValueError: as in `histo`.
    """
    _histograms(xypt, output_array, total_tbins_delta_t, downsampling_factor, reset, max_incr_per_pixel, num_utbins)


def _histograms(
    xypt: np.ndarray | EventColumns,
    output: np.ndarray,
    total: int,
    shift: int,
    reset: bool,
    bound: float,
    num_utbins: int,
) -> None:
    check_output(output, 2 * num_utbins, total, shift, bound, counts=True)
    bins, _, height, width = output.shape
    events = into_bins(xypt, bins * num_utbins, total)
    raw = output.dtype == np.uint8
    scratch = None if raw else np.empty(output[0].shape, np.uint8 if bound <= 255 else np.uint16)
    for k, frame in enumerate(output):
        counts = frame if scratch is None else scratch
        bounds = events.bounds[k * num_utbins : (k + 1) * num_utbins + 1]
        clear = reset or not raw
        inside = count(*events[:3], bounds, shift, counts.dtype.type(ceil(bound)), clear, counts)
        events.check(inside, output.shape, shift)
        if not raw:
            _store(counts, frame, reset, bound)


def _store(counts: np.ndarray, frame: np.ndarray, reset: bool, bound: float) -> None:
    """Write clipped counts into a float frame, divided by their bound."""
    if frame.dtype == np.float32 and reset:
        divide(counts.reshape(-1), frame.reshape(-1), np.float32(bound))
        return
    scaled = counts.astype(np.float32)
    scaled /= bound
    np.minimum(scaled if reset else scaled + frame, 1, out=frame, casting="same_kind")
