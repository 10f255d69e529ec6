"""Representation `event_cube`: each event is divided linearly between its two nearest micro-bins."""

import numpy as np

from detector.config.groups import DataConfig
from detector.preprocess.binning import EventColumns, check_output, into_bins
from detector.preprocess.kernels import clip, share
from detector.preprocess.representation import Representation

__all__ = ["event_cube", "event_cube_representation"]


def event_cube(
    xypt: np.ndarray | EventColumns,
    output_array: np.ndarray,
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    reset: bool = True,
    max_incr_per_pixel: float = 5.0,
    *,
    num_utbins: int = 3,
    split_polarity: bool = True,
) -> None:
    """Divide each event linearly between the two micro-bins with the nearest centres (Zhu et al., 2019).

    A time bin consists of `num_utbins` equal micro-bins. The position of an event in its time bin, in micro-bins from
    the first centre, is u = (t - start of the bin) * num_utbins / duration of the bin - 0.5. Micro-bin floor(u) gets
    the weight 1 - u + floor(u), and the next micro-bin gets the rest. Weights of micro-bins outside the time bin are
    dropped. The sums are divided by `max_incr_per_pixel` * 4^downsampling_factor and clipped to +-1. A uint8 output
    contains round(255 * value), an int8 output round(127 * value).

    Args:
        xypt: `EventCD` array or columns x, y, p, t, with t in microseconds from the start of the first bin.
        output_array: filled in place. With `split_polarity`, (T, 2 * num_utbins, H, W) uint8, float16 or float32, with
            channel 2 * micro-bin + p. Otherwise, (T, num_utbins, H, W) int8, float16 or float32.
        total_tbins_delta_t: duration of all T bins in microseconds. Events outside the bins are dropped.
        downsampling_factor: exponent k; an output pixel sums the events of 2^k x 2^k sensor pixels.
        reset: start from 0. If False, events are added to the values in `output_array` with the same bound.
        max_incr_per_pixel: sum at which a sensor pixel saturates.
        num_utbins: number of micro-bins per time bin.
        split_polarity: use separate channels for OFF and ON events. If False, OFF events count -1 and ON events +1.

    Raises:
        ValueError: a shape, type or bound is not allowed, or an event is outside the output.
    """
    shift, polarities = downsampling_factor, 2 if split_polarity else 1
    channels = num_utbins * polarities
    check_output(output_array, channels, total_tbins_delta_t, shift, max_incr_per_pixel, signed=not split_polarity)
    bins, _, height, width = output_array.shape
    # 1. Divide the events at the edges and centres of micro-bins. Between two centres, both weights are linear in time.
    halves = 2 * bins * num_utbins
    events = into_bins(xypt, halves, total_tbins_delta_t)
    per_us = halves / (2 * total_tbins_delta_t)
    highest = np.iinfo(output_array.dtype).max if output_array.dtype.itemsize == 1 else 1
    gain = highest / (max_incr_per_pixel * 4**shift)
    # 2. Only two micro-bins are summed at a time; the third plane takes weights outside the time bin.
    live = np.zeros((3, polarities, height, width), np.float32)
    for k, frame in enumerate(output_array):
        planes = frame.reshape(num_utbins, polarities, height, width)
        for j in range(num_utbins + 1):
            edge = 2 * (k * num_utbins + j)
            first, end = max(edge - 1, 2 * k * num_utbins), min(edge + 1, 2 * (k + 1) * num_utbins)
            columns = events.within(events.bounds[first], events.bounds[end])
            start = int(events.edges[first])
            # 3. Divide events between micro-bins j - 1 and j; the weight of j is 0 at centre j - 1 and 1 at centre j.
            weight = np.float32(start * per_us - (edge - 1) / 2)
            previous, following = live[(j + 1) % 2 if j else 2], live[j % 2 if j < num_utbins else 2]
            inside = share(*columns, start, weight, np.float32(per_us), shift, previous, following)
            events.check(inside, output_array.shape, shift)
            # 4. Micro-bin j - 1 is complete.
            if j:
                _store(previous, planes[j - 1], reset, np.float32(gain), np.float32(highest))


def _store(sums: np.ndarray, plane: np.ndarray, reset: bool, gain: np.float32, highest: np.float32) -> None:
    """Write sums * gain, clipped to +- highest, to `plane`. Then set the sums to 0.

    If `reset` is False, the values of `plane` are added before clipping.

    Args:
        sums: (P, H, W) float32 sums of one micro-bin.
        plane: (P, H, W) part of the output for this micro-bin.
        reset: whether to overwrite `plane`.
        gain: factor from sums to values of the output.
        highest: largest value of the output.
    """
    if not reset:
        sums += plane.astype(np.float32) / gain
    if plane.dtype == np.float16:
        plane[:] = np.clip(sums * gain, -highest, highest)
        sums[:] = 0
    else:
        clip(sums.reshape(-1), plane.reshape(-1), gain, highest, plane.dtype != np.float32)


def event_cube_representation(data: DataConfig) -> Representation:
    """Create the representation `event_cube` with the settings in `data`.

    Its frames have two channels per micro-bin, or one signed channel if `data.split_polarity` is False.
    """
    split = data.split_polarity
    return Representation(
        event_cube,
        channels=data.num_utbins * (2 if split else 1),
        dtype="uint8" if split else "int8",
        divisor=255 if split else 127,
        signed=not split,
        reversible=True,
        parameters={
            "max_incr_per_pixel": data.max_incr_per_pixel,
            "num_utbins": data.num_utbins,
            "split_polarity": split,
        },
        torch_form=f"detector.preprocess.torch_form:{'event_cube' if split else 'signed_event_cube'}",
    )
