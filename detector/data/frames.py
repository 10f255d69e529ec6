"""The rule of frames: which frame of a stream a label time belongs to. Everything that maps times to frames uses it."""

from dataclasses import dataclass

import numpy as np

__all__ = ["FrameGrid"]


@dataclass(frozen=True)
class FrameGrid:
    """Frames of a stream: frame k covers [start + k * delta_t, start + (k + 1) * delta_t).

    The labels of frame k are those of the last labelled time in (start + k * delta_t, start + (k + 1) * delta_t].
    Labels at or before `start` and after `end` are outside.

    Args:
        start: time in microseconds at which frame 0 starts
        delta_t: duration of a frame in microseconds
        num_frames: frames of the stream
    """

    start: int
    delta_t: int
    num_frames: int

    @classmethod
    def of_events(cls, first_t: int, last_t: int, delta_t: int) -> "FrameGrid":
        """Frames of a recording from the time of its first to that of its last event.

        They start at the multiple of `delta_t` at or before the first event.
        """
        start = first_t // delta_t * delta_t
        return cls(start, delta_t, (last_t - start) // delta_t + 1)

    @property
    def end(self) -> int:
        """Time in microseconds at which the last frame ends."""
        return self.start + self.num_frames * self.delta_t

    def part(self, begin: int, stop: int) -> "FrameGrid":
        """The frames [begin, stop) as a stream of their own."""
        return FrameGrid(self.start + begin * self.delta_t, self.delta_t, stop - begin)

    def inside(self, times: np.ndarray) -> np.ndarray:
        """(M,) bool: which times belong to a frame."""
        return (times > self.start) & (times <= self.end)

    def frame_of(self, times: np.ndarray) -> np.ndarray:
        """(M,) int64 index of the frame of each time; meaningless for times outside."""
        return -((self.start - times) // self.delta_t) - 1

    def last_of_each_frame(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the last labelled time of each frame, and the frame of each row.

        Args:
            labels: (M,) structured boxes of all classes, sorted by `t`.
        """
        first, stop = np.searchsorted(labels["t"], [self.start, self.end], side="right")
        rows = labels[first:stop]
        frames = self.frame_of(rows["t"])
        last = np.zeros(self.num_frames, np.int64)
        last[frames] = rows["t"]  # sorted by time: the last one written stays
        counted = rows["t"] == last[frames]
        return rows[counted], frames[counted]
