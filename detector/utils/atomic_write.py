"""Files that appear under their name only when they are complete."""

import fcntl
import glob
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from detector.utils.remote import Address, Place

__all__ = ["atomic_write", "remove_dead_parts"]

PART = re.compile(r"\.[0-9a-f]{8}\.part(\.\w+)?$")
"""End of the name of a temporary file."""


@contextmanager
def atomic_write(target: Place | str, *, keep_suffix: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; it is renamed to `target` only if the block ends without an error.

    Several processes may write the same target at once: each has its own temporary file, and the last one to finish
    wins. A killed process leaves an unlocked temporary file; the next write of the same target, or
    `remove_dead_parts`, removes it.

    Args:
        target: the final file, replaced if it exists; its folder is created.
        keep_suffix: give the temporary file the suffix of `target`, for writers that choose a format by it.

    Yields:
        Path of an empty file; it is removed if the block raises.
    """
    if isinstance(target, Address):
        with TemporaryDirectory(prefix="evforge-") as folder:
            part = Path(folder) / target.name
            yield part
            target.put(part)
        return
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_dead_parts(target.parent, glob.escape(target.name))
    part, file = _create_part(target, target.suffix if keep_suffix else "")
    with file:
        try:
            yield part
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def remove_dead_parts(folder: Path, pattern: str = "*") -> None:
    """Remove temporary files of processes that were killed in `atomic_write`; files that are being written are kept.

    Args:
        folder: folder of the files.
        pattern: pattern of the names of the final files.
    """
    for part in folder.glob(f"{pattern}.*.part*"):
        if PART.search(part.name):
            with suppress(OSError), part.open("r+b") as file:
                if _lock(file):
                    part.unlink()


def _create_part(target: Path, suffix: str) -> tuple[Path, BinaryIO]:
    """Create and lock a temporary file beside `target`; retry if another process removed it before it was locked."""
    while True:
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part{suffix}")
        file = part.open("xb")
        if _lock(file) is not False and part.exists():
            return part, file
        file.close()
        part.unlink(missing_ok=True)


def _lock(file: BinaryIO) -> bool | None:
    """Lock a file until it is closed; False if another process holds the lock, None if locks are not supported."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
