"""Events as separate arrays, and memory for them that is used again."""

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
    """The events of both, in memory of their own."""
    x, y, p, t = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    return x, y, p, t


class ColumnBuffer:
    """Memory that readings of events share: fresh arrays cost more than decoding does.

    It grows as needed and never shrinks. What was read into it is valid until the next reading into it.
    """

    def __init__(self) -> None:
        self._columns: Columns = tuple(np.empty(0, dtype) for dtype in DTYPES)  # type: ignore[assignment]

    def take(self, count: int, keep: int = 0) -> Columns:
        """Columns x, y, p, t of length `count`, with whatever they held before.

        Args:
            count: length asked for. Memory beyond what is written to is never taken from the system.
            keep: events at the beginning that stay what they were, whether memory has to grow or not.
        """
        if count > self._columns[0].size:
            kept = [column[:keep] for column in self._columns]
            size = max(count, self._columns[0].size * 3 // 2) if keep else count
            self._columns = tuple(np.empty(size, dtype) for dtype in DTYPES)  # type: ignore[assignment]
            for column, old in zip(self._columns, kept, strict=True):
                column[:keep] = old
        x, y, p, t = self._columns
        return x[:count], y[:count], p[:count], t[:count]
