"""Representations."""

import numpy as np

from detector.config.groups import DataConfig
from detector.preprocess.binning import check_output, into_bins
from detector.preprocess.representation import Representation


def activity(xypt, output_array, total_tbins_delta_t, downsampling_factor=0, reset=True, max_incr_per_pixel=5.0):
    """1 where a pixel had an event, in one float channel."""
    events = into_bins(xypt, len(output_array), total_tbins_delta_t)
    for k, frame in enumerate(output_array):
        x, y, _, _ = events.within(*events.bounds[k : k + 2])
        frame[:] = 0
        frame[0, y >> downsampling_factor, x >> downsampling_factor] = 1


def activity_representation(data: DataConfig) -> Representation:
    return Representation(activity, channels=1, dtype="float16", divisor=1.0)


def levels(xypt, output_array, total_tbins_delta_t, downsampling_factor=0, reset=True, max_incr_per_pixel=5.0):
    """Three channels of bytes: OFF, ON and any, with 200 for an event."""
    check_output(output_array, 3, total_tbins_delta_t, downsampling_factor, max_incr_per_pixel)
    events = into_bins(xypt, len(output_array), total_tbins_delta_t)
    value = 200 if output_array.dtype == np.uint8 else 1
    for k, frame in enumerate(output_array):
        x, y, p, _ = events.within(*events.bounds[k : k + 2])
        frame[:] = 0
        for channel in (p, 2):
            frame[channel, y >> downsampling_factor, x >> downsampling_factor] = value


def levels_representation(data: DataConfig) -> Representation:
    return Representation(levels, 3, "uint8", divisor=200.0, parameters={"max_incr_per_pixel": data.max_incr_per_pixel})
