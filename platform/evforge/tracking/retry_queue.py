"""Queue of writes to an MLflow server. Writes that fail during an outage are sent again in their original order."""

import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from evforge import one_line
from evforge.tracking.outbox import Outbox, Write, abandoned, remove, replace, stored

__all__ = ["RetryQueue", "undelivered"]

PAUSES_S = (0.5, 2.0, 5.0)
"""Pauses in seconds between the first attempts of a call. If all attempts fail, an outage is assumed."""
EVERY_S = 5.0
"""Least number of seconds between two attempts during an outage, so that callers of `send` are not delayed."""
PATIENCE_S = 180.0
"""Longest time in seconds to wait for the server at the start and at the end of a command."""

_left: set[Path] = set()
"""Files with writes that this process or its workers could not deliver."""

_lost: list[str] = []
"""Names of the writes that were neither delivered nor stored."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


def undelivered() -> tuple[list[Path], int]:
    """Return what this process and its ended workers could not send since the last call.

    Returns:
        Files with such writes, and the number of writes that are lost because they could not be stored.
    """
    found, lost = sorted(path for path in _left if path.is_file()), len(_lost)
    _left.clear()
    _lost.clear()
    return found, lost


class RetryQueue:
    """Sends the writes of one process to one server, and sends writes again that failed during an outage.

    During an outage, the queued writes are also stored in a file. If the process ends before the outage does, the next
    process with the same folder sends them. The same holds for a single write that fails while the server answers, for
    example because the disk for its files is full. It makes no difference if the server receives a write twice.

    Args:
        address: address of the server without a password, used in warnings and files.
        probe: function that makes any request to the server. If this request succeeds, a write that still fails is
            left to the next process, so that it does not block the other writes.
        make: function that sends one write to the server.
        folder: folder of the files with unsent writes; None to store no writes.
    """

    def __init__(
        self, address: str, probe: Callable[[], Any], make: Callable[[Write], None], folder: Path | None = None
    ) -> None:
        self.address = address
        self.probe = probe
        self.make = make
        self.folder = folder
        self._outbox = Outbox(folder, address)
        self._waiting: deque[Write] = deque()
        self._tries = 0  # of the first waiting write
        self._away = False
        self._next_try = 0.0

    def send(self, write: Write) -> None:
        """Send a write after all queued writes. During an outage, append it to the queue instead.

        Raises:
            Exception: the server has rejected the write. An outage raises no error.
        """
        self._waiting.append(write)
        if not self._away:
            self._deliver(PAUSES_S)
        else:
            self._outbox.store([write])
            if time.monotonic() >= self._next_try:
                self._deliver(())

    def deliver_stored(self) -> None:
        """Send the writes that other processes, which have ended, stored in the folder, and remove their files."""
        for path, writes in abandoned(self.folder, self.address) if self.folder else ():
            failed: list[Write] = []
            for number, write in enumerate(writes):
                try:
                    self.make(write)
                except Exception as error:
                    if _is_outage(error) and not self._answers():
                        replace(path, self.address, [*failed, *writes[number:]])
                        return
                    if _is_outage(error):
                        failed.append(write)
                    self._warn(write, error)
            if failed:
                replace(path, self.address, failed)
                _log.warning("%s fails at %d writes of %s; delete the file to give up", self.address, len(failed), path)
            else:
                _log.warning("%s received the %d writes that were stored in %s", self.address, len(writes), path)
                remove(path)

    def ask(self, call: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
        """Call a function and return its result. During an outage, repeat the call for at most `patience_s` seconds.

        Raises:
            Exception: the error of `call`, if the error is not an outage or the outage does not end.
        """
        end = time.monotonic() + patience_s
        while True:
            try:
                return call()
            except Exception as error:
                if not _is_outage(error) or _is_rejection(error) or time.monotonic() >= end:
                    raise
                self._note_outage("a new run", error)
                time.sleep(EVERY_S)

    def flush(self) -> None:
        """Wait until all queued writes are sent, at most `PATIENCE_S` seconds.

        Then log a warning about the remaining writes. They stay in the file; without a folder, they are lost.
        """
        end = time.monotonic() + PATIENCE_S
        while not self._deliver(()):
            if time.monotonic() >= end:
                count, fate = len(self._waiting), self._outbox.fate()
                _log.warning("%s still does not answer: %d writes %s", self.address, count, fate)
                if not self._outbox.exists():
                    _lost.extend(write.what for write in self._waiting)
                self._waiting.clear()
                self._outbox = Outbox(self.folder, self.address)  # the next success must not remove the file
                break
            time.sleep(EVERY_S)
        if self.folder is not None:
            _left.update(stored(self.folder, self.address))  # workers on other nodes store theirs in the same folder

    def _deliver(self, pauses: tuple[float, ...]) -> bool:
        """Send the queued writes. If an outage prevents this, try again after each of the pauses.

        Args:
            pauses: seconds to wait before each further attempt; empty for a single attempt.

        Returns:
            True if the queue is empty; False if the outage continues.
        """
        for pause in (*pauses, None):
            error = self._first_outage()
            if error is None:
                if self._away:
                    _log.warning("%s answers again: the queued writes were sent", self.address)
                    self._outbox.remove()
                self._away = False
                return True
            if pause is None:
                if not self._away:
                    self._outbox.store(list(self._waiting))
                self._outbox.keep_fresh()
                self._note_outage(self._waiting[0].what, error)
            else:
                time.sleep(pause)
        return False

    def _first_outage(self) -> Exception | None:
        """Send the queued writes in order until one fails because of an outage.

        Returns:
            The error of the write that failed; None if the queue is empty.
        """
        while self._waiting:
            first = self._waiting[0]
            try:
                self.make(first)
            except Exception as error:
                self._tries += 1
                outage = _is_outage(error)
                if outage and (self._tries <= len(PAUSES_S) or not self._answers()):
                    return error
                self._next()
                if outage:
                    # A file of its own: another process may take it while this one is still alive.
                    if not Outbox(self.folder, self.address).store([first]):
                        _lost.append(first.what)
                elif not self._waiting:  # the write that was just sent has failed
                    raise
                self._warn(first, error)
            else:
                self._next()
        return None

    def _warn(self, write: Write, error: Exception) -> None:
        _log.warning("%s: not recorded: %s (%s)", self.address, write.what, one_line(error)[:300])

    def _next(self) -> None:
        self._waiting.popleft()
        self._tries = 0

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
    """Return whether an error is an outage, which may be temporary.

    An error with an MLflow error code is judged by this code, any other error by its type.
    """
    code = getattr(error, "error_code", None)
    if code is not None:
        return code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") or _is_rejection(error)
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


def _is_rejection(error: Exception) -> bool:
    """Return whether a server or a gateway rejects all requests, for example because a token has expired."""
    rejected = ("UNAUTHENTICATED", "PERMISSION_DENIED", "ENDPOINT_NOT_FOUND")
    return getattr(error, "error_code", None) in rejected
