"""Assignment of labels and detections to the frames of a stream. All code that maps times to frames uses it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Frames"]


class Frames(NamedTuple):
    """The frames of a stream. Frame k covers events in [first_t + k * delta_t, first_t + (k + 1) * delta_t).

    A detection from frame k is made at its end. So the labels and the detections of frame k are those with times in
    (start, end], while its events are those with times in [start, end).

    Args:
        first_t: time in microseconds at which frame 0 starts: the time of the stream's first event, rounded down to a
            multiple of `delta_t`.
        delta_t: duration of a frame in microseconds.
        num_frames: number of frames.
    """

    first_t: int
    delta_t: int
    num_frames: int

    @classmethod
    def of(cls, value: "Frames | Sequence[int] | Mapping[str, int]") -> "Frames":
        """Frames from three numbers, in order or by name.

        Raises:
            ValueError: numbers are missing, not whole, or out of range.
        """
        try:
            numbers = [value[name] for name in cls._fields] if isinstance(value, Mapping) else list(value)
            frames = cls(*(int(number) for number in numbers))
            valid = list(frames) == numbers and frames.delta_t > 0 and frames.num_frames >= 0
        except (KeyError, OverflowError, TypeError, ValueError):
            valid = False
        if not valid:
            raise ValueError(f"frames: got {value!r}, allowed: whole numbers first_t, delta_t (> 0), num_frames (>= 0)")
        return frames

    @classmethod
    def of_events(cls, first_t: int, last_t: int, delta_t: int) -> "Frames":
        """The frames of a recording, from the times of its first and last event."""
        start = first_t // delta_t * delta_t
        return cls(start, delta_t, (last_t - start) // delta_t + 1)

    @property
    def end(self) -> int:
        """Time in microseconds at which the last frame ends."""
        return self.end_of(self.num_frames - 1)

    def end_of(self, frame: int) -> int:
        """Time in microseconds at which a frame ends."""
        return self.first_t + (frame + 1) * self.delta_t

    def part(self, begin: int, stop: int) -> "Frames":
        """The frames [begin, stop) as a separate stream."""
        return Frames(self.first_t + begin * self.delta_t, self.delta_t, stop - begin)

    def find(self, times: np.ndarray) -> np.ndarray:
        """(M,) int64 frame with start < time <= end of each of the times (M,) in microseconds, or -1."""
        number = -((self.first_t - times.astype(np.int64)) // self.delta_t) - 1
        return np.where((number >= 0) & (number < self.num_frames), number, -1)

    def inside(self, times: np.ndarray) -> np.ndarray:
        """(M,) bool: whether each time belongs to a frame; the start of frame 0 does not."""
        return self.find(times) >= 0

    def last_of_each_frame(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the last labelled time of each frame, and the frame of each row.

        Args:
            labels: (M,) structured boxes of all classes, sorted by `t`.
        """
        first, stop = np.searchsorted(labels["t"], [self.first_t, self.end], side="right")
        rows = labels[first:stop]
        frames = self.find(rows["t"])
        last = np.zeros(self.num_frames, np.int64)
        last[frames] = rows["t"]  # sorted by time: the last assignment per frame remains
        counted = rows["t"] == last[frames]
        return rows[counted], frames[counted]
