"""Conversion of events to tensors: one module per family of representations, described in `representation.py`.

Float frames contain the values that enter the network. Byte frames contain these values multiplied by a divisor. In
both, 0 means 0. Does not belong here: augmentation and files of tensors (`data/`).
"""

from detector.preprocess.diff import diff
from detector.preprocess.event_cube import event_cube
from detector.preprocess.histo import histo, stacked_histo
from detector.preprocess.timesurface import multi_channel_timesurface, timesurface

__all__ = ["diff", "event_cube", "histo", "multi_channel_timesurface", "stacked_histo", "timesurface"]
