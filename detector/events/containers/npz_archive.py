"""Reader of event arrays in NPZ files.

The file contains arrays x, y, p, t under one of their known names, or an array of records, or an (N, 4) array. Numbers
`height` and `width`, if present, are the sensor size. Times are seconds or microseconds as in NPY files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from detector.events.containers.array import ArrayReader
from detector.events.containers.npy_array import event_columns_of
from detector.events.headers.column_names import OPTION, find_names, known_names
from detector.events.headers.file_kinds import unreadable
from detector.events.headers.header import has_signature
from detector.events.headers.sensor_size import sensor_size

__all__ = ["NpzReader"]

END = ".npy"


class NpzReader(ArrayReader):
    """Reads NPZ files of events. The constructor reads all events. Pickled objects are refused.

    Args:
        path: path of the recording.
        height: sensor height in pixels, for files that do not contain it.
        width: sensor width in pixels, for files that do not contain it.
        event_columns: order of the columns of an (N, 4) array, such as "t,x,y,p"; None to use the values.

    Raises:
        ValueError: the file is broken, its columns cannot be identified, or the sensor size is unknown.
    """

    def __init__(
        self, path: Path, height: int | None = None, width: int | None = None, event_columns: str | None = None
    ) -> None:
        if not has_signature(path, "NPZ"):
            raise unreadable(path, "not a readable NPZ file")
        with _readable(path):
            archive = ZipFile(path)
        with archive:
            with _readable(path):
                types = _types(archive)
                sides = _side(archive, types, "height"), _side(archive, types, "width")
            names = _event_arrays(path, types)
            with _readable(path):
                arrays = {name: _load(archive, name) for name in names}
        found = (sides[0], sides[1]) if sides[0] is not None and sides[1] is not None else None
        size = sensor_size(path, found, height, width)
        super().__init__(path, _columns(path, arrays, size, event_columns), *size)


def _columns(
    path: Path, arrays: dict[str, np.ndarray], size: tuple[int, int], event_columns: str | None
) -> list[np.ndarray]:
    """Return the columns x, y, p, t of the arrays that contain events."""
    if len(arrays) == 1:
        ((name, array),) = arrays.items()
        return event_columns_of(f"{path}: {name}", array, size, event_columns)
    names = find_names(path, arrays)
    if event_columns is not None:
        raise ValueError(f"{path}: {OPTION}: got {event_columns!r}, but the arrays have names, allowed: no value")
    return [arrays[name] for name in names]


def _types(archive: ZipFile) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return a dict from the name of each array to its shape and dtype."""
    types = {}
    for entry in archive.infolist():
        if entry.filename.endswith(END):
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            types[entry.filename.removesuffix(END)] = shape, dtype
    return types


def _event_arrays(path: Path, types: dict[str, tuple[tuple[int, ...], np.dtype]]) -> list[str]:
    """Return the names of the arrays that contain events: those of x, y, p, t, or that of a single table.

    Raises:
        ValueError: there are no such arrays, or several tables.
    """
    known = known_names(types)
    if len(known) == 4:
        return list(known.values())
    tables = [name for name, (shape, dtype) in types.items() if len(known_names(dtype.names or ())) == 4]
    tables = tables or [name for name, (shape, _) in types.items() if len(shape) == 2 and shape[1] >= 4]
    if len(tables) != 1:
        found = ", ".join(f"{name} {dtype} {shape}" for name, (shape, dtype) in list(types.items())[:20])
        raise ValueError(
            f"{path}: no events: found {found or 'no arrays'}; required: arrays x, y, p, t, or one array of records "
            "or of shape (N, 4)"
        )
    return tables


def _side(archive: ZipFile, types: dict[str, tuple[tuple[int, ...], np.dtype]], name: str) -> int | None:
    """Return the number with this name, None if there is none."""
    shape, dtype = types.get(name, ((), np.dtype(object)))
    return int(_load(archive, name).item()) if dtype.kind in "iu" and np.prod(shape) == 1 else None


def _load(archive: ZipFile, name: str) -> np.ndarray:
    with archive.open(name + END) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Context manager in which all errors become a ValueError that names the file.

    zipfile, zlib and numpy raise many kinds of errors for damaged files.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a readable NPZ file, it may be truncated: {reason}") from None
