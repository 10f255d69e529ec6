"""Events in plain arrays: NPY files and CSV text, which tell no sensor size.

NPY: records with fields x, y, p, t, or an (N, 4) array of numbers. CSV: four numbers a line between commas, semicolons
or blanks, or a first line that names the columns; lines that begin with # do not count. A table without names has the
columns t, x, y, p or x, y, p, t: the polarity is that one of the last two whose values are all -1, 0 or 1. Whole times
are microseconds; times with a fraction, in text with a decimal point, are seconds.
"""

import math
from pathlib import Path

import numpy as np

from detector.events.arrays import Columns
from detector.events.containers.chunked import BlockReader, find_names, has_fraction, to_microseconds
from detector.events.header import Header, sensor_size, split_line
from detector.events.reader import CHUNK

__all__ = ["TableReader"]

ORDERS = {3: (1, 2, 3, 0), 2: (0, 1, 2, 3)}
"""Places of x, y, p, t by that of p."""


class TableReader(BlockReader):
    """Reads tables of events. NPY files are mapped into memory; CSV files are read whole when they are opened.

    Args:
        path: the recording.
        header: its format, NPY or CSV.
        height: sensor height in pixels.
        width: sensor width in pixels.

    Raises:
        ValueError: it is broken, which column is which cannot be told, or no sensor size was given.
    """

    def __init__(self, path: Path, header: Header, height: int | None = None, width: int | None = None) -> None:
        size = sensor_size(path, None, height, width)
        self._columns, self._seconds, cut = (_map_npy if header.format == "NPY" else _read_csv)(path)
        super().__init__(path, *size, len(self._columns[0]), CHUNK)
        self._cut = cut

    def _load(self, start: int, out: Columns) -> None:
        x, y, p, t = (column[start : start + out[0].size] for column in self._columns)
        self._store((x, y, p, to_microseconds(self.path, t, self._seconds)), out)

    def _time(self, start: int) -> int:
        return int(to_microseconds(self.path, self._columns[3][start : start + 1], self._seconds)[0])

    def close(self) -> None:
        """Let go of the file; arrays that were read stay valid."""
        super().close()
        self._columns = (np.empty(0),) * 4


def _map_npy(path: Path) -> tuple[tuple[np.ndarray, ...], bool, int]:
    """Columns x, y, p, t of an NPY file, whether its times are seconds, and whether it is cut off."""
    try:
        array, cut = _load_npy(path)
    except Exception as error:  # a damaged header gives whatever numpy's and Python's parsers raise
        raise ValueError(f"{path}: not a readable NPY file: {_line(error)}") from None
    if array.dtype.names and array.ndim == 1:
        columns = tuple(array[name] for name in find_names(path, array.dtype.names))
    elif array.ndim == 2 and array.shape[1] == 4 and array.dtype.kind in "iuf":
        columns = tuple(array[:, place] for place in _order(path, array[:CHUNK]))
    else:
        raise ValueError(
            f"{path}: {array.dtype} of shape {array.shape}, "
            "allowed: (N,) records with fields x, y, p, t or (N, 4) numbers"
        )
    return columns, has_fraction(columns[3]), cut


def _load_npy(path: Path) -> tuple[np.ndarray, int]:
    """The array of an NPY file as far as it is there, mapped into memory, and 1 if that is not all of it."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(file)
        start, size = file.tell(), path.stat().st_size
    row = math.prod(shape[1:]) * dtype.itemsize
    cut = len(shape) > 0 and not dtype.hasobject and not by_columns and 0 < size - start < shape[0] * row
    if not cut:
        return np.load(path, mmap_mode="r", allow_pickle=False), 0
    return np.memmap(path, dtype, "r", start, ((size - start) // row, *shape[1:])), 1


def _read_csv(path: Path) -> tuple[tuple[np.ndarray, ...], bool, int]:
    """Columns x, y, p, t of a CSV file, whether its times are seconds, and whether its last line is cut off."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
            names = split_line(first)
            named = "x" in names
            row = next((line for line in file if line.strip() and line[0] != "#"), "") if named else first
        texts = split_line(row)
        if not named and len(texts) != 4:
            raise ValueError(f"{len(texts)} columns without names, allowed: 4, or names in the first line")
        places = [names.index(name) for name in find_names(path, names)] if named else range(4)
        delimiter = next((mark for mark in ",;" if mark in row), None)
        table = np.empty((0, 4))
        with path.open(encoding="utf-8-sig") as file:
            lines = file.read().splitlines(keepends=True)[int(named) :]
        cut = int(len(lines) > 1 and lines[-1][-1] not in "\r\n" and len(split_line(lines[-1])) < len(texts))
        if row:
            table = np.loadtxt(lines[: len(lines) - cut], delimiter=delimiter, usecols=places, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path}: not a readable table: {_line(error)}") from None
    order = range(4) if named else _order(path, table[:CHUNK])
    x, y, p, t = (table[:, place] for place in order)
    points = ["." in texts[places[place]] for place in order] if row else [False]
    return (x, y, p, t), has_fraction(t) or (points[-1] and not all(points)), cut


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _order(path: Path, rows: np.ndarray) -> tuple[int, int, int, int]:
    """Places of x, y, p, t in a table without names."""
    fitting = [order for place, order in ORDERS.items() if np.isin(rows[:, place], (-1, 0, 1)).all()]
    if len(fitting) != 1 and len(rows):
        raise ValueError(
            f"{path}: {'both' if fitting else 'neither'} of the last two columns could be the polarity, "
            "allowed: columns t, x, y, p or x, y, p, t, or names of the columns"
        )
    return fitting[0]
