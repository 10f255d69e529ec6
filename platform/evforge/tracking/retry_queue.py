"""Queue of calls to a server that may have outages. Failed calls are retried later in the original order."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from evforge import one_line

__all__ = ["RetryQueue"]

PAUSES_S = (0.5, 2.0, 5.0)
"""Pauses in seconds between the first attempts of a call. If all attempts fail, an outage is assumed."""
EVERY_S = 5.0
"""Least number of seconds between two attempts during an outage, so that callers of `send` are not delayed."""
PATIENCE_S = 180.0
"""Longest time in seconds to wait for the server at the start and at the end of a run."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class _Call:
    what: str
    call: Callable[[], Any]
    tries: int = 0


class RetryQueue:
    """Makes the calls of one process to one server, and retries calls that fail during an outage.

    Args:
        address: address of the server, used in warnings.
        probe: function that makes any request to the server. If this request succeeds, a call that still fails is
            dropped, so that it does not block the other calls.
    """

    def __init__(self, address: str, probe: Callable[[], Any]) -> None:
        self.address = address
        self.probe = probe
        self._waiting: deque[_Call] = deque()
        self._away = False
        self._next_try = 0.0

    def send(self, what: str, call: Callable[[], Any]) -> None:
        """Make a call now, or queue it during an outage. Earlier calls in the queue are made first.

        Args:
            what: name of the written data, used in warnings.
            call: function that writes the data.

        Raises:
            Exception: the error of `call`, unless the error is an outage.
        """
        self._waiting.append(_Call(what, call))
        if not self._away:
            self._deliver(PAUSES_S)
        elif time.monotonic() >= self._next_try:
            self._deliver(())

    def ask(self, call: Callable[[], T]) -> T:
        """Return the result of a call. During an outage, wait and repeat the call.

        Raises:
            Exception: the error of `call`, if the error is not an outage or the outage does not end.
        """
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except Exception as error:
                if not _is_outage(error) or time.monotonic() >= end:
                    raise
                self._note_outage("a new run", error)
                time.sleep(EVERY_S)

    def flush(self) -> None:
        """Wait until all queued calls are made. After `PATIENCE_S` seconds, drop the remaining calls with a warning."""
        end = time.monotonic() + PATIENCE_S
        while not self._deliver(()):
            if time.monotonic() >= end:
                _log.warning("%s still does not answer: %d writes are lost", self.address, len(self._waiting))
                self._waiting.clear()
                return
            time.sleep(EVERY_S)

    def _deliver(self, pauses: tuple[float, ...]) -> bool:
        """Make the queued calls. During an outage, wait for each of the pauses (in seconds) and try again.

        Returns:
            True if the queue is empty; False if the outage continues.
        """
        for pause in (*pauses, None):
            error = self._first_outage()
            if error is None:
                if self._away:
                    _log.warning("%s answers again: the queued writes were sent", self.address)
                self._away = False
                return True
            if pause is None:
                self._note_outage(self._waiting[0].what, error)
            else:
                time.sleep(pause)
        return False

    def _first_outage(self) -> Exception | None:
        """Make the queued calls until one fails because of an outage.

        Returns:
            The error of the call that failed; None if the queue is empty.
        """
        while self._waiting:
            first = self._waiting[0]
            try:
                first.call()
            except Exception as error:
                first.tries += 1
                outage = _is_outage(error)
                if outage and (first.tries <= len(PAUSES_S) or not self._answers()):
                    return error
                self._waiting.popleft()
                if not outage and not self._waiting:  # the call that was just sent has failed
                    raise
                _log.warning("%s: not recorded: %s (%s)", self.address, first.what, one_line(error)[:300])
            else:
                self._waiting.popleft()
        return None

    def _answers(self) -> bool:
        try:
            self.probe()
        except Exception:
            return False
        return True

    def _note_outage(self, what: str, error: Exception) -> None:
        self._next_try = time.monotonic() + EVERY_S
        if not self._away:
            reason = one_line(error)[:300]
            _log.warning("%s does not answer: %s and later writes are queued (%s)", self.address, what, reason)
        self._away = True


def _is_outage(error: Exception) -> bool:
    """Return whether an error may be temporary. MLflow's error code decides, or else the type of the error."""
    code = getattr(error, "error_code", None)
    if code is not None:
        return code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
