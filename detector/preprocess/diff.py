"""Representation `diff`: number of ON events minus number of OFF events."""

import numpy as np

from detector.config.groups import DataConfig
from detector.preprocess.binning import EventColumns, check_output, into_bins
from detector.preprocess.kernels import subtract
from detector.preprocess.representation import Representation

__all__ = ["diff", "diff_representation"]


def diff(
    xypt: np.ndarray | EventColumns,
    output_array: np.ndarray,
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    reset: bool = True,
    max_incr_per_pixel: float = 5.0,
) -> None:
    """Count ON events minus OFF events by time bin and pixel.

    Only the final difference is clipped to +- `max_incr_per_pixel`, so the order of events does not matter. A float
    output contains the difference divided by this bound (-1 to 1). An int8 output contains the difference itself; the
    bound is then at most 127.

    Args:
        xypt: `EventCD` array or columns x, y, p, t, with t in microseconds from the start of the first bin. Not
            changed.
        output_array: (T, 1, H, W) int8, float16 or float32, filled in place.
        total_tbins_delta_t: duration of all T bins in microseconds. Events outside the bins are dropped.
        downsampling_factor: exponent k; an output pixel sums the events of 2^k x 2^k sensor pixels.
        reset: whether to start from 0. If False, events are added to the values in `output_array`, which must have been
            computed with the same `max_incr_per_pixel`.
        max_incr_per_pixel: difference at which a pixel saturates.

    Raises:
        ValueError: a shape, type or bound is not allowed, or an event is outside the output.
    """
    shift = downsampling_factor
    check_output(output_array, 1, total_tbins_delta_t, shift, max_incr_per_pixel, counts=True, signed=True)
    bins, _, height, width = output_array.shape
    events = into_bins(xypt, bins, total_tbins_delta_t)
    scratch = np.empty((1, height, width), np.int32)
    for k, frame in enumerate(output_array):
        scratch[:] = 0
        x, y, p, _ = events.within(*events.bounds[k : k + 2])
        events.check(subtract(x, y, p, shift, scratch), output_array.shape, shift)
        _store(scratch, frame, reset, max_incr_per_pixel)


def _store(net: np.ndarray, frame: np.ndarray, reset: bool, bound: float) -> None:
    """Clip `net` to +- `bound` and write it to `frame`. A float frame gets net / bound.

    If `reset` is False, the values of `frame` are added before clipping.
    """
    if frame.dtype == np.int8:
        np.clip(net if reset else net + frame, -int(bound), int(bound), out=frame, casting="unsafe")
    else:
        scaled = np.divide(net, np.float32(bound), dtype=np.float32)
        np.clip(scaled if reset else scaled + frame, -1, 1, out=frame, casting="same_kind")


def diff_representation(data: DataConfig) -> Representation:
    """Create the representation `diff` with the settings in `data`."""
    return Representation(
        diff,
        channels=1,
        dtype="int8",
        divisor=data.max_incr_per_pixel,
        counts=True,
        signed=True,
        reversible=True,
        parameters={"max_incr_per_pixel": data.max_incr_per_pixel},
        torch_form="detector.preprocess.torch_form:diff",
    )
