"""Histograms of events: counts by pixel and polarity."""

import numpy as np

__all__ = ["histo"]

CHUNK = 1 << 14
"""Events whose pixel indices are computed at once: they stay in the processor's cache."""

EventColumns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def histo(
    xypt: np.ndarray | EventColumns,
    output_array: np.ndarray,
    total_tbins_delta_t: int,
    downsampling_factor: int = 0,
    reset: bool = True,
    max_incr_per_pixel: float = 5.0,
) -> None:
    """Count events by time bin, polarity and pixel.

    Bin k of T covers [k * total / T, (k + 1) * total / T); events outside [0, total) are dropped. Counts are clipped
    at `max_incr_per_pixel`: an integer output holds them as they are, a float output divided by the bound (0 to 1).

    Args:
        xypt: `EventCD` array or columns x, y, p, t; t in microseconds from the start of the first bin.
        output_array: (T, 2, H, W), filled in place; channel 0 counts OFF events, channel 1 ON events.
        total_tbins_delta_t: duration of all T bins in microseconds.
        downsampling_factor: k sums squares of 2^k x 2^k sensor pixels.
        reset: start from 0; otherwise add to what the array holds, by the same bound.
        max_incr_per_pixel: count at which a pixel saturates.

    Raises:
        ValueError: a shape or bound that does not fit, or an event outside the output.
    """
    _check_output(output_array, total_tbins_delta_t, downsampling_factor, max_incr_per_pixel)
    x, y, p, t = _by_time(xypt)
    bins, _, height, width = output_array.shape
    for name, column, end in (("x", x, width << downsampling_factor), ("y", y, height << downsampling_factor)):
        _check_range(name, column, end)
    _check_range("p", p, 2)
    # t * T >= k * total, solved for whole t.
    edges = np.array([-(-k * int(total_tbins_delta_t) // bins) for k in range(bins + 1)], np.int64)
    bounds = np.searchsorted(t, edges)
    counts = np.empty((2, height, width), np.uint32)
    for k in range(bins):
        events = slice(bounds[k], bounds[k + 1])
        _count(x[events], y[events], p[events], downsampling_factor, counts)
        _store(counts, output_array[k], reset, max_incr_per_pixel)


def _count(x: np.ndarray, y: np.ndarray, p: np.ndarray, shift: int, counts: np.ndarray) -> None:
    """Fill `counts` (2, H, W) from the events of one bin."""
    _, height, width = counts.shape
    counts[:] = 0
    flat = counts.reshape(-1)
    one = counts.dtype.type(1)
    for start in range(0, x.size, CHUNK):
        part = slice(start, start + CHUNK)
        # 32-bit arithmetic is twice as fast as 64-bit; only the indices themselves must be 64-bit.
        index = p[part].astype(np.int32)
        index *= np.int32(height)
        index += y[part].astype(np.int32) >> shift
        index *= np.int32(width)
        index += x[part].astype(np.int32) >> shift
        np.add.at(flat, index.astype(np.intp), one)


def _store(counts: np.ndarray, frame: np.ndarray, reset: bool, bound: float) -> None:
    """Write clipped counts into `frame` (2, H, W) in its own scale."""
    if frame.dtype.kind != "f":
        total = counts if reset else counts + frame
        np.minimum(total, np.uint32(bound), out=frame, casting="unsafe")
    else:
        scaled = counts.astype(np.float32)
        scaled /= bound
        np.minimum(scaled if reset else scaled + frame, 1, out=frame)


def _check_output(output: np.ndarray, total: int, shift: int, bound: float) -> None:
    if output.ndim != 4 or output.shape[1] != 2 or output.shape[0] == 0:
        raise ValueError(f"output_array: got shape {output.shape}, allowed: (T, 2, H, W)")
    if output.dtype.kind not in "uif":
        raise ValueError(f"output_array: got dtype {output.dtype}, allowed: integers and floats")
    if total < 1:
        raise ValueError(f"total_tbins_delta_t: got {total}, allowed: at least 1 microsecond")
    if shift < 0:
        raise ValueError(f"downsampling_factor: got {shift}, allowed: at least 0")
    if output.dtype.kind == "f":
        fits, allowed = 0 < bound < np.inf, "finite and above 0"
    else:
        highest = int(np.iinfo(output.dtype).max)
        fits, allowed = (
            1 <= bound <= highest and bound == int(bound),
            f"whole numbers from 1 to {highest} in {output.dtype}",
        )
    if not fits:
        raise ValueError(f"max_incr_per_pixel: got {bound}, allowed: {allowed}")


def _by_time(xypt: np.ndarray | EventColumns) -> EventColumns:
    """The columns in order of time: bins are found by bisection."""
    x, y, p, t = (xypt[name] for name in "xypt") if isinstance(xypt, np.ndarray) else xypt
    if bool((t[1:] >= t[:-1]).all()):
        return x, y, p, t
    order = np.argsort(t, kind="stable")
    return x[order], y[order], p[order], t[order]


def _check_range(name: str, values: np.ndarray, end: int) -> None:
    if values.size and (values.max() >= end or (values.dtype.kind != "u" and values.min() < 0)):
        raise ValueError(
            f"xypt: {name} runs from {values.min()} to {values.max()}, allowed: 0 to {end - 1} for this output_array"
        )
