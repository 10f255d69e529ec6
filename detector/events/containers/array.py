"""Reader of recordings whose events are four arrays. It is the base of the table readers and of custom formats."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.events.arrays import Columns
from detector.events.containers.chunked import BlockReader, has_fraction, to_microseconds
from detector.events.headers.sensor_size import sensor_size
from detector.events.reader import CHUNK

__all__ = ["ArrayReader"]


class ArrayReader(BlockReader):
    """A recording whose events are given as arrays, in memory or mapped from a file.

    It is the simplest way to support a custom format. A function reads the file into four arrays::

        def read_npz(path, height, width):
            with np.load(path) as file:
                return ArrayReader(path, (file["x"], file["y"], file["p"], file["t"]), height, width)

    If this function is in `mylab/formats.py`, the setting `data.event_format: mylab.formats:read_npz` selects it. The
    setting `data.event_columns` is passed if the function has an optional parameter `event_columns`.

    Args:
        path: path of the recording, for error messages.
        columns: x, y, p, t, each (N,) and of any numeric type. x and y are in pixels. p is 0 or -1 for OFF events and 1
            for ON events. t is in microseconds or seconds. Events outside the sensor or out of order count as faulty.
        height: sensor height in pixels.
        width: sensor width in pixels.
        seconds: whether t is in seconds and not in microseconds. If None, t is in seconds if any of the first 65536
            times has a fraction.
        truncated: 1 if the file ends within an event, otherwise 0. `columns` must not contain this event.

    Raises:
        ValueError: a sensor side is missing or out of range, or the columns have different shapes.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[np.ndarray],
        height: int | None,
        width: int | None,
        *,
        seconds: bool | None = None,
        truncated: int = 0,
    ) -> None:
        self._columns = [np.asarray(column) for column in columns]
        shapes = [column.shape for column in self._columns]
        if len(shapes) != 4 or len(set(shapes)) > 1 or len(shapes[0]) != 1:
            raise ValueError(f"{path}: columns have shapes {shapes}, allowed: x, y, p, t of one shape (N,)")
        super().__init__(path, *sensor_size(path, None, height, width), shapes[0][0], CHUNK)
        self._seconds = has_fraction(self._columns[3]) if seconds is None else seconds
        self._truncated = truncated

    def _load(self, start: int, out: Columns) -> None:
        *pixels, t = (column[start : start + out[0].size] for column in self._columns)
        self._store([*pixels, to_microseconds(self.path, t, self._seconds)], out)

    def _time(self, start: int) -> int:
        return int(to_microseconds(self.path, self._columns[3][start : start + 1], self._seconds)[0])

    def close(self) -> None:
        """Release the columns. Arrays that were read remain valid."""
        super().close()
        self._columns = [np.empty(0)] * 4
