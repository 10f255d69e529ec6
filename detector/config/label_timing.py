"""`LabelTiming`: the settings that determine the times of labels."""

from dataclasses import dataclass
from typing import Literal, get_args

from detector.config.checks import require

__all__ = ["LabelTiming", "TimeUnit"]

TimeUnit = Literal["us", "ms", "s", "ns"]


@dataclass(frozen=True)
class LabelTiming:
    """How the times of labels are determined.

    Labels of some formats belong to images, which are numbered. Image k is at k / fps after the first image, or at the
    time in line k of a file of times.

    Args:
        time_unit: unit of the times of labels and of the file of times; by default, the unit that the format
            prescribes, otherwise us
        offset: microseconds to add to the label times, for labels that are shifted against the events
        fps: images per second, for labels with image numbers; the first image is at the last multiple of 1 / fps that
            is not after the first event
        times: file with the time of each image, one per line, for labels with image numbers; by default,
            X_timestamps.txt or timestamps.txt beside the labels, or the times of the images in the recording
        first_image: number of the first image; by default 0, or 1 if the numbers show that they count from 1
    """

    time_unit: TimeUnit | None = None
    offset: int = 0
    fps: float | None = None
    times: str | None = None
    first_image: int | None = None

    def __post_init__(self) -> None:
        require(self.time_unit in (None, *get_args(TimeUnit)), "label_time_unit", self.time_unit, "us, ms, s, ns")
        require(self.fps is None or 0 < self.fps < 1e7, "label_fps", self.fps, "a number above 0")
        both = self.fps is not None and self.times is not None
        require(not both, "label_times", self.times, "only one of --label_fps and --label_times")
