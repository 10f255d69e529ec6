"""Open HDF5 files for reading, also while other processes write them. Files that refer to other files are refused."""

from pathlib import Path
from typing import BinaryIO

import h5py

__all__ = ["open_hdf5"]

INSIDE = (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT)


def open_hdf5(path: object, raw: BinaryIO | None = None) -> h5py.File:
    """Open an HDF5 file for reading. Locks of other processes are ignored.

    Args:
        path: path of the file, also used in error messages.
        raw: open file object that is read instead of `path`, for a file that is not on this machine.

    Raises:
        ValueError: the file is not a complete HDF5 file, has a link to another file, or stores data in another file.
    """
    try:
        file = _open(raw or Path(str(path)))
    except OSError as error:
        reason = " ".join(str(error).split())
        hint = "; does another process write it?" if "truncated" in reason or "for write" in reason else ""
        raise ValueError(f"{path}: not a complete HDF5 file: {reason}{hint}") from None
    try:
        found = _external_part(file)
    except Exception as error:  # h5py raises many kinds of errors for damaged files
        file.close()
        raise ValueError(f"{path}: not a complete HDF5 file: {' '.join(str(error).split())}") from None
    if found:
        file.close()
        raise ValueError(f"{path}: {found} of another file, allowed: data in the file itself")
    return file


def _open(source: Path | BinaryIO) -> h5py.File:
    try:
        return h5py.File(source, "r")
    except OSError:  # the file is locked by a process that writes it, or open in this process with other flags
        return h5py.File(source, "r", locking=False)


def _external_part(file: h5py.File) -> str:
    """Describe the first link or dataset that refers to another file. Return "" if nothing refers to another file."""
    links: list[tuple[bytes, int]] = []
    file.id.links.visit(lambda name, info: links.append((bytes(name), info.type)), info=True)
    for name, kind in links:
        text = name.decode(errors="replace")
        if kind not in INSIDE:
            return f"{text} is an external link to data"
        item = h5py.h5o.open(file.id, name) if kind == h5py.h5l.TYPE_HARD else None
        if isinstance(item, h5py.h5d.DatasetID):
            plist = item.get_create_plist()
            if plist.get_external_count():
                return f"{text} is stored in external data"
            parts = plist.get_virtual_count() if plist.get_layout() == h5py.h5d.VIRTUAL else 0
            if any(plist.get_virtual_filename(index) not in (".", b".") for index in range(parts)):
                return f"{text} is a virtual dataset with data"
    return ""
