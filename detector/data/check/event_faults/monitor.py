"""Collect all that is needed for the checks of a recording's events in one pass over the events."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from detector.data.check.event_faults.flicker import RateCounter
from detector.data.check.event_faults.pixels import PixelCounter
from detector.data.check.event_faults.repeats import RepeatCounter
from detector.data.check.event_faults.sketch import Sketch, SketchBuilder, event_hashes
from detector.data.check.finding import Finding
from detector.events.arrays import Columns

__all__ = ["EventMonitor"]

MAX_SORTED = 1 << 20
"""Largest number of events of a part of the recording that are compared with each other, to limit the time."""

BITS = 15
"""Number of bits of a coordinate."""


class EventMonitor:
    """Receives the events of a recording part by part, in order of time. Events of equal time are in one part.

    Args:
        height: rows of the sensor.
        width: columns of the sensor.
        start: time of the first event in microseconds.
    """

    def __init__(self, height: int, width: int, start: int) -> None:
        self._pixels = PixelCounter(height, width)
        self._repeats, self._rates, self._sketch = RepeatCounter(), RateCounter(start), SketchBuilder()

    @property
    def counts(self) -> np.ndarray:
        """(H, W) number of events of each pixel."""
        return self._pixels.counts

    def add(self, columns: Columns) -> None:
        """Add the events of a part; their arrays may be reused afterwards."""
        x, y, p, t = columns
        if not t.size:
            return
        self._pixels.add(columns)
        self._rates.add(t)
        place = (y[:MAX_SORTED].astype(np.int64) << (BITS + 1)) + (x[:MAX_SORTED].astype(np.int64) << 1)
        keys = np.sort(((t[:MAX_SORTED] - t[0]) << (2 * BITS + 1)) + place + (p[:MAX_SORTED] > 0))
        self._repeats.add(keys, int(t[0]))
        self._sketch.add(event_hashes(keys))

    def sketch(self) -> Sketch:
        """Return the sketch of the events."""
        return self._sketch.build()

    def findings(self, path: Path, seconds: float) -> Iterator[Finding]:
        """Yield all findings about the events.

        Args:
            path: the recording.
            seconds: time between the first and the last event.
        """
        yield from self._repeats.findings(path, coarse=self._rates.step is not None)
        yield from self._pixels.findings(path, seconds)
        yield from self._rates.findings(path)
