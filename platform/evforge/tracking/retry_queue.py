"""Calls to a server that may be away for a while: what does not get through waits for it, in its order."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from evforge import one_line

__all__ = ["RetryQueue"]

PAUSES_S = (0.5, 2.0, 5.0)
"""Pauses before a call is tried again while nobody knows yet that the server is away."""
EVERY_S = 5.0
"""A server that is away is asked no more often, so that it holds nobody up."""
PATIENCE_S = 180.0
"""So long is waited for a server where nothing can go on without it: at the start and at the end of a run."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class _Letter:
    what: str
    call: Callable[[], Any]
    tries: int = 0


class RetryQueue:
    """Calls of one process to one server.

    Args:
        address: the server's, for messages.
        probe: asks the server anything: if it answers, a call that still fails is given up, and holds no other up.
    """

    def __init__(self, address: str, probe: Callable[[], Any]) -> None:
        self.address = address
        self.probe = probe
        self._waiting: deque[_Letter] = deque()
        self._away = False
        self._next_try = 0.0

    def send(self, what: str, call: Callable[[], Any]) -> None:
        """Make a call once those before it got through: now, or later if the server is away.

        Args:
            what: what is written, for the warning.
            call: writes it.

        Raises:
            Exception: what `call` raises, unless it is that the server is away.
        """
        self._waiting.append(_Letter(what, call))
        if not self._away:
            self._deliver(PAUSES_S)
        elif time.monotonic() >= self._next_try:
            self._deliver(())

    def ask(self, call: Callable[[], T]) -> T:
        """The answer of a call; a server that is away is waited for.

        Raises:
            Exception: what `call` raises, also if the server stays away.
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
        """Wait until everything got through, or the server's time is up; then a warning says what is lost."""
        end = time.monotonic() + PATIENCE_S
        while not self._deliver(()):
            if time.monotonic() >= end:
                _log.warning("%s stayed away: %d writes are lost", self.address, len(self._waiting))
                self._waiting.clear()
                return
            time.sleep(EVERY_S)

    def _deliver(self, pauses: tuple[float, ...]) -> bool:
        """Make the calls that wait; whether all got through."""
        for pause in (*pauses, None):
            error = self._first_outage()
            if error is None:
                if self._away:
                    _log.warning("%s answers again: what was kept is recorded", self.address)
                self._away = False
                return True
            if pause is None:
                self._note_outage(self._waiting[0].what, error)
            else:
                time.sleep(pause)
        return False

    def _first_outage(self) -> Exception | None:
        """Make the calls that wait until one finds the server away; its error."""
        while self._waiting:
            letter = self._waiting[0]
            try:
                letter.call()
            except Exception as error:
                letter.tries += 1
                outage = _is_outage(error)
                if outage and (letter.tries <= len(PAUSES_S) or not self._answers()):
                    return error
                self._waiting.popleft()
                if not outage and not self._waiting:  # the caller's own
                    raise
                _log.warning("%s: not recorded: %s (%s)", self.address, letter.what, one_line(error)[:300])
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
            self._away = True
            _log.warning(
                "%s does not answer: %s and what follows is kept for later (%s)",
                self.address,
                what,
                one_line(error)[:300],
            )


def _is_outage(error: Exception) -> bool:
    """Whether a call may succeed later: MLflow's codes, or the network's and the disk's errors."""
    code = getattr(error, "error_code", None)
    if code is not None:
        return code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
