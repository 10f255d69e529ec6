"""Progress of a search: the number of trials in each state, and the time left."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from detector.utils.decoration import decoration
from evforge.display.live import announce, time_text

if TYPE_CHECKING:
    from evforge.search.trial_log import TrialRecord

__all__ = ["SearchProgress"]


@dataclass
class SearchProgress:
    """Progress of one step of a search.

    Args:
        epochs: number of epochs of a trial
        count: number of trials of this step; None if unknown
        further: number of trials of later steps
        before: number of trained trials at the start of a resumed step
        start: start time in seconds on the monotonic clock
        live: whether a terminal shows the table of the trials, so that lines about single trials are not printed
    """

    epochs: int
    count: int | None = None
    further: int = 0
    before: float = 0.0
    start: float = field(default_factory=time.monotonic)
    live: bool = False

    def summary(self, records: Sequence["TrialRecord"]) -> str:
        """Return the elapsed time, the number of trials in each state, and the time left until the end of the search.

        The estimate assumes that the next trials need as long as the previous ones.
        """
        elapsed, trained = time.monotonic() - self.start, self.trained(records)
        counts = Counter(record.status for record in records)
        text = f"after {time_text(elapsed)}: {', '.join(f'{n} {status}' for status, n in counts.items()) or 'no trial'}"
        if self.count is None:
            return text
        done, left = trained - self.before, self.count + self.further - trained
        estimate = f", about {time_text(elapsed / done * left)} left" if done > 0 and left > 0 else ""
        return f"{text}, {self.count} planned{estimate}"

    def say(self, text: Callable[[], str]) -> None:
        """Print the result of `text`, unless a terminal shows the table of the trials.

        An error is only printed as a warning, because Ray would count it as a failure of the trial.
        """
        if not self.live:
            with decoration("the progress of the search"):
                announce(text())

    def trained(self, records: Sequence["TrialRecord"]) -> float:
        """Return the number of trained trials. An unfinished trial counts as the part of its epochs that is done."""
        return sum(self._part(record) if record.status in ("running", "killed") else 1.0 for record in records)

    def _part(self, record: "TrialRecord") -> float:
        return record.reports[-1]["epoch"] / self.epochs if record.reports else 0.0
