"""Reader of event arrays in NPY files: records with fields x, y, p, t, or an (N, 4) array of numbers.

These files do not contain the sensor size. Times are seconds if any of the first 65536 times has a fraction, otherwise
microseconds.
"""

import math
from pathlib import Path

import numpy as np

from detector.events.containers.array import ArrayReader
from detector.events.containers.column_order import check_names, find_order
from detector.events.headers.column_names import find_names
from detector.events.headers.file_kinds import unreadable
from detector.events.headers.header import has_signature
from detector.events.headers.sensor_size import sensor_size

__all__ = ["NpyReader", "event_columns_of"]


class NpyReader(ArrayReader):
    """Reads NPY files of events, which are mapped into memory.

    Args:
        path: path of the recording.
        height: sensor height in pixels.
        width: sensor width in pixels.
        event_columns: order of the columns of an (N, 4) array, such as "t,x,y,p"; None to use the values.

    Raises:
        ValueError: the file is broken, its columns cannot be identified, or the height or width is missing.
    """

    def __init__(
        self, path: Path, height: int | None = None, width: int | None = None, event_columns: str | None = None
    ) -> None:
        if not has_signature(path, "NPY"):
            raise unreadable(path, "not a readable NPY file")
        size = sensor_size(path, None, height, width)
        try:
            array, truncated = _load_npy(path)
        except Exception as error:  # numpy and Python may raise any error for a damaged header
            reason = " ".join(str(error).split())
            raise ValueError(f"{path}: not a readable NPY file: {reason}") from None
        super().__init__(path, event_columns_of(path, array, size, event_columns), *size, truncated=truncated)


def event_columns_of(
    source: object, array: np.ndarray, size: tuple[int, int], event_columns: str | None
) -> list[np.ndarray]:
    """Return the columns x, y, p, t of an array of events.

    Args:
        source: the file, named in error messages.
        array: (N,) records, or an (N, 4) array of numbers.
        size: height and width of the sensor in pixels.
        event_columns: order of the columns of an (N, 4) array; None to use the values.

    Raises:
        ValueError: the array has another shape or type, or its columns cannot be identified.
    """
    if array.dtype.names and array.ndim == 1:
        names = find_names(source, array.dtype.names)
        check_names(source, array.dtype.names, event_columns)
        return [array[name] for name in names]
    if array.ndim == 2 and array.dtype.kind in "iuf" and (array.shape[1] == 4 or event_columns is not None):
        return [array[:, place] for place in find_order(source, array, size, event_columns)]
    raise ValueError(
        f"{source}: {array.dtype} of shape {array.shape}, allowed: (N,) records with fields x, y, p, t or (N, 4) "
        "numbers"
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
