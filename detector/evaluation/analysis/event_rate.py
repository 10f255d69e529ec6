"""Rate of events inside boxes, computed from the frames of a tensor file."""

import numpy as np

from detector.data.sequence_file import SequenceFile
from detector.data.tensor_file import open_tensors
from detector.preprocess.representation import Representation

__all__ = ["event_rates"]


def event_rates(file: SequenceFile, boxes: np.ndarray, representation: Representation) -> np.ndarray:
    """Compute the events per pixel and second inside each box, in the frame that contains the time of the box.

    Pixels that are partly inside a box are counted as a whole. The counts in the file are clipped, so the rate is a
    lower bound if pixels have many events.

    Args:
        file: the tensor file.
        boxes: (M,) structured boxes in network pixels, with times of the recording.
        representation: representation of the file. If its values are not counts, a pixel that is not 0 is one event.

    Returns:
        (M,) events per pixel and second; NaN for boxes without area or with a time outside the frames of the file.
    """
    frames = file.frames.find(boxes["t"])
    columns = _whole(boxes["x"], boxes["w"], file.width)
    rows = _whole(boxes["y"], boxes["h"], file.height)
    areas = (columns[1] - columns[0]) * (rows[1] - rows[0])
    rates = np.full(len(boxes), np.nan)
    usable = (frames >= 0) & (areas > 0)
    scale = representation.divisor / file.divisor if representation.counts else 1.0
    buffer = np.empty((1, file.channels, file.height, file.width), file.dtype)
    sums = np.zeros((file.height + 1, file.width + 1))
    reader = open_tensors(file.path)
    try:
        for frame in np.unique(frames[usable]).tolist():
            reader.read(frame, buffer)
            sums[1:, 1:] = _counts(buffer[0], representation).cumsum(0).cumsum(1)
            inside = np.flatnonzero(usable & (frames == frame))
            (x1, x2), (y1, y2) = columns[:, inside], rows[:, inside]
            rates[inside] = sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]
    finally:
        reader.close()
    return rates * scale / np.maximum(areas, 1) / (file.delta_t / 1e6)


def _whole(start: np.ndarray, length: np.ndarray, limit: int) -> np.ndarray:
    """Return (2, M) pixel indices along one axis: the first pixel of each box, and the pixel after its last pixel."""
    ends = np.stack([np.floor(start), np.ceil(start + length)])
    return ends.clip(0, limit).astype(np.int64)


def _counts(frame: np.ndarray, representation: Representation) -> np.ndarray:
    """Return the (H, W) number of events in each pixel of a (C, H, W) frame as float64, see `event_rates`."""
    if representation.counts:
        return np.abs(frame.astype(np.float64)).sum(axis=0)
    return (frame != 0).any(axis=0).astype(np.float64)
