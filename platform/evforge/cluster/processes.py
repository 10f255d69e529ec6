"""The processes of Ray that this process has started on this machine: find all of them, and end them."""

import ctypes
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from evforge.cluster.ray_compat import PROCESS_TITLES

__all__ = ["LocalProcesses"]

VARIABLE = "EVFORGE_RAY_PROCESSES"
LIMIT_S = 10.0
"""A process that the kernel does not end within this time, for example during a disk write, is not waited for."""

SET_CHILD_SUBREAPER = 36  # argument of prctl(2)


class LocalProcesses:
    """All processes that `ray.init` starts on this machine.

    The processes inherit a unique value of an environment variable, by which they are found. Some of Ray's processes
    overwrite the memory of their environment with a title. They are found as children of the other processes. If their
    parent process has died, they are found as children of this process.
    """

    def __init__(self) -> None:
        self._mark = secrets.token_hex(8)
        self._known: set[psutil.Process] = set()
        self._own = set(psutil.Process().children())

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Context manager that marks the processes started in its block, so that `find` finds them."""
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = self._mark
        try:
            with _adopted_orphans():
                yield
        finally:
            os.environ.pop(VARIABLE, None)
            if before is not None:
                os.environ[VARIABLE] = before

    def find(self) -> set[psutil.Process]:
        """Return the living processes.

        A process that was found once is found again, even if its parent process has died in the meantime.
        """
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(VARIABLE) == self._mark:
                    self._known |= {process, *process.children(recursive=True)}
        for child in set(psutil.Process().children()) - self._own:
            with suppress(psutil.Error):
                if child.name().startswith(PROCESS_TITLES):
                    self._known |= {child, *child.children(recursive=True)}
        return {process for process in self._known if _is_alive(process)}

    def end(self, patience_s: float = 0.0) -> None:
        """Wait at most `patience_s` seconds until all processes have ended by themselves, then kill the others."""
        with _adopted_orphans():
            psutil.wait_procs(self.find(), timeout=patience_s)
            end = time.monotonic() + LIMIT_S
            while (alive := self.find()) and time.monotonic() < end:  # also those that were started since the last call
                for process in alive:
                    with suppress(psutil.Error):
                        process.kill()
                psutil.wait_procs(alive, timeout=1)


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def _adopted_orphans() -> Iterator[None]:
    """Context manager: on Linux, this process becomes the parent of descendants that lose their parent in the block."""
    if not sys.platform.startswith("linux"):
        yield
        return
    prctl = ctypes.CDLL(None).prctl
    prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(SET_CHILD_SUBREAPER, 0, 0, 0, 0)
