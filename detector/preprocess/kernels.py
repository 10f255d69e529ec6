"""Compiled loops over events and frames.

They are in one module because the compiler's cache only notices changes of a function's own file. Loops over events
return whether all events are inside the frame and have a polarity of 0 or 1; they stop at the first chunk in which one
is not.
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
"""Number of events whose pixels are found at once: they stay in the L1 cache."""


@compiled
def is_sorted(times: np.ndarray) -> bool:
    """Whether times never decrease."""
    falls = 0
    for i in range(1, times.size):
        falls += times[i] < times[i - 1]
    return falls == 0


@compiled
def highest(column: np.ndarray) -> int:
    """Maximum of unsigned numbers; 0 for an empty column."""
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
    """Fill `index` (uint32) with the index of each event's pixel in the flat frame.

    Args:
        x: column in sensor pixels.
        y: row in sensor pixels.
        p: polarity.
        shift: `downsampling_factor`.
        height: rows of a frame.
        width: columns of a frame.
        plane: distance between the pixels of OFF and ON events; 0 for one plane of both.
        index: output, at least as long as x.

    Returns:
        Whether all events are inside the frame; `index` is only filled if they are.
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
        x, y, p: columns of the events.
        bounds: micro-bin j has the events `bounds[j]` to `bounds[j + 1] - 1`.
        shift: `downsampling_factor`.
        bound: count at which a pixel saturates, of the type of `counts`.
        clear: whether to start from 0; otherwise events are added to `counts`.
        counts: (2 * micro-bins, H, W) output; micro-bin j of OFF events is plane j, that of ON events bins + j.
    """
    bins, height, width = bounds.size - 1, counts.shape[1], counts.shape[2]
    plane = height * width
    flat = counts.reshape(-1)
    index = np.empty(CHUNK, np.uint32)
    for j in range(bins):
        # 1. Take the two planes of a micro-bin: that of ON events begins `bins` planes after that of OFF events.
        live = flat[j * plane :]
        if clear:
            live[:plane] = 0
            live[bins * plane : (bins + 1) * plane] = 0
        # 2. Find the pixels of a chunk of events, then count: the indices are still in the cache.
        for start in range(bounds[j], bounds[j + 1], CHUNK):
            part = slice(start, min(start + CHUNK, bounds[j + 1]))
            if not pixel_index(x[part], y[part], p[part], shift, height, width, bins * plane, index):
                return False
            add(index[: part.stop - start], live, bound)
    return True


@compiled
def add(index: np.ndarray, counts: np.ndarray, bound: np.unsignedinteger) -> None:
    """Add 1 to the counts at `index` that are below the bound. A bound of the type of the counts saves a fifth."""
    # 1. Four events at a time: the compiler cannot move the read of an index before a write to the counts.
    whole = index.size - index.size % 4
    for i in range(0, whole, 4):
        first, second = np.uint64(index[i]), np.uint64(index[i + 1])
        third, fourth = np.uint64(index[i + 2]), np.uint64(index[i + 3])
        counts[first] += np.uint8(counts[first] < bound)  # a branch here would cost a third
        counts[second] += np.uint8(counts[second] < bound)
        counts[third] += np.uint8(counts[third] < bound)
        counts[fourth] += np.uint8(counts[fourth] < bound)
    # 2. The remaining events.
    for i in range(whole, index.size):
        pixel = np.uint64(index[i])
        counts[pixel] += np.uint8(counts[pixel] < bound)


@compiled
def divide(counts: np.ndarray, frame: np.ndarray, bound: np.float32) -> None:
    """Write counts / bound, clipped to 1."""
    one = np.float32(1)
    for i in range(counts.size):
        value = np.float32(counts[i]) / bound
        frame[i] = value if value < one else one


@compiled
def subtract(x: np.ndarray, y: np.ndarray, p: np.ndarray, shift: int, net: np.ndarray) -> bool:
    """Add 1 for each ON event and subtract 1 for each OFF event at its pixel of `net` (1, H, W)."""
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
    """Write the time of each event over that of earlier events at its pixel.

    Args:
        x, y, p, t: columns of the events of one micro-bin.
        shift: `downsampling_factor`.
        first: first microsecond of the micro-bin.
        duration: its length in microseconds.
        levels: 0 writes times as fractions, above 0 to 1; otherwise as whole numbers from 1 to `levels`, rounded up.
        surface: (2, H, W) frame to write to.
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
                # 2. Times ascend: a level is valid until the time `until`, and is only then computed again.
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
    """Add the weight w of each event to `following` and 1 - w to `previous`, with a negative sign for OFF if P = 1.

    Args:
        x, y, p, t: columns of the events between two edges, where w is linear in time.
        start: time at which w is `weight`.
        weight: w at `start`.
        per_us: growth of w per microsecond.
        shift: `downsampling_factor`.
        previous: (P, H, W) sums of the earlier micro-bin.
        following: (P, H, W) sums of the later micro-bin.
    """
    # 1. Signs: +1 for both polarities in two planes, -1 and +1 in one plane.
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
    """Write sums * gain, clipped to +- highest and rounded if `whole`, and set the sums to 0."""
    half = np.float32(0.5)
    for i in range(sums.size):
        value = sums[i] * gain
        value = value if value < highest else highest
        value = value if value > -highest else -highest
        plane[i] = np.floor(value + half) if whole else value
        sums[i] = 0
