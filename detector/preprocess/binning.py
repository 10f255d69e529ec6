"""Division of events into time bins, and the checks that all representations share."""

from typing import NamedTuple

import numpy as np

from detector.config.checks import require, require_choice
from detector.preprocess.kernels import is_sorted

__all__ = ["FLOATS", "Binned", "EventColumns", "check_output", "into_bins"]

EventColumns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

FLOATS = ("float16", "float32")
"""Dtypes of frames that contain the values that enter the network."""


class Binned(NamedTuple):
    """Events in order of time, divided into time bins.

    The columns are x and y uint16, p uint8, t int64. Bin k contains the times from `edges[k]` to `edges[k + 1] - 1` in
    microseconds. Its events are the events `bounds[k]` to `bounds[k + 1] - 1`.
    """

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    t: np.ndarray
    edges: np.ndarray
    bounds: np.ndarray

    def within(self, start: int, stop: int) -> EventColumns:
        """Return the columns x, y, p, t of the events `start` to `stop - 1`."""
        return self.x[start:stop], self.y[start:stop], self.p[start:stop], self.t[start:stop]

    def check(self, inside: bool, shape: tuple[int, ...], shift: int) -> None:
        """Raise a ValueError if `inside` is False. The message contains the range of the wrong x, y or p.

        Args:
            inside: result of a compiled loop: True if all events are inside the output.
            shape: shape (..., H, W) of the output.
            shift: exponent k; an output pixel covers 2^k x 2^k sensor pixels.
        """
        for name, end in (("x", shape[-1] << shift), ("y", shape[-2] << shift), ("p", 2)) if not inside else ():
            column = getattr(self, name)[self.bounds[0] : self.bounds[-1]]
            column = column.view(np.int8) if name == "p" else column
            if column.min() < 0 or column.max() >= end:
                raise ValueError(
                    f"xypt: {name} runs from {column.min()} to {column.max()}, "
                    f"allowed: 0 to {end - 1} for this output_array"
                )


def into_bins(xypt: np.ndarray | EventColumns, num_bins: int, total: int) -> Binned:
    """Divide events into equal time bins. Bin k contains times in [k * total / num_bins, (k + 1) * total / num_bins).

    Args:
        xypt: `EventCD` array or columns x, y, p, t, with t in microseconds from the start of the first bin. Not
            changed, and copied only if types or order must change.
        num_bins: number of bins.
        total: duration of all bins in microseconds.

    Raises:
        ValueError: a column does not contain integers, or contains coordinates or polarities that are never valid.
    """
    x, y, p, t = (xypt[name] for name in "xypt") if isinstance(xypt, np.ndarray) else xypt
    x, y, p = _unsigned("x", x, np.uint16), _unsigned("y", y, np.uint16), _unsigned("p", p, np.uint8)
    require(t.dtype.kind in "iu", "xypt: dtype of t", t.dtype.name, "whole numbers")
    t = np.ascontiguousarray(t, np.int64)
    if not is_sorted(t):
        order = np.argsort(t, kind="stable")
        x, y, p, t = x[order], y[order], p[order], t[order]
    # Edge k is the first whole t with t * num_bins >= k * total.
    edges = -(-np.arange(num_bins + 1, dtype=np.int64) * int(total) // num_bins)
    return Binned(x, y, p, t, edges, np.searchsorted(t, edges))


def check_output(
    output: np.ndarray, channels: int, total: int, shift: int, bound: float, counts: bool = False, signed: bool = False
) -> None:
    """Raise a ValueError if an argument of a representation, such as `histo`, is not allowed.

    The error names the first such argument.

    Args:
        output: argument `output_array`.
        channels: number of channels that the output must have.
        total: argument `total_tbins_delta_t`, in microseconds.
        shift: argument `downsampling_factor`.
        bound: argument `max_incr_per_pixel`.
        counts: whether an output of bytes contains counts up to `bound`. `bound` must then be a whole number for bytes.
        signed: whether values can be negative. An output of bytes must then be int8 instead of uint8.
    """
    shape_ok = output.ndim == 4 and output.shape[1] == channels and output.shape[0] > 0
    require(shape_ok, "output_array: shape", output.shape, f"(T, {channels}, H, W)")
    byte = np.dtype(np.int8 if signed else np.uint8)
    require_choice("output_array: dtype", output.dtype.name, (byte.name, *FLOATS))
    require(output[0].flags.c_contiguous, "output_array: strides", output.strides, "contiguous frames")
    require(total >= 1, "total_tbins_delta_t", total, "at least 1 microsecond")
    require(0 <= shift < 16, "downsampling_factor", shift, "0 to 15")
    if counts and output.dtype == byte:
        highest = int(np.iinfo(byte).max)
        fits, allowed = 1 <= bound <= highest and bound == int(bound), f"whole numbers from 1 to {highest} in {byte}"
    else:
        fits, allowed = 0 < bound <= 65535, "above 0, at most 65535"
    require(fits, "max_incr_per_pixel", bound, allowed)


def _unsigned(name: str, column: np.ndarray, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """Convert a column to an unsigned dtype. Raise a ValueError if the dtype cannot hold its values.

    A column whose item size is already right is not copied. Its negative numbers become high numbers, which later
    checks reject.
    """
    require(column.dtype.kind in "iub", f"xypt: dtype of {name}", column.dtype.name, "whole numbers")
    if column.dtype.itemsize == np.dtype(dtype).itemsize:
        return np.ascontiguousarray(column).view(dtype)
    highest = 1 if name == "p" else np.iinfo(dtype).max
    if column.size and (column.min() < 0 or column.max() > highest):
        raise ValueError(f"xypt: {name} runs from {column.min()} to {column.max()}, allowed: 0 to {highest}")
    return column.astype(dtype)
