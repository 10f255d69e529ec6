"""Opening HDF5 files for reading, whoever else has them open, without following what leads out of them."""

from pathlib import Path
from typing import BinaryIO

import h5py

__all__ = ["open_hdf5"]

INSIDE = (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT)


def open_hdf5(path: object, raw: BinaryIO | None = None) -> h5py.File:
    """Open a file for reading, to be used in a `with` block or closed; locks of other processes do not count.

    Args:
        path: the file, named in errors.
        raw: its open bytes, for a file that is not on this machine.

    Raises:
        ValueError: it is not a whole HDF5 file, or it has links to, or data in, other files.
    """
    try:
        file = h5py.File(raw or Path(str(path)), "r", locking=False)
    except OSError as error:
        reason = " ".join(str(error).split())
        hint = "; does another process write it?" if "truncated" in reason or "for write" in reason else ""
        raise ValueError(f"{path}: not a whole HDF5 file: {reason}{hint}") from None
    try:
        found = _leads_out(file)
    except (RuntimeError, KeyError, OverflowError, TypeError, UnicodeError, ValueError) as error:
        file.close()
        raise ValueError(f"{path}: not a whole HDF5 file: {' '.join(str(error).split())}") from None
    if found:
        file.close()
        raise ValueError(f"{path}: {found} of another file, allowed: data in the file itself")
    return file


def _leads_out(file: h5py.File) -> str:
    """What of a file is not in it; empty if all is."""
    found: list[str] = []

    def look(name: bytes, info: h5py.h5l.LinkInfo) -> bool | None:
        text = name.decode(errors="replace")
        if info.type not in INSIDE:
            found.append(f"{text} is an external link to data")
        elif info.type == h5py.h5l.TYPE_HARD and isinstance(item := h5py.h5o.open(file.id, name), h5py.h5d.DatasetID):
            plist = item.get_create_plist()
            if plist.get_external_count():
                found.append(f"{text} is stored in external data")
            elif plist.get_layout() == h5py.h5d.VIRTUAL and any(
                plist.get_virtual_filename(index) not in (".", b".") for index in range(plist.get_virtual_count())
            ):
                found.append(f"{text} is a virtual dataset with data")
        return True if found else None

    file.id.links.visit(look, info=True)
    return found[0] if found else ""
