"""Compiled loops over events and frames.

They stand in one module because the compiler's cache notices a change of a function's own file only. Those over events
return whether all lie inside the frame and have a polarity of 0 or 1; they stop at those that do not.
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
    "mark_levels",
    "mark_times",
    "pixel_index",
    "round_off",
    "share",
    "subtract",
]

CHUNK = 1 << 11
"""Events whose pixels are found at once: they stay in the processor's nearest cache."""


@compiled
def is_sorted(times: np.ndarray) -> bool:
    """Whether no time is before the one that comes before it."""
    falls = 0
    for i in range(1, times.size):
        falls += times[i] < times[i - 1]
    return falls == 0


@compiled
def highest(column: np.ndarray) -> int:
    """The greatest of unsigned numbers, 0 for none."""
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
    """Fill `index` (uint32) with where each event's pixel lies; whether all lie inside.

    Args:
        x: column in sensor pixels.
        y: row in sensor pixels.
        p: polarity.
        shift: `downsampling_factor`.
        height: rows of a frame.
        width: columns of a frame.
        plane: distance of the two polarities; 0 puts them together.
        index: as long as x, or longer.
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
    """Count events `bounds[j]` to `bounds[j + 1] - 1` into planes j (OFF) and bins + j (ON) of `counts`."""
    bins, height, width = bounds.size - 1, counts.shape[1], counts.shape[2]
    plane = height * width
    flat = counts.reshape(-1)
    index = np.empty(CHUNK, np.uint32)
    for j in range(bins):
        live = flat[j * plane :]  # the plane of the other polarity begins `bins` planes later
        if clear:
            live[:plane] = 0
            live[bins * plane : (bins + 1) * plane] = 0
        for start in range(bounds[j], bounds[j + 1], CHUNK):
            part = slice(start, min(start + CHUNK, bounds[j + 1]))
            if not pixel_index(x[part], y[part], p[part], shift, height, width, bins * plane, index):
                return False
            add(index[: part.stop - start], live, bound)
    return True


@compiled
def add(index: np.ndarray, counts: np.ndarray, bound: np.unsignedinteger) -> None:
    """Add 1 to the counts at `index` that are below the bound, which is of their type: that saves a fifth."""
    whole = index.size - index.size % 4
    for i in range(0, whole, 4):  # places are read four at a time, as none can be read ahead of a write
        first, second = np.uint64(index[i]), np.uint64(index[i + 1])
        third, fourth = np.uint64(index[i + 2]), np.uint64(index[i + 3])
        counts[first] += np.uint8(counts[first] < bound)  # a branch here would cost a third
        counts[second] += np.uint8(counts[second] < bound)
        counts[third] += np.uint8(counts[third] < bound)
        counts[fourth] += np.uint8(counts[fourth] < bound)
    for i in range(whole, index.size):
        pixel = np.uint64(index[i])
        counts[pixel] += np.uint8(counts[pixel] < bound)


@compiled
def divide(counts: np.ndarray, frame: np.ndarray, bound: np.float32) -> None:
    """Write counts / bound, at most 1."""
    one = np.float32(1)
    for i in range(counts.size):
        value = np.float32(counts[i]) / bound
        frame[i] = value if value < one else one


@compiled
def subtract(x: np.ndarray, y: np.ndarray, p: np.ndarray, shift: int, net: np.ndarray) -> bool:
    """Add 1 for each ON event and take away 1 for each OFF event."""
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
def mark_times(
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    t: np.ndarray,
    shift: int,
    first: int,
    duration: int,
    surface: np.ndarray,
) -> bool:
    """Write each event's time, 0 to 1, over that of earlier ones."""
    flat = surface.reshape(-1)
    height, width = surface.shape[1], surface.shape[2]
    plane = height * width
    index = np.empty(CHUNK, np.uint32)
    scale = np.float32(duration)
    for start in range(0, x.size, CHUNK):
        part = slice(start, min(start + CHUNK, x.size))
        if not pixel_index(x[part], y[part], p[part], shift, height, width, plane, index):
            return False
        times = t[part]
        for i in range(times.size):
            flat[np.uint64(index[i])] = np.float32(times[i] - first + 1) / scale
    return True


@compiled
def mark_levels(
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    t: np.ndarray,
    shift: int,
    first: int,
    duration: int,
    surface: np.ndarray,
) -> bool:
    """Write each event's time, 1 to 255, over that of earlier ones; the level is computed only where it changes."""
    flat = surface.reshape(-1)
    height, width = surface.shape[1], surface.shape[2]
    plane = height * width
    index = np.empty(CHUNK, np.uint32)
    level, until = 0, first
    for start in range(0, x.size, CHUNK):
        part = slice(start, min(start + CHUNK, x.size))
        if not pixel_index(x[part], y[part], p[part], shift, height, width, plane, index):
            return False
        times = t[part]
        for i in range(times.size):
            if times[i] >= until:
                level = (255 * (times[i] - first + 1) + duration - 1) // duration
                until = first + level * duration // 255
            flat[np.uint64(index[i])] = level
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
    """Add each event's weight to `following` and what it lacks to 1 to `previous`.

    `weight` is that at `start`, `per_us` its growth. Planes are (P, H, W).
    """
    height, width = previous.shape[1], previous.shape[2]
    plane = height * width if previous.shape[0] == 2 else 0
    left, right = previous.reshape(-1), following.reshape(-1)
    index = np.empty(CHUNK, np.uint32)
    off = np.float32(1 if plane else -1)
    growth = np.float32(1) - off
    for first in range(0, x.size, CHUNK):
        part = slice(first, min(first + CHUNK, x.size))
        if not pixel_index(x[part], y[part], p[part], shift, height, width, plane, index):
            return False
        times, signs = t[part], p[part]
        for i in range(times.size):
            pixel = np.uint64(index[i])
            sign = off + growth * np.float32(signs[i])
            part_of_following = (weight + np.float32(times[i] - start) * per_us) * sign
            left[pixel] += sign - part_of_following
            right[pixel] += part_of_following
    return True


@compiled
def clip(sums: np.ndarray, plane: np.ndarray, gain: np.float32, highest: np.float32) -> None:
    """Write sums * gain, clipped to +- highest, and set the sums to 0."""
    for i in range(sums.size):
        value = sums[i] * gain
        value = value if value < highest else highest
        plane[i] = value if value > -highest else -highest
        sums[i] = 0


@compiled
def round_off(sums: np.ndarray, plane: np.ndarray, gain: np.float32, highest: np.float32) -> None:
    """As `clip`, rounded to whole numbers."""
    half = np.float32(0.5)
    for i in range(sums.size):
        value = sums[i] * gain
        value = value if value < highest else highest
        plane[i] = np.floor((value if value > -highest else -highest) + half)
        sums[i] = 0
