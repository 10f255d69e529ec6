"""Compiled loops over events and frames.

All loops are in one module, because the cache of the compiler does not notice changes in other files. Loops over events
return True if all events are inside the frame and have a polarity of 0 or 1. Otherwise, they stop at the first chunk
with a wrong event and return False.
"""

import numpy as np

from detector.utils.compiled import compiled

__all__ = [
    "CHUNK",
    "add",
    "clip",
    "count",
    "divide",
    "highest",
    "is_sorted",
    "mark",
    "pixel_index",
    "share",
    "subtract",
]

CHUNK = 1 << 11
"""Number of events whose pixel indices are computed at once. The indices stay in the L1 cache."""


@compiled
def is_sorted(times: np.ndarray) -> bool:
    """Return True if times never decrease."""
    falls = 0
    for i in range(1, times.size):
        falls += times[i] < times[i - 1]
    return falls == 0


@compiled
def highest(column: np.ndarray) -> int:
    """Return the maximum of unsigned numbers, or 0 for an empty column."""
    best = column.dtype.type(0)
    for i in range(column.size):
        value = column[i]
        best = value if value > best else best
    return best


@compiled
def pixel_index(
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    shift: int,
    height: int,
    width: int,
    plane: int,
    index: np.ndarray,
) -> bool:
    """Compute the index of each event's pixel in the flattened frame.

    Args:
        x: (N,) columns in sensor pixels.
        y: (N,) rows in sensor pixels.
        p: (N,) polarities.
        shift: exponent k; a frame pixel covers 2^k x 2^k sensor pixels.
        height: rows of a frame.
        width: columns of a frame.
        plane: offset from the pixel of OFF events to the pixel of ON events; 0 if both share one plane.
        index: uint32 output with at least N elements.

    Returns:
        True if all events are inside the frame and have polarity 0 or 1. `index` is only filled in this case.
    """
    if highest(x) >= width << shift or highest(y) >= height << shift or highest(p) > 1:
        return False
    shift32, width32, plane32 = np.uint32(shift), np.uint32(width), np.uint32(plane)
    for i in range(x.size):
        column, row, polarity = np.uint32(x[i]), np.uint32(y[i]), np.uint32(p[i])
        index[i] = polarity * plane32 + (row >> shift32) * width32 + (column >> shift32)
    return True


@compiled
def count(
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    bounds: np.ndarray,
    shift: int,
    bound: np.unsignedinteger,
    clear: bool,
    counts: np.ndarray,
) -> bool:
    """Count events by micro-bin, polarity and pixel.

    Args:
        x, y, p: (N,) columns of the events.
        bounds: (B + 1,) indices; micro-bin j contains the events `bounds[j]` to `bounds[j + 1] - 1`.
        shift: exponent k; a frame pixel covers 2^k x 2^k sensor pixels.
        bound: count at which a pixel saturates, in the dtype of `counts`.
        clear: whether to start from 0; otherwise events are added to `counts`.
        counts: (2 * B, H, W) output for B micro-bins. Plane j has the OFF events of micro-bin j, plane B + j its ON
            events.

    Returns:
        True if all events are inside the frame and have polarity 0 or 1.
    """
    bins, height, width = bounds.size - 1, counts.shape[1], counts.shape[2]
    plane = height * width
    flat = counts.reshape(-1)
    index = np.empty(CHUNK, np.uint32)
    for j in range(bins):
        # 1. Select both planes of a micro-bin. The plane of ON events is `bins` planes after the plane of OFF events.
        live = flat[j * plane :]
        if clear:
            live[:plane] = 0
            live[bins * plane : (bins + 1) * plane] = 0
        # 2. Find the pixels of a chunk of events, then count them while the indices are in the cache.
        for start in range(bounds[j], bounds[j + 1], CHUNK):
            part = slice(start, min(start + CHUNK, bounds[j + 1]))
            if not pixel_index(x[part], y[part], p[part], shift, height, width, bins * plane, index):
                return False
            add(index[: part.stop - start], live, bound)
    return True


@compiled
def add(index: np.ndarray, counts: np.ndarray, bound: np.unsignedinteger) -> None:
    """For each element i of `index`, add 1 to `counts[i]`, unless `counts[i]` has reached `bound`.

    A bound in the dtype of `counts` saves a fifth of the time.
    """
    # 1. Read four indices at a time. The compiler cannot move the read of an index before a write to the counts.
    whole = index.size - index.size % 4
    for i in range(0, whole, 4):
        first, second = np.uint64(index[i]), np.uint64(index[i + 1])
        third, fourth = np.uint64(index[i + 2]), np.uint64(index[i + 3])
        counts[first] += np.uint8(counts[first] < bound)  # a branch here would be slower by a third
        counts[second] += np.uint8(counts[second] < bound)
        counts[third] += np.uint8(counts[third] < bound)
        counts[fourth] += np.uint8(counts[fourth] < bound)
    # 2. The remaining events.
    for i in range(whole, index.size):
        pixel = np.uint64(index[i])
        counts[pixel] += np.uint8(counts[pixel] < bound)


@compiled
def divide(counts: np.ndarray, frame: np.ndarray, bound: np.float32) -> None:
    """Write counts / bound, clipped to 1, into `frame`."""
    one = np.float32(1)
    for i in range(counts.size):
        value = np.float32(counts[i]) / bound
        frame[i] = value if value < one else one


