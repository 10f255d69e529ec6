"""Representations `histo` and `stacked_histo`: counts of events by pixel and polarity."""

from dataclasses import replace
from functools import partial
from math import ceil

import numpy as np

from detector.config.groups import DataConfig
from detector.preprocess.binning import EventColumns, check_output, into_bins
from detector.preprocess.kernels import count, divide
from detector.preprocess.representation import Representation

__all__ = ["histo", "histo_representation", "stacked_histo", "stacked_histo_representation"]


def histo(
    xypt: np.ndarray | EventColumns,
    output_array: np.ndarray,
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    reset: bool = True,
    max_incr_per_pixel: float = 5.0,
    *,
    num_utbins: int = 1,
) -> None:
    """Count events by time bin, micro-bin, polarity and pixel.

    With total = `total_tbins_delta_t`, time bin k contains the times in [k * total / T, (k + 1) * total / T). Each time
    bin is divided into `num_utbins` equal micro-bins. Counts are clipped to `max_incr_per_pixel`. A uint8 output
    contains the counts, a float output the counts divided by this bound (0 to 1).

    With several micro-bins, this is the stacked histogram of RVT (Gehrig and Scaramuzza, 2023). RVT uses 10 micro-bins
    of 5 ms and clips counts to 255.

    Args:
        xypt: `EventCD` array or columns x, y, p, t, with t in microseconds from the start of the first bin. Not
            changed.
        output_array: (T, 2 * num_utbins, H, W) uint8, float16 or float32, filled in place. The channel is p *
            num_utbins + micro-bin, with p = 0 for OFF events and 1 for ON events.
        total_tbins_delta_t: duration of all T bins in microseconds. Events outside the bins are dropped.
        downsampling_factor: exponent k; an output pixel sums the events of 2^k x 2^k sensor pixels.
        reset: whether to start from 0. If False, events are added to the values in `output_array`, which must have been
            computed with the same `max_incr_per_pixel`.
        max_incr_per_pixel: count at which a pixel of a micro-bin saturates.
        num_utbins: number of micro-bins per time bin.

    Raises:
        ValueError: a shape, type or bound is not allowed, or an event is outside the output.
    """
    shift, bound = downsampling_factor, max_incr_per_pixel
    check_output(output_array, 2 * num_utbins, total_tbins_delta_t, shift, bound, counts=True)
    events = into_bins(xypt, len(output_array) * num_utbins, total_tbins_delta_t)
    raw = output_array.dtype == np.uint8
    scratch = None if raw else np.empty(output_array[0].shape, np.uint8 if bound <= 255 else np.uint16)
    for k, frame in enumerate(output_array):
        counts = frame if scratch is None else scratch
        bounds = events.bounds[k * num_utbins : (k + 1) * num_utbins + 1]
        clear = reset or not raw
        inside = count(*events[:3], bounds, shift, counts.dtype.type(ceil(bound)), clear, counts)
        events.check(inside, output_array.shape, shift)
        if not raw:
            _store(counts, frame, reset, bound)


stacked_histo = partial(histo, num_utbins=3)


def _store(counts: np.ndarray, frame: np.ndarray, reset: bool, bound: float) -> None:
    """Write counts / bound, clipped to 1, into a float frame.

    If `reset` is False, the values of `frame` are added before clipping.
    """
    if frame.dtype == np.float32 and reset:
        divide(counts.reshape(-1), frame.reshape(-1), np.float32(bound))
        return
    scaled = counts.astype(np.float32)
    scaled /= bound
    np.minimum(scaled if reset else scaled + frame, 1, out=frame, casting="same_kind")


def histo_representation(data: DataConfig) -> Representation:
    """Create the representation `histo` with the settings in `data`."""
    return Representation(
        histo,
        channels=2,
        dtype="uint8",
        divisor=data.max_incr_per_pixel,
        counts=True,
        reversible=True,
        parameters={"max_incr_per_pixel": data.max_incr_per_pixel},
        torch_form="detector.preprocess.torch_form:histo",
    )


def stacked_histo_representation(data: DataConfig) -> Representation:
    """Create the representation `histo` with `data.num_utbins` micro-bins and the other settings in `data`."""
    found = histo_representation(data)
    parameters = {**found.parameters, "num_utbins": data.num_utbins}
    return replace(found, channels=2 * data.num_utbins, parameters=parameters)
