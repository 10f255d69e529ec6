"""Compute statistics of the events and of the labels of recordings, with limited memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.data.targets import scale_labels
from detector.events import EventReader
from detector.events.arrays import ColumnBuffer, Columns

__all__ = ["BIN_US", "Advance", "EventStatistics", "LabelStatistics", "label_statistics", "scan_events"]

BIN_US = 50_000
"""Duration in microseconds of a bin of the event rate, and of a sampled frame of a recording."""

LONGEST_DAYS = 30
MAX_BINS = LONGEST_DAYS * 24 * 3600 * 1_000_000 // BIN_US
MANY_EVENTS, MAX_WINDOW = 1 << 20, 20
"""Limits for the number of bins per read.

After a read of more than `MANY_EVENTS` events, the next read has fewer bins. No read has more than `MAX_WINDOW` bins.
"""

Advance = Callable[[float], object]
"""Function called after each step with the share of the file that this step has read. All shares add up to 1."""


@dataclass(frozen=True)
class EventStatistics:
    """Statistics of the events of a recording.

    Args:
        first_t: time of the first event in microseconds, None if there are no events
        last_t: time of the last event in microseconds, None if there are no events
        counts: (N,) int64 number of events in each bin; bins last `BIN_US` and start at multiples of `BIN_US`
        num_on: number of events of polarity 1
        gap: start and length in microseconds of the longest interval without events
        share_ever_active: share of the pixels of the sensor that have at least one event
    """

    first_t: int | None
    last_t: int | None
    counts: np.ndarray
    num_on: int
    gap: tuple[int, int]
    share_ever_active: float

    @property
    def num_events(self) -> int:
        """Number of events."""
        return int(self.counts.sum())

    @property
    def start(self) -> int:
        """Time in microseconds at which the first bin begins."""
        return (self.first_t or 0) // BIN_US * BIN_US

    @property
    def mean_rate(self) -> float | None:
        """Events per second from the first to the last event; None if their times are equal."""
        duration = (self.last_t or 0) - (self.first_t or 0)
        return self.num_events / duration * 1e6 if duration else None

    @property
    def rates(self) -> np.ndarray:
        """(N,) events per second of each bin.

        The first and the last value are too low, because the recording covers only a part of these bins.
        """
        return self.counts / (BIN_US / 1e6)

    @property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Two arrays: start in microseconds and events per second of each bin that is completely inside the recording.

        If there is no such bin, the arrays have one entry each: the time of the first event and the mean rate.
        """
        first, last = (self.first_t or 0) - self.start, (self.last_t or 0) - self.start
        whole = slice(-(-first // BIN_US), (last + 1) // BIN_US)
        starts = self.start + np.arange(self.counts.size) * BIN_US
        if whole.start < whole.stop or self.mean_rate is None:
            return starts[whole], self.rates[whole]
        return np.array([self.first_t]), np.array([self.mean_rate])


@dataclass(frozen=True)
class LabelStatistics:
    """Statistics of the boxes of one or several files, without frame labels of class "empty".

    Args:
        times: (K,) labelled times in microseconds, distinct within each file
        intervals: (K - number of files,) microseconds between consecutive labelled times of the same file
        sizes: (M, 2) float32 width and height of boxes in network pixels, cropped to the frame
        class_ids: (M,) label map ids of the boxes
        num_tracks: number of tracks; tracks of different files are counted separately
    """

    times: np.ndarray
    intervals: np.ndarray
    sizes: np.ndarray
    class_ids: np.ndarray
    num_tracks: int

    @property
    def rate_hz(self) -> float | None:
        """Rate of the labelled times in Hz: the inverse of the median interval; None if there are no intervals."""
        return 1e6 / float(np.median(self.intervals)) if self.intervals.size else None

    def class_counts(self) -> dict[int, int]:
        """Return a dict from class id to the number of boxes of the class."""
        ids, counts = np.unique(self.class_ids, return_counts=True)
        return dict(zip(ids.tolist(), counts.tolist(), strict=True))

    @classmethod
    def join(cls, parts: Sequence["LabelStatistics"]) -> "LabelStatistics":
        """Combine the statistics of one or more files."""
        columns = ("times", "intervals", "sizes", "class_ids")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        return cls(**arrays, num_tracks=sum(part.num_tracks for part in parts))


def scan_events(
    reader: EventReader,
    advance: Advance = lambda part: None,
    observe: Callable[[Columns], object] = lambda columns: None,
) -> EventStatistics:
    """Compute statistics of all events of a recording, reading at most one second of the recording at a time.

    Args:
        reader: reader of the open recording.
        advance: function called after each read with the share of the recording that was read in this step.
        observe: function called with the events of each read; their arrays are reused afterwards. Events of equal time
            are in one read.

    Raises:
        ValueError: the recording is damaged, its event times decrease, or they span more than 30 days.
    """
    first, last = reader.first_t, reader.last_t
    if first is None or last is None:
        return EventStatistics(None, None, np.zeros(0, np.int64), 0, (0, 0), 0.0)
    start = first // BIN_US * BIN_US
    num_bins = (last - start) // BIN_US + 1
    if not 0 < num_bins <= MAX_BINS:
        raise ValueError(
            f"{reader.path}: events from {first} to {last} us, allowed: growing times, at most {LONGEST_DAYS} days"
        )
    counts, ever_active = np.zeros(num_bins, np.int64), np.zeros((reader.height, reader.width), bool)
    num_on, gap, previous, buffer = 0, (first, 0), first, ColumnBuffer()
    begin, size = 0, 1
    while begin < num_bins:
        stop = min(begin + size, num_bins)
        t0, t1 = start + begin * BIN_US, start + stop * BIN_US
        x, y, p, t = reader.read_columns(t0, t1, buffer)
        if t.size:
            steps = np.diff(t, prepend=previous)
            if steps.min() < 0 or t[0] < t0 or t[-1] >= t1:
                raise ValueError(f"{reader.path}: event times decrease, allowed: times that do not decrease")
            longest = int(np.argmax(steps))
            gap = max(gap, (int(t[longest] - steps[longest]), int(steps[longest])), key=lambda found: found[1])
            counts[begin:stop] = np.bincount((t - t0) // BIN_US, minlength=stop - begin)
            num_on += int(np.count_nonzero(p))
            ever_active[y, x] = True
            previous = int(t[-1])
            observe((x, y, p, t))
        size = max(1, size // 2) if t.size > MANY_EVENTS else min(2 * size, MAX_WINDOW)
        advance((stop - begin) / num_bins)
        begin = stop
    return EventStatistics(first, last, counts, num_on, gap, float(ever_active.mean()))


def label_statistics(
    labels: np.ndarray, names: Mapping[int, str], scale: float, height: int, width: int
) -> LabelStatistics:
    """Compute statistics of the boxes of one file.

    Args:
        labels: (M,) `BBOX_dtype` sorted by t, in sensor pixels; not changed.
        names: dict from class id to name; boxes with other class ids are kept.
        scale: network pixels per sensor pixel.
        height: rows of a frame in network pixels.
        width: columns of a frame in network pixels.
    """
    times = np.unique(labels["t"])
    empty = [key for key, name in names.items() if name == "empty"]
    boxes = scale_labels(labels[~np.isin(labels["class_id"], empty)], scale, height, width)
    return LabelStatistics(
        times=times,
        intervals=np.diff(times),
        sizes=np.stack([boxes["w"], boxes["h"]], axis=1),
        class_ids=boxes["class_id"].copy(),
        num_tracks=np.unique(boxes["track_id"]).size,
    )
