"""Writing of files that appear under their final name only when they are complete."""

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
"""Matches the end of the name of a temporary file."""


@contextmanager
def atomic_write(target: Place | str, *, keep_suffix: bool = False) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces `target` only if the block ends without an error.

    Several processes may write the same target at the same time. Each process has its own temporary file, and the last
    process to finish replaces the files of the others. The temporary file of a killed process remains until the next
    write of the same target or until `remove_dead_parts` is called.

    Args:
        target: path of the final file, which is replaced if it exists. The folder is created if it is missing.
        keep_suffix: end the temporary name with the suffix of `target`, for writers that choose the format by suffix.

    Yields:
        Path of the temporary file, which is removed if the block raises an error.

    Raises:
        OSError: the file cannot be written. The error names `target` if the block has not named another file.
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
        except OSError as error:
            if error.filename is None and error.errno is not None:  # the error of a full disk names no file
                error.filename = str(target)
            raise
        finally:
            part.unlink(missing_ok=True)


def remove_dead_parts(folder: Path, pattern: str = "*") -> None:
    """Remove the temporary files of processes that were killed in `atomic_write`. Keep files that are being written.

    Args:
        folder: folder of the temporary files.
        pattern: glob pattern of the names of the final files.
    """
    for part in folder.glob(f"{pattern}.*.part*"):
        if PART.search(part.name):
            with suppress(OSError), part.open("r+b") as file:
                if _lock(file):
                    part.unlink()


def _create_part(target: Path, suffix: str) -> tuple[Path, BinaryIO]:
    """Create a temporary file in the folder of `target`, and lock this file.

    The function tries again if another process removes the file before it is locked.

    Returns:
        Path of the temporary file, and the open file that holds the lock.
    """
    while True:
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part{suffix}")
        file = part.open("xb")
        if _lock(file) is not False and part.exists():
            return part, file
        file.close()
        part.unlink(missing_ok=True)


def _lock(file: BinaryIO) -> bool | None:
    """Lock a file until it is closed, without waiting.

    Returns:
        True if the file is locked now, False if another process holds the lock, None if locks are not supported.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
