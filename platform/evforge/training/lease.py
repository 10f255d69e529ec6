"""Lease of the folder of a run or study. Only the process that holds the lease, its owner, trains in the folder.

The library `filelock` stores the lease as a file with the process id and the host of the owner. The owner regularly
updates the modification time of this file. This also works in folders that machines share, which often do not support
file locks.
"""

import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import LeaseCompromise, OwnerRecord, SoftFileLease, Timeout

from evforge import EvForgeError

__all__ = ["LEASE_FILE", "hold_lease", "ownerless"]

LEASE_FILE = "driver.lock"
LEASE_S, HEARTBEAT_S = 90.0, 8.0
"""Time after which the lease of a silent owner on another machine ends, and time between two touches of the file.

A network file system may show the time of a file up to 60 seconds late.
"""


@contextmanager
def hold_lease(folder: Path) -> Iterator[None]:
    """Context manager that holds the lease of a folder during its block.

    The lease of a dead process on this machine is taken over at once. The lease of a process on another machine is
    taken over if that process has not updated it for `LEASE_S` seconds. If another process takes over the lease of this
    process in the same way, this process is interrupted.

    Args:
        folder: folder of the run or study.

    Raises:
        EvForgeError: another process is working in the folder.
    """

    def lost(compromise: LeaseCompromise) -> None:
        print(f"{folder}: this process has lost its lease ({compromise.reason}) and ends", flush=True)
        os.kill(os.getpid(), signal.SIGINT)

    lease = SoftFileLease(
        folder / LEASE_FILE,
        lease_duration=LEASE_S,
        heartbeat_interval=HEARTBEAT_S,
        on_compromise=lost,
        thread_local=False,
    )
    _acquire(lease, folder)
    try:
        yield
    finally:
        lease.release()


def ownerless(storage: Path) -> Iterator[tuple[Path, float]]:
    """Yield the folders whose owner died without releasing its lease, more than twice `LEASE_S` seconds ago.

    On this machine, a process that exists is alive even if it is silent, for example because it is suspended.

    Args:
        storage: folder of all runs.

    Yields:
        Folder, and the time in seconds since 1970 at which its owner was last alive.
    """
    for file in sorted(storage.glob(f"*/{LEASE_FILE}")):
        with suppress(OSError):
            with tempfile.TemporaryFile(dir=storage) as clock:  # the clock of a file server may differ from ours
                now = os.fstat(clock.fileno()).st_mtime
            owner, touched = SoftFileLease(file).owner, file.stat().st_mtime
            if owner is not None and now - touched > 2 * LEASE_S and _status(owner) in (None, psutil.STATUS_ZOMBIE):
                yield file.parent, touched


def _acquire(lease: SoftFileLease, folder: Path) -> None:
    """Acquire a lease, or raise an error as soon as the owner shows that it is alive."""
    if _status(lease.owner) == psutil.STATUS_ZOMBIE:  # it has ended, but `filelock` takes it for alive
        (folder / LEASE_FILE).unlink(missing_ok=True)
    first, start, told = _touched(folder), time.monotonic(), False

    def is_alive() -> bool:
        nonlocal told
        if time.monotonic() - start > 2 * HEARTBEAT_S and not told:
            print(f"{folder}: {_owner(lease)} seems to be dead; waiting until its lease ends", flush=True)
            told = True
        return first is not None and _touched(folder) not in (None, first)

    try:
        lease.acquire(timeout=2 * LEASE_S, poll_interval=0.25, cancel_check=is_alive)
    except Timeout:
        remedy = "stop it first, or wait for its end"
        if lease.owner is None:
            remedy = f"if none is, delete {folder / LEASE_FILE}"
        raise EvForgeError(f"{folder}: {_owner(lease)} is working in this folder; {remedy}") from None


def _status(owner: OwnerRecord | None) -> str | None:
    """Return the status of an owner on this machine, such as `psutil.STATUS_ZOMBIE`; None if no such process exists."""
    if owner is not None and owner.hostname == socket.gethostname():
        with suppress(psutil.Error):
            return psutil.Process(owner.pid).status()
    return None


def _owner(lease: SoftFileLease) -> str:
    owner = lease.owner
    return f"process {owner.pid} on {owner.hostname}" if owner else "another process"


def _touched(folder: Path) -> float | None:
    """Return the modification time of the lease file in seconds since 1970; None if there is no file."""
    try:
        return (folder / LEASE_FILE).stat().st_mtime
    except OSError:
        return None