@compiled
def subtract(x: np.ndarray, y: np.ndarray, p: np.ndarray, shift: int, net: np.ndarray) -> bool:
    """Add 1 to the pixel of each ON event and subtract 1 from the pixel of each OFF event.

    Args:
        x, y, p: (N,) columns of the events.
        shift: exponent k; a frame pixel covers 2^k x 2^k sensor pixels.
        net: (1, H, W) sums, updated in place.

    Returns:
        True if all events are inside the frame and have polarity 0 or 1.
    """
    flat = net.reshape(-1)
    index = np.empty(CHUNK, np.uint32)
    for start in range(0, x.size, CHUNK):
        signs = p[start : start + CHUNK]
        xs, ys = x[start : start + CHUNK], y[start : start + CHUNK]
        if not pixel_index(xs, ys, signs, shift, net.shape[1], net.shape[2], 0, index):
            return False
        for i in range(signs.size):
            flat[np.uint64(index[i])] += 2 * np.int32(signs[i]) - 1
    return True


@compiled
def mark(
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    t: np.ndarray,
    shift: int,
    first: int,
    duration: int,
    levels: int,
    surface: np.ndarray,
) -> bool:
    """Write the time of each event to its pixel. A later event overwrites an earlier one.

    Args:
        x, y, p, t: (N,) columns of the events of one micro-bin, in order of time.
        shift: exponent k; a frame pixel covers 2^k x 2^k sensor pixels.
        first: first microsecond of the micro-bin.
        duration: length of the micro-bin in microseconds.
        levels: if 0, times are written as fractions of the duration, above 0 up to 1. Otherwise, times are written as
            whole numbers from 1 to `levels`, rounded up.
        surface: (2, H, W) output, first plane OFF, second plane ON.

    Returns:
        True if all events are inside the frame and have polarity 0 or 1.
    """
    flat = surface.reshape(-1)
    height, width = surface.shape[1], surface.shape[2]
    index = np.empty(CHUNK, np.uint32)
    scale = np.float32(duration)
    level, until = 0, first
    for start in range(0, x.size, CHUNK):
        # 1. Find the pixels of a chunk of events; stop at events outside the frame.
        part = slice(start, min(start + CHUNK, x.size))
        if not pixel_index(x[part], y[part], p[part], shift, height, width, height * width, index):
            return False
        times = t[part]
        for i in range(times.size):
            if levels > 0:
                # 2. Times ascend, so a level is valid until the time `until` and computed again only then.
                if times[i] >= until:
                    level = (levels * (times[i] - first + 1) + duration - 1) // duration
                    until = first + level * duration // levels
                flat[np.uint64(index[i])] = level
            else:
                # 3. Fractions are computed for each event.
                flat[np.uint64(index[i])] = np.float32(times[i] - first + 1) / scale
    return True


@compiled
def share(
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    t: np.ndarray,
    start: int,
    weight: np.float32,
    per_us: np.float32,
    shift: int,
    previous: np.ndarray,
    following: np.ndarray,
) -> bool:
    """Divide each event between two micro-bins: add a weight w to `following` and 1 - w to `previous`.

    The weight is a linear function of time: w = weight + (t - start) * per_us. With P = 2, OFF and ON events have
    separate planes. With P = 1, the weights of OFF events are negative.

    Args:
        x, y, p, t: (N,) columns of the events.
        start: time in microseconds at which w is `weight`.
        weight: w at the time `start`.
        per_us: growth of w per microsecond.
        shift: exponent k; a frame pixel covers 2^k x 2^k sensor pixels.
        previous: (P, H, W) sums of the earlier micro-bin.
        following: (P, H, W) sums of the later micro-bin.

    Returns:
        True if all events are inside the frame and have polarity 0 or 1.
    """
    # 1. With two planes, both polarities have the sign +1. With one plane, OFF events have -1 and ON events +1.
    height, width = previous.shape[1], previous.shape[2]
    plane = height * width if previous.shape[0] == 2 else 0
    left, right = previous.reshape(-1), following.reshape(-1)
    index = np.empty(CHUNK, np.uint32)
    off = np.float32(1 if plane else -1)
    growth = np.float32(1) - off
    for first in range(0, x.size, CHUNK):
        # 2. Find the pixels of a chunk of events.
        part = slice(first, min(first + CHUNK, x.size))
        if not pixel_index(x[part], y[part], p[part], shift, height, width, plane, index):
            return False
        # 3. Divide each event between the two micro-bins.
        times, signs = t[part], p[part]
        for i in range(times.size):
            pixel = np.uint64(index[i])
            sign = off + growth * np.float32(signs[i])
            part_of_following = (weight + np.float32(times[i] - start) * per_us) * sign
            left[pixel] += sign - part_of_following
            right[pixel] += part_of_following
    return True


@compiled
def clip(sums: np.ndarray, plane: np.ndarray, gain: np.float32, highest: np.float32, whole: bool) -> None:
    """Write sums * gain to `plane`, clipped to +- highest. Then set the sums to 0.

    If `whole` is True, the written values are rounded.
    """
    half = np.float32(0.5)
    for i in range(sums.size):
        value = sums[i] * gain
        value = value if value < highest else highest
        value = value if value > -highest else -highest
        plane[i] = np.floor(value + half) if whole else value
        sums[i] = 0
