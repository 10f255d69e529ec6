"""A simple encoder of ECF chunks in HDF5 files: reference and data for tests of the decoder."""

import struct
from itertools import groupby
from pathlib import Path

import h5py
import numpy as np

from detector.events.types import EventCD

ECF = 0x8ECF


def encode(events: np.ndarray, layout: int) -> bytes:
    """One chunk; layout 0: rows, masked columns, polarities; 1: rows, columns packed with p; 2: all packed."""
    x, y, p, t = (events[name].tolist() for name in "xypt")
    chunk = struct.pack("<IQ", len(t) << 2 | layout, t[0] if t else 0) + _times(t)
    if layout == 2:
        return chunk + _packed([b << 12 | a << 1 | c for a, b, c in zip(x, y, p, strict=True)], 24)
    chunk += b"".join(
        struct.pack("<H", row << 5 | count) if count < 31 else struct.pack("<HH", row << 5 | 31, count)
        for row, count in _runs(y)
    )
    if layout == 1:
        return chunk + _packed([a << 1 | c for a, c in zip(x, p, strict=True)], 12)
    chunk += _masked(x)
    return chunk + b"".join(
        bytes([value << 7 | count]) if count < 127 else struct.pack("<BH", value << 7 | 127, count)
        for value, count in _runs(p)
    )


def _runs(values: list[int]) -> list[tuple[int, int]]:
    return [(value, len(list(group))) for value, group in groupby(values)]


def _times(t: list[int]) -> bytes:
    parts, now = [], t[0] if t else 0
    for time, count in _runs(t):
        step, now = time - now, time
        if step >= 15:
            while step:
                parts.append(bytes([0xF0 | step & 15]))
                step >>= 4
        parts.append(bytes([step << 4 | count]) if count < 15 else struct.pack("<BH", step << 4 | 15, count))
    return b"".join(parts)


def _masked(x: list[int]) -> bytes:
    tokens, index = [], 0
    while index < len(x):
        column, mask = x[index], 0
        index += 1
        for ahead in range(1, 6):
            if index < len(x) and x[index] == column + ahead:
                mask |= 32 >> ahead
                index += 1
        tokens.append(column << 5 | mask)
    return struct.pack(f"<{len(tokens)}H", *tokens)


def _packed(values: list[int], bits: int) -> bytes:
    """Pack four values a, b, c, d into three words: a with low bits of b, b with low bits of c, and c with d."""
    word, parts = bits * 4 // 3, []
    step = bits // 3
    for first in range(0, len(values), 4):
        a, b, c, d = (values[first : first + 4] + [0, 0, 0])[:4]
        low_b, low_c = (1 << step) - 1, (1 << 2 * step) - 1
        words = (a << step | b & low_b, b >> step << 2 * step | c & low_c, c >> 2 * step << 3 * step | d)
        parts += [value.to_bytes(word // 8, "little") for value in words]
    return b"".join(parts)


def write_chunks(path: Path, chunks: list[tuple[int, bytes]], count: int, size: int, geometry: str = "20x10") -> Path:
    """An HDF5 file of `count` events in chunks of `size`, each (filter mask, bytes), written without a plugin."""
    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = geometry
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((size,))
        properties.set_filter(ECF, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((count,), (h5py.h5s.UNLIMITED,))
        group = file.create_group("CD")
        dataset = h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(EventCD), space, properties)
        for index, (mask, chunk) in enumerate(chunks):
            dataset.write_direct_chunk((index * size,), chunk, mask)
    return path
