"""Rate of events inside boxes, from the frames of a tensor file."""

import numpy as np

from detector.data.sequence_file import SequenceFile
from detector.data.tensor_file import open_tensors
from detector.preprocess.representation import Representation

__all__ = ["event_rates"]


def event_rates(file: SequenceFile, boxes: np.ndarray, representation: Representation) -> np.ndarray:
    """Compute the events per pixel and second inside boxes, in the frame that contains the time of each.

    Whole pixels are counted. Counts are clipped as in the file, so the rate is a lower bound where pixels have many
    events.

    Args:
        file: the tensor file.
        boxes: (M,) structured boxes in network pixels; times are those of the recording.
        representation: representation of the file; if it has no counts, the pixels with a value are counted.

    Returns:
        (M,) rates; NaN for boxes outside the file's frames or without area.
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
    """(2, M) first pixel of each box along one axis, and the one after the last."""
    ends = np.stack([np.floor(start), np.ceil(start + length)])
    return ends.clip(0, limit).astype(np.int64)


def _counts(frame: np.ndarray, representation: Representation) -> np.ndarray:
    """(H, W) counts of a frame (C, H, W), as float64."""
    if representation.counts:
        return np.abs(frame.astype(np.float64)).sum(axis=0)
    return (frame != 0).any(axis=0).astype(np.float64)
