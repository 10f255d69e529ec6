"""Event cubes: events shared out linearly between the micro-bins beside them in time."""

import numpy as np

from detector.config.groups import DataConfig
from detector.preprocess.binning import EventColumns, check_output, into_bins
from detector.preprocess.kernels import clip, round_off, share
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
    """Share each event out between the two micro-bins whose centres lie beside it (Zhu et al. 2019).

    With t* = (t - start) * num_utbins / duration - 0.5 of a bin's start and duration, micro-bin floor(t*) gets
    1 - t* + floor(t*) and the next one the rest; what falls outside of the time bin is dropped. Sums are divided by
    `max_incr_per_pixel` * 4^downsampling_factor and clipped to +-1; each event is not, so their order does not matter.
    uint8 holds round(255 * value) of split polarities, int8 round(127 * value) of others.

    Args:
        xypt: `EventCD` array or columns x, y, p, t; t in microseconds from the start of the first bin. Not changed.
        output_array: (T, num_utbins * P, H, W) uint8 (int8 if P = 1), float16 or float32, filled in place;
            channel micro-bin * P + p.
        total_tbins_delta_t: duration of all T bins in microseconds; events outside are dropped.
        downsampling_factor: k sums squares of 2^k x 2^k sensor pixels.
        reset: start from 0; otherwise add to what the array holds, by the same bound.
        max_incr_per_pixel: sum at which a sensor pixel saturates.
        num_utbins: micro-bins of a time bin.
        split_polarity: OFF and ON events have channels of their own (P = 2); otherwise OFF counts -1, ON +1 (P = 1).

    Raises:
        ValueError: a shape, type or bound that does not fit, or an event outside the output.
    """
    shift, polarities = downsampling_factor, 2 if split_polarity else 1
    channels = num_utbins * polarities
    check_output(output_array, channels, total_tbins_delta_t, shift, max_incr_per_pixel, signed=not split_polarity)
    bins, _, height, width = output_array.shape
    # Cut at the edges and the centres of micro-bins: between two centres both weights are linear in time.
    halves = 2 * bins * num_utbins
    events = into_bins(xypt, halves, total_tbins_delta_t)
    per_us = halves / (2 * total_tbins_delta_t)
    highest = np.iinfo(output_array.dtype).max if output_array.dtype.itemsize == 1 else 1
    gain = highest / (max_incr_per_pixel * 4**shift)
    live = np.zeros((3, polarities, height, width), np.float32)  # the third takes what falls outside
    for k, frame in enumerate(output_array):
        planes = frame.reshape(num_utbins, polarities, height, width)
        for j in range(num_utbins + 1):
            edge = 2 * (k * num_utbins + j)
            first, end = max(edge - 1, 2 * k * num_utbins), min(edge + 1, 2 * (k + 1) * num_utbins)
            columns = events.within(events.bounds[first], events.bounds[end])
            start = int(events.edges[first])
            # 0 at the centre of micro-bin j - 1, 1 at that of j.
            weight = np.float32(start * per_us - (edge - 1) / 2)
            previous, following = live[(j + 1) % 2 if j else 2], live[j % 2 if j < num_utbins else 2]
            inside = share(*columns, start, weight, np.float32(per_us), shift, previous, following)
            events.check(inside, output_array.shape, shift)
            if j:
                _store(previous, planes[j - 1], reset, np.float32(gain), np.float32(highest))


def _store(sums: np.ndarray, plane: np.ndarray, reset: bool, gain: np.float32, highest: np.float32) -> None:
    """Write sums * gain, clipped to +- highest, as a micro-bin of the output, and set the sums to 0."""
    if not reset:
        sums += plane.astype(np.float32) / gain
    if plane.dtype == np.float16:
        plane[:] = np.clip(sums * gain, -highest, highest)
        sums[:] = 0
    elif plane.dtype == np.float32:
        clip(sums.reshape(-1), plane.reshape(-1), gain, highest)
    else:
        round_off(sums.reshape(-1), plane.reshape(-1), gain, highest)


def event_cube_representation(data: DataConfig) -> Representation:
    """`event_cube` with the settings of `data`: two channels per micro-bin, or one signed channel."""
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
