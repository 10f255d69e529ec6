"""Events as separate arrays, and a reusable buffer for them."""

import numpy as np

__all__ = ["DTYPES", "ColumnBuffer", "Columns", "cut", "join"]

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""x uint16, y uint16, p int8, t int64, each (N,)."""

DTYPES = (np.uint16, np.uint16, np.int8, np.int64)


def cut(columns: Columns, start: int, stop: int) -> Columns:
    """Events [start, stop), without a copy."""
    x, y, p, t = columns
    return x[start:stop], y[start:stop], p[start:stop], t[start:stop]


def join(first: Columns, second: Columns) -> Columns:
    """The events of both, in new arrays."""
    x, y, p, t = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    return x, y, p, t


class ColumnBuffer:
    """A buffer that several readings of events share, because new arrays cost more time than decoding.

    It grows as needed and never shrinks. Its content is valid until the next reading into it.
    """

    def __init__(self) -> None:
        self._columns: Columns = tuple(np.empty(0, dtype) for dtype in DTYPES)  # type: ignore[assignment]

    def take(self, count: int, keep: int = 0) -> Columns:
        """Columns x, y, p, t of length `count`, with undefined content after the first `keep` events.

        Args:
            count: length of the columns. The system provides memory only for the part that is written to.
            keep: number of events at the beginning that are preserved, also if the buffer grows.
        """
        if count > self._columns[0].size:
            kept = [column[:keep] for column in self._columns]
            size = max(count, self._columns[0].size * 3 // 2) if keep else count
            self._columns = tuple(np.empty(size, dtype) for dtype in DTYPES)  # type: ignore[assignment]
            for column, old in zip(self._columns, kept, strict=True):
                column[:keep] = old
        return cut(self._columns, 0, count)
