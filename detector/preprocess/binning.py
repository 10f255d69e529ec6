"""Events by time bin, and the checks that all representations share."""

from typing import NamedTuple

import numpy as np

from detector.preprocess.kernels import is_sorted

__all__ = ["Binned", "EventColumns", "check_output", "into_bins"]

EventColumns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

FLOATS = ("float16", "float32")


class Binned(NamedTuple):
    """Columns in order of time: x and y uint16, p uint8, t int64.

    Bin k covers the whole microseconds `edges[k]` to `edges[k + 1] - 1` and holds the events `bounds[k]` to
    `bounds[k + 1] - 1`.
    """

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    t: np.ndarray
    edges: np.ndarray
    bounds: np.ndarray

    def within(self, start: int, stop: int) -> EventColumns:
        """Columns of the events `start` to `stop - 1`."""
        return self.x[start:stop], self.y[start:stop], self.p[start:stop], self.t[start:stop]

    def check(self, inside: bool, shape: tuple[int, ...], shift: int) -> None:
        """Raise an error that tells where events lie, if they do not lie inside frames (..., H, W)."""
        for name, end in (("x", shape[-1] << shift), ("y", shape[-2] << shift), ("p", 2)) if not inside else ():
            column = getattr(self, name)[self.bounds[0] : self.bounds[-1]]
            column = column.view(np.int8) if name == "p" else column
            if column.min() < 0 or column.max() >= end:
                raise ValueError(
                    f"xypt: {name} runs from {column.min()} to {column.max()}, "
                    f"allowed: 0 to {end - 1} for this output_array"
                )


def into_bins(xypt: np.ndarray | EventColumns, num_bins: int, total: int) -> Binned:
    """Sort events into equal time bins: bin k covers [k * total / num_bins, (k + 1) * total / num_bins).

    Args:
        xypt: `EventCD` array or columns x, y, p, t; not changed, copied only where its types or order differ.
        num_bins: number of bins.
        total: duration of all bins in microseconds.

    Raises:
        ValueError: columns that hold no whole numbers, or some that no sensor has.
    """
    x, y, p, t = (xypt[name] for name in "xypt") if isinstance(xypt, np.ndarray) else xypt
    x, y, p = _unsigned("x", x, np.uint16), _unsigned("y", y, np.uint16), _unsigned("p", p, np.uint8)
    if t.dtype.kind not in "iu":
        raise ValueError(f"xypt: t has dtype {t.dtype}, allowed: whole numbers")
    t = np.ascontiguousarray(t, np.int64)
    if not is_sorted(t):
        order = np.argsort(t, kind="stable")
        x, y, p, t = x[order], y[order], p[order], t[order]
    # t * num_bins >= k * total, solved for whole t.
    edges = -(-np.arange(num_bins + 1, dtype=np.int64) * int(total) // num_bins)
    return Binned(x, y, p, t, edges, np.searchsorted(t, edges))


def check_output(
    output: np.ndarray, channels: int, total: int, shift: int, bound: float, counts: bool = False, signed: bool = False
) -> None:
    """Raise a `ValueError` that names the argument of a representation that does not fit.

    Args:
        output: `output_array`.
        channels: what the representation has.
        total: `total_tbins_delta_t`.
        shift: `downsampling_factor`.
        bound: `max_incr_per_pixel`.
        counts: whether bytes hold counts up to the bound, which must then be whole.
        signed: whether values can be negative, so that bytes must be int8 instead of uint8.
    """
    if output.ndim != 4 or output.shape[1] != channels or output.shape[0] == 0:
        raise ValueError(f"output_array: got shape {output.shape}, allowed: (T, {channels}, H, W)")
    byte = np.dtype(np.int8 if signed else np.uint8)
    if output.dtype.name not in (byte.name, *FLOATS):
        raise ValueError(f"output_array: got dtype {output.dtype}, allowed: {', '.join((byte.name, *FLOATS))}")
    if not output[0].flags.c_contiguous:
        raise ValueError("output_array: got frames whose values lie apart in memory, allowed: contiguous frames")
    if total < 1:
        raise ValueError(f"total_tbins_delta_t: got {total}, allowed: at least 1 microsecond")
    if not 0 <= shift < 16:
        raise ValueError(f"downsampling_factor: got {shift}, allowed: 0 to 15")
    if counts and output.dtype == byte:
        highest = int(np.iinfo(byte).max)
        fits, allowed = 1 <= bound <= highest and bound == int(bound), f"whole numbers from 1 to {highest} in {byte}"
    else:
        fits, allowed = 0 < bound <= 65535, "above 0, at most 65535"
    if not fits:
        raise ValueError(f"max_incr_per_pixel: got {bound}, allowed: {allowed}")


def _unsigned(name: str, column: np.ndarray, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """The column in a type without sign; in one of the same size a negative number becomes one that is too high."""
    if column.dtype.kind not in "iub":
        raise ValueError(f"xypt: {name} has dtype {column.dtype}, allowed: whole numbers")
    if column.dtype.itemsize == np.dtype(dtype).itemsize:
        return np.ascontiguousarray(column).view(dtype)
    highest = 1 if name == "p" else np.iinfo(dtype).max
    if column.size and (column.min() < 0 or column.max() > highest):
        raise ValueError(f"xypt: {name} runs from {column.min()} to {column.max()}, allowed: 0 to {highest}")
    return column.astype(dtype)
