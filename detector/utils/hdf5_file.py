"""Open HDF5 files for reading, also while other processes write them. Files that refer to other files are refused."""

from pathlib import Path
from typing import BinaryIO

import h5py

__all__ = ["open_hdf5"]

INSIDE = (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT)
"""Kinds of links that lead to objects in the same file."""

MOST_LINKS = 1 << 20
"""Largest number of links in a file. All links are checked when the file is opened."""


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
    """Describe the first link or dataset that refers to another file. Return "" if nothing refers to another file.

    Links are listed group by group and never followed out of the file, so no other file is opened. HDF5's own recursive
    visit is not used, because it crashes if groups are nested deeply.

    Raises:
        ValueError: the file has more than `MOST_LINKS` links.
    """
    seen: set[int] = set()
    groups, count = [(b"", file.id)], 0
    while groups:
        prefix, group = groups.pop()
        links: list[tuple[bytes, int]] = []
        group.links.iterate(lambda name, info, links=links: links.append((bytes(name), info.type)), info=True)
        count += len(links)
        if count > MOST_LINKS:
            raise ValueError(f"more than {MOST_LINKS:,} links, allowed: fewer")
        for name, kind in links:
            path = prefix + name
            if kind not in INSIDE:
                return f"{path.decode(errors='replace')} is an external link to data"
            item = h5py.h5o.open(group, name) if kind == h5py.h5l.TYPE_HARD else None
            if item is None or (address := h5py.h5o.get_info(item).addr) in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.h5g.GroupID):
                groups.append((path + b"/", item))
            elif isinstance(item, h5py.h5d.DatasetID) and (found := _external_storage(item)):
                return f"{path.decode(errors='replace')} {found}"
    return ""


def _external_storage(dataset: h5py.h5d.DatasetID) -> str:
    """Describe how a dataset stores data in another file. Return "" if it does not."""
    plist = dataset.get_create_plist()
    if plist.get_external_count():
        return "is stored in external data"
    parts = plist.get_virtual_count() if plist.get_layout() == h5py.h5d.VIRTUAL else 0
    if any(plist.get_virtual_filename(index) not in (".", b".") for index in range(parts)):
        return "is a virtual dataset with data"
    return ""
