"""Structured dtypes of events, triggers and labels."""

import numpy as np

__all__ = ["BBOX_dtype", "EventCD", "EventExtTrigger"]

EventCD = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
"""One event: pixel column x, row y, polarity p (0 OFF, 1 ON), time t in microseconds."""

EventExtTrigger = np.dtype([("p", "<i2"), ("t", "<i8"), ("id", "<i2")])
"""One edge of an external trigger: p (0 falling, 1 rising), time t in microseconds, id of the trigger input."""

BBOX_dtype = np.dtype(
    {
        "names": ["t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", "<f4", "<f4", "<f4", "<f4", "<u4", "<u4", "<f4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)
"""One box: time t in microseconds, top-left corner x, y and size w, h in pixels.

`class_id` is the id of the class in the label map, `track_id` the id of the object, `class_confidence` the score.
"""
