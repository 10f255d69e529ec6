"""Readers of event tables in NPY and CSV files. These files do not contain the sensor size.

An NPY file contains records with fields x, y, p, t, or an (N, 4) array of numbers. A CSV file contains one event per
line, with numbers that are separated by commas, semicolons or blanks. The first line may contain the names of the
columns. Lines that begin with # are comments.

A table without names has the columns t, x, y, p or x, y, p, t. The polarity is the one of the last two columns that
contains only -1, 0 and 1.

Times are seconds if any of the first 65536 times has a fraction, otherwise microseconds. Times in a CSV file are also
seconds if they are written with a decimal point and another column is not.
"""

import math
from pathlib import Path

import numpy as np

from detector.events.containers.array import ArrayReader
from detector.events.containers.chunked import find_names, has_fraction
from detector.events.header import sensor_size, split_line
from detector.events.reader import CHUNK

__all__ = ["CsvReader", "NpyReader"]

ORDERS = {3: (1, 2, 3, 0), 2: (0, 1, 2, 3)}
"""For each possible position of p in a table without names, the positions of x, y, p, t."""


class NpyReader(ArrayReader):
    """Reads NPY files of events, which are mapped into memory.

    Args:
        path: path of the recording.
        height: sensor height in pixels.
        width: sensor width in pixels.

    Raises:
        ValueError: the file is broken, its columns cannot be identified, or the height or width is missing.
    """

    def __init__(self, path: Path, height: int | None = None, width: int | None = None) -> None:
        columns, truncated = _map_npy(path)
        super().__init__(path, columns, height, width, truncated=truncated)


class CsvReader(ArrayReader):
    """Reads CSV files of events. The constructor reads the whole file.

    Args:
        path: path of the recording.
        height: sensor height in pixels.
        width: sensor width in pixels.

    Raises:
        ValueError: the file is broken, its columns cannot be identified, or the height or width is missing.
    """

    def __init__(self, path: Path, height: int | None = None, width: int | None = None) -> None:
        sensor_size(path, None, height, width)  # checked before the text is read, which takes long
        columns, seconds, truncated = _read_csv(path)
        super().__init__(path, columns, height, width, seconds=seconds, truncated=truncated)


def _map_npy(path: Path) -> tuple[list[np.ndarray], int]:
    """Map an NPY file into memory.

    Returns:
        A list of the columns x, y, p, t; 1 if the file ends within an event, otherwise 0.
    """
    try:
        array, truncated = _load_npy(path)
    except Exception as error:  # numpy and Python may raise any error for a damaged header
        raise ValueError(f"{path}: not a readable NPY file: {_line(error)}") from None
    if array.dtype.names and array.ndim == 1:
        return [array[name] for name in find_names(path, array.dtype.names)], truncated
    if array.ndim == 2 and array.shape[1] == 4 and array.dtype.kind in "iuf":
        return [array[:, place] for place in _order(path, array[:CHUNK])], truncated
    raise ValueError(
        f"{path}: {array.dtype} of shape {array.shape}, allowed: (N,) records with fields x, y, p, t or (N, 4) numbers"
    )


def _load_npy(path: Path) -> tuple[np.ndarray, int]:
    """Map the array of an NPY file into memory. Return the array, and 1 if the file is truncated, otherwise 0.

    The array of a truncated file contains only the complete rows.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(file)
        start, size = file.tell(), path.stat().st_size
    row = math.prod(shape[1:]) * dtype.itemsize
    truncated = len(shape) > 0 and not dtype.hasobject and not by_columns and 0 < size - start < shape[0] * row
    if not truncated:
        return np.load(path, mmap_mode="r", allow_pickle=False), 0
    return np.memmap(path, dtype, "r", start, ((size - start) // row, *shape[1:])), 1


def _read_csv(path: Path) -> tuple[list[np.ndarray], bool, int]:
    """Read a CSV file.

    Returns:
        A list of the columns x, y, p, t; True if the times are in seconds; 1 if the last line is truncated, otherwise
        0.
    """
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
        truncated = int(len(lines) > 1 and lines[-1][-1] not in "\r\n" and len(split_line(lines[-1])) < len(texts))
        if row:
            table = np.loadtxt(lines[: len(lines) - truncated], delimiter=delimiter, usecols=places, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path}: not a readable table: {_line(error)}") from None
    order = range(4) if named else _order(path, table[:CHUNK])
    columns = [table[:, place] for place in order]
    points = ["." in texts[places[place]] for place in order] if row else [False]
    return columns, has_fraction(columns[3]) or (points[-1] and not all(points)), truncated


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _order(path: Path, rows: np.ndarray) -> tuple[int, int, int, int]:
    """Return the positions of x, y, p, t in a table without column names, from the values in its first rows.

    The polarity p is the one of the last two columns that contains only -1, 0 and 1.

    Raises:
        ValueError: both or neither of the last two columns could be the polarity.
    """
    fitting = [order for place, order in ORDERS.items() if np.isin(rows[:, place], (-1, 0, 1)).all()]
    if len(fitting) != 1 and len(rows):
        raise ValueError(
            f"{path}: {'both' if fitting else 'neither'} of the last two columns could be the polarity, "
            "allowed: columns t, x, y, p or x, y, p, t, or names of the columns"
        )
    return fitting[0]
