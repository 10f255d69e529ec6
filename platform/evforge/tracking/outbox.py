"""Files with writes that an MLflow server has not received because of an outage.

The writes are sent by the same process after the outage or, if this process has ended, by the next one.
"""

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from detector.utils.atomic_write import atomic_write

__all__ = ["OUTBOX", "Outbox", "Write", "abandoned", "remove", "replace", "stored"]

OUTBOX = "undelivered"
"""Name of the folder for these files. It is in the folder of all runs (`train.storage`)."""

FRESH_S = 60.0
"""A process updates its file at least this often in seconds. A file without updates belongs to a dead process."""

OWNER = re.compile(r"-(\d+)-[0-9a-f]{8}\.jsonl$")
"""Matches the end of a file's name, which contains the id of its process."""

_own: set[Path] = set()
"""Files of this process."""


@dataclass(frozen=True)
class Write:
    """One write to an MLflow server.

    Args:
        what: name of the written data, used in warnings
        method: name of a function in `evforge.tracking.writes`
        arguments: arguments of this function as JSON values
    """

    what: str
    method: str
    arguments: dict[str, Any]


class Outbox:
    """The file with the undelivered writes of this process to one server. It exists only during an outage.

    If the file cannot be written, for example because the disk is full, the writes are in memory only.

    Args:
        folder: folder of the file; None for no file.
        address: address of the server, without a password.
    """

    def __init__(self, folder: Path | None, address: str) -> None:
        self.path = folder and folder / f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        self.address = address
        if self.path is not None:
            _own.add(self.path)

    def store(self, writes: Sequence[Write]) -> bool:
        """Append writes to the file, which is created if it does not exist. Return whether they are in the file."""
        if self.path is None:
            return False
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                if file.tell() == 0:
                    file.write(json.dumps({"address": self.address}) + "\n")
                # The empty line ends an incomplete line that a full disk may have left.
                file.writelines(f"\n{json.dumps(asdict(write))}\n" for write in writes)
            return True
        return False

    def keep_fresh(self) -> None:
        """Set the modification time of the file to now.

        It shows other processes that this process is alive and will send the writes itself.
        """
        if self.path is not None:
            with suppress(OSError):
                os.utime(self.path)

    def remove(self) -> None:
        """Remove the file, because all writes were delivered."""
        if self.path is not None:
            remove(self.path)

    def exists(self) -> bool:
        """Return whether the file exists."""
        return self.path is not None and self.path.is_file()

    def fate(self) -> str:
        """Return what will happen to the undelivered writes, as the end of a sentence."""
        if not self.exists():
            return "are lost"
        return f"stay in {self.path}, and the next evforge command on this folder delivers them"


def stored(folder: Path, address: str) -> list[Path]:
    """Return the files in a folder that contain undelivered writes to the server `address`."""
    return [path for path in sorted(folder.glob("*.jsonl")) if _lines(path)[:1] == [{"address": address}]]


def remove(path: Path) -> None:
    """Remove a file whose writes were delivered, and its folder if no other file is there."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def replace(path: Path, address: str, writes: Sequence[Write]) -> None:
    """Replace the writes in a file. If the disk is full, the file stays as it is."""
    with suppress(OSError), atomic_write(path) as part:
        lines = [{"address": address}, *map(asdict, writes)]
        part.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def abandoned(folder: Path, address: str) -> Iterator[tuple[Path, list[Write]]]:
    """Yield the files of processes that have ended, each as a pair of its path and its writes.

    A process on another machine is assumed to have ended if it has not updated its file for `FRESH_S` seconds.

    Args:
        folder: folder of the files.
        address: address of the server.
    """
    for path in stored(folder, address):
        owner = OWNER.search(path.name)
        with suppress(FileNotFoundError):
            fresh = time.time() - path.stat().st_mtime < FRESH_S
            here = path.name.startswith(f"{_host()}-")
            if here and owner:  # a process id may be used again, in a container even by this process
                alive = path in _own or (int(owner[1]) != os.getpid() and psutil.pid_exists(int(owner[1])))
            else:
                alive = fresh
            if not alive:
                yield path, [Write(**line) for line in _lines(path)[1:]]


def _host() -> str:
    return re.sub(r"\W", "_", socket.gethostname())


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON values in the lines of a file.

    An incomplete line, which a killed process or a full disk may have left, is ignored. The list is empty without a
    file.
    """
    found = []
    with suppress(OSError):
        for line in path.read_text().splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
    return found
