"""Find recordings in which events are stored more than once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from detector.data.check.evidence import Bars, Curves
from detector.data.check.finding import Finding

__all__ = ["RepeatCounter"]

MIN_EVENTS = 100
"""Smallest number of events from which a share is computed."""

REPEATED_SHARE = 0.01
"""Smallest share of repeated events that is reported.

A pixel of a real sensor can send two events of one polarity in the same microsecond: 0.07 % of the events of an EVT2
recording at 5.4 Mev/s, none in an EVT3 recording at 0.16 Mev/s, at most 0.0001 % in simulated recordings.
"""

TWICE_SHARE = 0.9
"""Share of the distinct events that must be stored more than once for the statement that the events come twice."""


class RepeatCounter:
    """Counts events that equal an earlier event in x, y, polarity and time."""

    def __init__(self) -> None:
        self._times: list[int] = []
        self._events: list[int] = []
        self._repeated: list[int] = []
        self._several = 0

    def add(self, keys: np.ndarray, time: int) -> None:
        """Add the events of a part of the recording. Equal events must be in the same part.

        Args:
            keys: (N,) sorted numbers that are equal for equal events.
            time: time of the first event in microseconds.
        """
        same = keys[1:] == keys[:-1]
        self._several += int(np.count_nonzero(same & ~np.append(False, same[:-1])))
        self._times.append(time)
        self._events.append(keys.size)
        self._repeated.append(int(np.count_nonzero(same)))

    def findings(self, path: Path, *, coarse: bool = False) -> Iterator[Finding]:
        """Yield a finding if too many events are repeated: an error if nearly all are, otherwise a warning.

        Args:
            path: the recording.
            coarse: whether the times are in coarse steps. Some repeated events are then normal.
        """
        total, repeated = sum(self._events), sum(self._repeated)
        if total < MIN_EVENTS or repeated < REPEATED_SHARE * total:
            return
        shares = np.array(self._repeated) / np.maximum(self._events, 1)
        lines = {"repeated events": (np.array(self._times) / 1e6, shares)}
        curve = Curves("When events are repeated", "time (s)", "share of the events that repeat another one", lines)
        bars = Bars("Events that are repeated", "events", {"all": total, "distinct": total - repeated})
        found = f"{repeated} of {total} events ({repeated / total:.1%}) equal another one in x, y, polarity and time"
        every = self._several >= TWICE_SHARE * (total - repeated)
        if coarse and not every:
            return
        yield Finding(
            "error" if every else "warning",
            path,
            "events stored twice" if every else "repeated events",
            found,
            f"less than {REPEATED_SHARE:.0%}",
            "probably joined with itself or written twice: convert the recording again, or keep one event of each",
            (bars, curve),
        )
