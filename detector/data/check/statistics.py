"""Figures of a recording's events and of labels, in bounded memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.data.targets import scale_labels
from detector.events import EventReader
from detector.events.arrays import ColumnBuffer

__all__ = ["BIN_US", "Advance", "EventStatistics", "LabelStatistics", "label_statistics", "scan_events"]

BIN_US = 50_000
"""Microseconds of a bin of the event rate and of a picture of a recording."""

LONGEST_DAYS = 30
MAX_BINS = LONGEST_DAYS * 24 * 3600 * 1_000_000 // BIN_US
MANY_EVENTS, MAX_WINDOW = 1 << 20, 20
"""Bins are read up to 20 at a time, fewer where a reading gives more events than this."""

Advance = Callable[[float], object]
"""Told after each step which part of the file it was; the parts add up to 1."""


@dataclass(frozen=True)
class EventStatistics:
    """Events of a recording.

    Args:
        first_t: time of the first event in microseconds, None if there is none
        last_t: time of the last event in microseconds, None if there is none
        counts: (N,) int64 events of each bin of `BIN_US`, which begin at multiples of it
        num_on: events of polarity 1
        gap: start and length in microseconds of the longest time without an event
        share_ever_active: part of the sensor's pixels that have an event
    """

    first_t: int | None
    last_t: int | None
    counts: np.ndarray
    num_on: int
    gap: tuple[int, int]
    share_ever_active: float

    @property
    def num_events(self) -> int:
        """All events."""
        return int(self.counts.sum())

    @property
    def start(self) -> int:
        """Time in microseconds at which the first bin begins."""
        return (self.first_t or 0) // BIN_US * BIN_US

    @property
    def mean_rate(self) -> float | None:
        """Events a second from the first to the last event; None if no time passes between them."""
        duration = (self.last_t or 0) - (self.first_t or 0)
        return self.num_events / duration * 1e6 if duration else None

    @property
    def rates(self) -> np.ndarray:
        """(N,) events a second of each bin; too low for the first and the last, which are covered in part."""
        return self.counts / (BIN_US / 1e6)

    @property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Starts in microseconds and events a second of the bins that have events for their whole time.

        Where no bin has, one point: the time of the first event and the mean rate.
        """
        first, last = (self.first_t or 0) - self.start, (self.last_t or 0) - self.start
        whole = slice(-(-first // BIN_US), (last + 1) // BIN_US)
        starts = self.start + np.arange(self.counts.size) * BIN_US
        if whole.start < whole.stop or self.mean_rate is None:
            return starts[whole], self.rates[whole]
        return np.array([self.first_t]), np.array([self.mean_rate])


@dataclass(frozen=True)
class LabelStatistics:
    """Boxes of one or several files, frame labels of class "empty" left out.

    Args:
        times: (K,) labelled times in microseconds, distinct in each file
        intervals: (K - files,) microseconds from each to the next of its file
        sizes: (M, 2) float32 width and height in network pixels, cropped to the frame
        class_ids: (M,) label map ids
        num_tracks: tracks, distinct in each file
    """

    times: np.ndarray
    intervals: np.ndarray
    sizes: np.ndarray
    class_ids: np.ndarray
    num_tracks: int

    @property
    def rate_hz(self) -> float | None:
        """Labelled times a second, from the median interval; None if there is no interval."""
        return 1e6 / float(np.median(self.intervals)) if self.intervals.size else None

    def class_counts(self) -> dict[int, int]:
        """Boxes of each class id that has any."""
        ids, counts = np.unique(self.class_ids, return_counts=True)
        return dict(zip(ids.tolist(), counts.tolist(), strict=True))

    @classmethod
    def join(cls, parts: Sequence["LabelStatistics"]) -> "LabelStatistics":
        """Those of several files together; at least one."""
        columns = ("times", "intervals", "sizes", "class_ids")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        return cls(**arrays, num_tracks=sum(part.num_tracks for part in parts))


def scan_events(reader: EventReader, advance: Advance = lambda part: None) -> EventStatistics:
    """Read a recording from its first to its last event, a second or less at a time.

    Args:
        reader: the open recording.
        advance: see `Advance`.

    Raises:
        ValueError: the recording is broken, its times do not only grow, or they span more than 30 days.
    """
    if reader.first_t is None or reader.last_t is None:
        return EventStatistics(None, None, np.zeros(0, np.int64), 0, (0, 0), 0.0)
    scan = _Scan(reader, reader.first_t, reader.last_t)
    begin, size = 0, 1
    while begin < scan.counts.size:
        stop = min(begin + size, scan.counts.size)
        count = scan.read(begin, stop)
        size = max(1, size // 2) if count > MANY_EVENTS else min(2 * size, MAX_WINDOW)
        advance((stop - begin) / scan.counts.size)
        begin = stop
    return EventStatistics(
        reader.first_t, reader.last_t, scan.counts, scan.num_on, scan.gap, float(scan.ever_active.mean())
    )


class _Scan:
    """Sums over the windows of a recording that were read so far."""

    def __init__(self, reader: EventReader, first: int, last: int) -> None:
        self.start = first // BIN_US * BIN_US
        num_bins = (last - self.start) // BIN_US + 1
        if not 0 < num_bins <= MAX_BINS:
            raise ValueError(
                f"{reader.path}: events from {first} to {last} us, allowed: growing times, at most {LONGEST_DAYS} days"
            )
        self.counts = np.zeros(num_bins, np.int64)
        self.num_on = 0
        self.gap = (first, 0)
        self.ever_active = np.zeros((reader.height, reader.width), bool)
        self._reader = reader
        self._previous = first
        self._buffer = ColumnBuffer()

    def read(self, begin: int, stop: int) -> int:
        """Read the bins [begin, stop) and return the number of their events."""
        t0, t1 = self.start + begin * BIN_US, self.start + stop * BIN_US
        x, y, p, t = self._reader.read_columns(t0, t1, self._buffer)
        if not t.size:
            return 0
        steps = np.diff(t, prepend=self._previous)
        if steps.min() < 0 or t[0] < t0 or t[-1] >= t1:
            raise ValueError(f"{self._reader.path}: time runs backwards, allowed: times that only grow")
        longest = int(np.argmax(steps))
        if steps[longest] > self.gap[1]:
            self.gap = (int(t[longest] - steps[longest]), int(steps[longest]))
        self.counts[begin:stop] = np.bincount((t - t0) // BIN_US, minlength=stop - begin)
        self.num_on += int(np.count_nonzero(p))
        self.ever_active[y, x] = True
        self._previous = int(t[-1])
        return t.size


def label_statistics(
    labels: np.ndarray, names: Mapping[int, str], scale: float, height: int, width: int
) -> LabelStatistics:
    """Figures of the boxes of one file.

    Args:
        labels: (M,) `BBOX_dtype` sorted by t, in sensor pixels; not changed.
        names: class names by id, those without a name are kept.
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
