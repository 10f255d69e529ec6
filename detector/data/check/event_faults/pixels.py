"""Find hot pixels, and recordings with events of one polarity only, from the number of events of each pixel."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from detector.data.check.evidence import Bars, PixelMap
from detector.data.check.finding import Finding
from detector.events.arrays import Columns

__all__ = ["PixelCounter", "hot_pixels"]

HOT_FACTOR, HOT_SHARE = 10, 0.02
"""Pixels with 10 times the events of their neighbours are reported if they have at least 2 % of all events.

At this factor, real and simulated recordings without a fault have at most 1.3 % of their events in such pixels.
"""

ABSURD_FACTOR, ABSURD_HZ = 100, 250.0
"""One pixel with 100 times the events of the others and at least 250 events per second is reported whatever its share.

The worst pixel of the measured recordings without a fault has a factor of 50, and 200 events per second.
"""

MIN_EVENTS, MIN_OF_ONE_POLARITY = 1000, 2000
"""Smallest numbers of events for the search for hot pixels, and for a statement about the polarities."""

NUM_LISTED = 5
RADIUS = 2
"""Pixels up to this distance in x and y are the neighbours of a pixel."""


class PixelCounter:
    """Counts the events of each pixel and polarity.

    Args:
        height: rows of the sensor.
        width: columns of the sensor.
    """

    def __init__(self, height: int, width: int) -> None:
        self._counts = np.zeros((height, width), np.int64)
        self._num_on = 0

    @property
    def counts(self) -> np.ndarray:
        """(H, W) number of events of each pixel."""
        return self._counts

    def add(self, columns: Columns) -> None:
        """Add events."""
        x, y, p, _ = columns
        height, width = self._counts.shape
        flat = np.bincount(y * np.int64(width) + x, minlength=height * width)
        self._counts += flat.reshape(height, width)
        self._num_on += int(np.count_nonzero(p))

    def findings(self, path: Path, seconds: float) -> Iterator[Finding]:
        """Yield findings about hot pixels and about a missing polarity.

        Args:
            path: the recording.
            seconds: duration of the recording.
        """
        total = int(self._counts.sum())
        if total < MIN_EVENTS:
            return
        yield from self._hot(path, seconds, total)
        if self._num_on in (0, total) and total >= MIN_OF_ONE_POLARITY:
            name = "ON" if self._num_on else "OFF"
            yield Finding(
                "warning",
                path,
                "one polarity",
                f"all {total} events are {name}",
                "events of both polarities",
                "the conversion probably lost the polarity; polarities that are exchanged cannot be detected",
                (
                    Bars(
                        "Events of each polarity", "events", {"ON": self._num_on, "OFF": total - self._num_on}, (name,)
                    ),
                ),
            )

    def _hot(self, path: Path, seconds: float, total: int) -> Iterator[Finding]:
        hot, factors = hot_pixels(self._counts)
        rates = self._counts[hot[:, 1], hot[:, 0]] / max(seconds, 1e-6)
        share = float(self._counts[hot[:, 1], hot[:, 0]].sum() / total)
        absurd = (factors >= ABSURD_FACTOR) & (rates >= ABSURD_HZ)
        if not hot.size or not (share >= HOT_SHARE or absurd.any()):
            return
        worst = ", ".join(
            f"({x}, {y}) {rate:,.0f} Hz" for (x, y), rate in zip(hot[:NUM_LISTED], rates[:NUM_LISTED], strict=True)
        )
        title = f"Hot pixels: {len(hot)} pixels have {share:.1%} of all events"
        size = self._counts.shape
        yield Finding(
            "warning",
            path,
            "hot pixels",
            f"{len(hot)} pixels (x, y) have {share:.1%} of the events, worst {worst}",
            f"pixels with less than {HOT_FACTOR} times the events of their neighbours, or less than {HOT_SHARE:.0%}",
            "mask these pixels when recording or converting",
            (PixelMap(title, self._counts, (size[0], size[1]), points={"hot pixels": hot}),),
        )


def hot_pixels(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find pixels with many more events than their neighbours and than other active pixels.

    Args:
        counts: (H, W) number of events of each pixel.

    Returns:
        (P, 2) x, y of the hot pixels, the worst one first, and (P,) events divided by the larger of two values: the
        median of the neighbours, and the mean of all active pixels.
    """
    active = counts[counts > 0]
    if not active.size:
        return np.empty((0, 2), np.int64), np.empty(0)
    y, x = np.nonzero(counts > HOT_FACTOR * np.median(active))
    offsets = [(a, b) for a in range(-RADIUS, RADIUS + 1) for b in range(-RADIUS, RADIUS + 1) if (a, b) != (0, 0)]
    height, width = counts.shape
    around = [counts[np.clip(y + a, 0, height - 1), np.clip(x + b, 0, width - 1)] for a, b in offsets]
    local = np.median(around, axis=0)
    own = counts[y, x]
    hot = own > HOT_FACTOR * local
    order = np.argsort(-own[hot], kind="stable")
    points = np.stack([x[hot], y[hot]], axis=1)[order]
    # The mean includes the hot pixels themselves, so it is taken over the others.
    others = max(float((active.sum() - own[hot].sum()) / max(active.size - hot.sum(), 1)), 1.0)
    return points, (own[hot] / np.maximum(local[hot], others))[order]
