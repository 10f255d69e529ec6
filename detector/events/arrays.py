"""Events as four separate arrays x, y, p, t, and a reusable buffer for such arrays."""

import numpy as np

__all__ = ["DTYPES", "ColumnBuffer", "Columns", "join", "slice_columns"]

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Events as arrays x uint16, y uint16, p int8, t int64, each (N,)."""

DTYPES = (np.uint16, np.uint16, np.int8, np.int64)


def slice_columns(columns: Columns, start: int, stop: int) -> Columns:
    """Return views of the events `start` to `stop - 1`, without a copy."""
    x, y, p, t = columns
    return x[start:stop], y[start:stop], p[start:stop], t[start:stop]


def join(first: Columns, second: Columns) -> Columns:
    """Concatenate the events of `first` and `second` into new arrays."""
    x, y, p, t = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    return x, y, p, t


class ColumnBuffer:
    """Reusable arrays x, y, p, t for the events of successive reads. New arrays would take more time than decoding.

    The buffer grows as needed and never shrinks. The next read into the buffer overwrites its content.
    """

    def __init__(self) -> None:
        self._columns: Columns = tuple(np.empty(0, dtype) for dtype in DTYPES)  # type: ignore[assignment]

    def take(self, count: int, keep: int = 0) -> Columns:
        """Return views x, y, p, t of the first `count` elements of the buffer, for the caller to fill.

        Args:
            count: length of the views. A large length is cheap, because the system allocates memory only where it is
                written.
            keep: number of elements at the beginning that keep their values. The values of the others are undefined.
        """
        if count > self._columns[0].size:
            kept = [column[:keep] for column in self._columns]
            size = max(count, self._columns[0].size * 3 // 2) if keep else count
            self._columns = tuple(np.empty(size, dtype) for dtype in DTYPES)  # type: ignore[assignment]
            for column, old in zip(self._columns, kept, strict=True):
                column[:keep] = old
        return slice_columns(self._columns, 0, count)
