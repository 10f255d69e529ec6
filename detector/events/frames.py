"""Assignment of labels and detections to the frames of a stream. All code that maps times to frames uses `Frames`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Frames"]


class Frames(NamedTuple):
    """The frames of a stream: consecutive time intervals of equal length.

    Frame k begins at first_t + k * delta_t and ends at first_t + (k + 1) * delta_t. An event belongs to a frame if its
    time is in [start, end). A label or a detection belongs to a frame if its time is in (start, end], because the time
    of a detection is the end of its frame.

    Args:
        first_t: start of frame 0 in microseconds. For a whole recording, this is the time of the first event, rounded
            down to a multiple of `delta_t`.
        delta_t: duration of a frame in microseconds.
        num_frames: number of frames.
    """

    first_t: int
    delta_t: int
    num_frames: int

    @classmethod
    def of(cls, value: "Frames | Sequence[int] | Mapping[str, int]") -> "Frames":
        """Create frames from a sequence of first_t, delta_t, num_frames, or from a mapping with these keys.

        Raises:
            ValueError: a number is missing, not whole, or out of range.
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
        """Create the frames of a recording from the times of its first and last event in microseconds."""
        start = first_t // delta_t * delta_t
        return cls(start, delta_t, (last_t - start) // delta_t + 1)

    @property
    def end(self) -> int:
        """Time in microseconds at which the last frame ends."""
        return self.end_of(self.num_frames - 1)

    def end_of(self, frame: int) -> int:
        """Return the time in microseconds at which the frame with index `frame` ends."""
        return self.first_t + (frame + 1) * self.delta_t

    def part(self, begin: int, stop: int) -> "Frames":
        """Return the frames `begin` to `stop - 1` as a separate stream, in which frame `begin` has index 0."""
        return Frames(self.first_t + begin * self.delta_t, self.delta_t, stop - begin)

    def find(self, times: np.ndarray) -> np.ndarray:
        """Return the index of the frame of each time, as (M,) int64; -1 for times outside all frames.

        A time belongs to the frame with start < time <= end.

        Args:
            times: (M,) times in microseconds.
        """
        number = -((self.first_t - times.astype(np.int64)) // self.delta_t) - 1
        return np.where((number >= 0) & (number < self.num_frames), number, -1)

    def inside(self, times: np.ndarray) -> np.ndarray:
        """Return (M,) bool: True for each time that belongs to a frame.

        A time belongs to the frame with start < time <= end, so the start of frame 0 belongs to no frame.
        """
        return self.find(times) >= 0

    def last_of_each_frame(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Select, in each frame, all labels whose time is the latest label time of this frame.

        Args:
            labels: (M,) structured boxes of all classes, sorted by `t`.

        Returns:
            The selected rows of `labels`, and the index of the frame of each selected row.
        """
        first, stop = np.searchsorted(labels["t"], [self.first_t, self.end], side="right")
        rows = labels[first:stop]
        frames = self.find(rows["t"])
        last = np.zeros(self.num_frames, np.int64)
        last[frames] = rows["t"]  # times ascend, so the last assignment per frame remains
        counted = rows["t"] == last[frames]
        return rows[counted], frames[counted]
