"""Tensor files: how frames lie in them, and reading any range of frames fast.

A file of ours holds one LZF-compressed chunk a frame. Plain h5py reads it; where loops are compiled, chunks are read
by their place in the file and unpacked straight into the caller's array, without HDF5's copies. Reading goes through
the operating system's page cache, which all processes of a machine share.

Few pixels have events, so what counts is how fast runs of zeros are passed over. Our own compressor writes nothing
but such runs and bytes as they are. Measured on one core, 304x240 uint8 with 4 % of the values other than 0, in
frames/s and share of the size: h5py gzip 3,800 and 0.06; h5py lzf 3,400 and 0.11; the same chunks unpacked here
10,500; our chunks 32,000 and 0.17 (by h5py 3,500); uncompressed 78,000 and 1. Chunks of several frames gain nothing.
"""

import os
from pathlib import Path
from typing import Any, NoReturn, Protocol

import h5py
import numpy as np

from detector.utils.compiled import compiled
from detector.utils.hdf5_file import open_hdf5

__all__ = ["TensorReader", "create_tensors", "open_tensors", "read_attributes", "write_frames"]

LZF = 32_000
"""HDF5's number of the filter that h5py calls "lzf"."""


ZERO, ONE, TWO, FIVE, EIGHT, NINE, LOW_BITS = (np.uint64(value) for value in (0, 1, 2, 5, 8, 9, 31))

WIDE = np.uint64(16)
"""Short pieces are copied in one go of this width: what is too much is overwritten by the next piece."""

MIN_RUN, MAX_RUN, MAX_LITERAL = 8, 264, 32
"""Zeros that are worth a run, and the longest pieces that LZF has."""


def create_tensors(file: h5py.File, shape: tuple[int, int, int, int], dtype: np.typing.DTypeLike) -> h5py.Dataset:
    """Lay out the dataset `data` of a new tensor file.

    Args:
        file: open for writing.
        shape: (T, C, H, W).
        dtype: type of the frames.

    Returns:
        the dataset, to be filled by `write_frames`.
    """
    return file.create_dataset("data", shape, dtype, chunks=(1, *shape[1:]), compression="lzf")


def read_attributes(path: Path) -> tuple[tuple[int, int, int, int], np.dtype, dict[str, Any]]:
    """Shape (T, C, H, W), dtype and attributes (as Python values) of the tensors in a file.

    Raises:
        ValueError: it is no whole tensor file.
    """
    try:
        with open_hdf5(path) as file:
            data = file.get("data")
            if not isinstance(data, h5py.Dataset):
                raise ValueError(f"{path}: holds {', '.join(file) or 'nothing'}, needed: a dataset named data")
            shape, dtype, attributes = data.shape, data.dtype, dict(data.attrs)
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path}: not a whole HDF5 file: {' '.join(str(error).split())}") from None
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"{path}: data has shape {shape}, allowed: (T, C, H, W), each at least 1")
    plain = {name: _plain(value) for name, value in attributes.items()}
    for name in ("first_t", "delta_t"):
        if name in plain and plain[name] != int(plain[name]):
            raise ValueError(f"{path}: attribute {name} is {plain[name]}, allowed: whole microseconds")
    return shape, dtype, plain


def _plain(value: Any) -> Any:
    """An HDF5 attribute as a Python value."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode() if isinstance(value, bytes) else value


def write_frames(data: h5py.Dataset, start: int, frames: np.ndarray) -> None:
    """Fill frames of a dataset that `create_tensors` made, each once.

    Args:
        data: the dataset.
        start: index of the first frame.
        frames: (n, C, H, W) of the dataset's type.
    """
    if not _has_machine_code():
        data[start : start + len(frames)] = frames
        return
    packed = np.empty(2 * frames[:1].nbytes, np.uint8)
    for index, frame in enumerate(np.ascontiguousarray(frames), start):
        raw = frame.reshape(-1).view(np.uint8)
        size = _pack(raw, packed)
        whole = size >= raw.size  # LZF would not make it smaller: its filter is left out
        data.id.write_direct_chunk((index, 0, 0, 0), (raw if whole else packed[:size]).tobytes(), int(whole))


class TensorReader(Protocol):
    """An open tensor file."""

    def read(self, start: int, out: np.ndarray) -> None:
        """Fill `out` with the frames from `start` on; zeros before the file's first and after its last.

        Args:
            start: index of the first frame; may be negative.
            out: (n, C, H, W) of the file's type; each frame contiguous.

        Raises:
            ValueError: frames cannot be read.
        """

    def close(self) -> None:
        """Give the file back."""


def open_tensors(path: Path) -> TensorReader:
    """Open a tensor file, of this layout or any other that h5py reads.

    Args:
        path: HDF5 file with a dataset `data` (T, C, H, W).

    Raises:
        ValueError: it cannot be opened as an HDF5 file, or leads out of it.
    """
    file = open_hdf5(path)
    if _is_packed(file):
        with file:
            return _PackedReader(path, file["data"])
    return _PlainReader(path, file)


def _is_packed(file: h5py.File) -> bool:
    """Whether each frame is one LZF chunk, and there is machine code to unpack it."""
    data = file["data"]
    plist = data.id.get_create_plist()
    return (
        _has_machine_code()
        and data.chunks == (1, *data.shape[1:])
        and [plist.get_filter(index)[0] for index in range(plist.get_nfilters())] == [LZF]
        and data.dtype.isnative
        and data.fillvalue == 0
        and file.userblock_size == 0
    )


class _PlainReader:
    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file

    def read(self, start: int, out: np.ndarray) -> None:
        data = self._file["data"]
        first, stop = _inside(start, out, len(data))
        if first == stop:
            return
        part = out[first - start : stop - start]
        try:
            if part.flags.c_contiguous:
                data.read_direct(part, np.s_[first:stop])
            else:
                part[:] = data[first:stop]
        except OSError as error:
            _fail(self.path, first, stop, " ".join(str(error).split()))

    def close(self) -> None:
        self._file.close()


class _PackedReader:
    def __init__(self, path: Path, data: h5py.Dataset) -> None:
        self.path = path
        self._chunks = np.zeros((len(data), 3), np.int64)  # offset, size, filters left out
        data.id.chunk_iter(self._note)
        self._file = path.open("rb", buffering=0)

    def _note(self, chunk: h5py.h5d.StoreInfo) -> None:
        self._chunks[chunk.chunk_offset[0]] = chunk.byte_offset, chunk.size, chunk.filter_mask

    def read(self, start: int, out: np.ndarray) -> None:
        first, stop = _inside(start, out, len(self._chunks))
        for index in range(first, stop):
            if not self._fill(index, out[index - start].reshape(-1).view(np.uint8)):
                _fail(self.path, first, stop, f"the chunk of frame {index} is damaged")

    def _fill(self, index: int, frame: np.ndarray) -> bool:
        """Write a frame's bytes; whether there were exactly as many as it has."""
        offset, size, left_out = self._chunks[index].tolist()
        if size == 0:  # never written
            frame[:] = 0
            return True
        packed = np.frombuffer(os.pread(self._file.fileno(), size, offset), np.uint8)
        if len(packed) < size:
            return False
        if left_out:  # LZF would not have made it smaller
            frame[: len(packed)] = packed[: len(frame)]
            return len(packed) == len(frame)
        return bool(_unpack(packed, frame))

    def close(self) -> None:
        self._file.close()


def _has_machine_code() -> bool:
    return hasattr(_unpack, "py_func")


@compiled
def _pack(frame: np.ndarray, packed: np.ndarray) -> int:
    """LZF of runs of zeros alone; the size. `packed` has room for twice the bytes."""
    size = at = literal = 0  # literal: where the bytes begin that are still to be written as they are
    while at < frame.size:
        if frame[at] != 0:
            at += 1
            continue
        stop = at + 1
        while stop < frame.size and frame[stop] == 0:
            stop += 1
        if stop - at >= MIN_RUN:
            at += 1  # a run repeats the zero before it
            size = _pack_literals(frame, literal, at, packed, size)
            while stop - at > 2:
                length = min(stop - at, MAX_RUN)
                size = _pack_run(length, packed, size)
                at += length
            literal = at
        at = stop
    return _pack_literals(frame, literal, at, packed, size)


@compiled
def _pack_literals(frame: np.ndarray, at: int, stop: int, packed: np.ndarray, size: int) -> int:
    while at < stop:
        length = min(stop - at, MAX_LITERAL)
        packed[size] = length - 1
        size += 1
        for k in range(length):
            packed[size + k] = frame[at + k]
        size += length
        at += length
    return size


@compiled
def _pack_run(length: int, packed: np.ndarray, size: int) -> int:
    code = length - 2
    if code < 7:
        packed[size] = code << 5
    else:
        packed[size] = 7 << 5
        size += 1
        packed[size] = code - 7
    packed[size + 1] = 0  # at a distance of 1
    return size + 2


@compiled
def _unpack(packed: np.ndarray, frame: np.ndarray) -> bool:
    """Undo LZF: `packed` bytes to those of a frame; whether they are well formed and fill it exactly."""
    size, end = np.uint64(packed.size), np.uint64(frame.size)
    at = to = ZERO
    while at < size:
        control = np.uint64(packed[at])
        at += ONE
        length = (control >> FIVE) + TWO
        if length == TWO:  # so many bytes as they are
            length = control + ONE
            if at + length > size or to + length > end:
                return False
            wide = length <= WIDE and at + WIDE <= size and to + WIDE <= end
            for k in range(WIDE if wide else length):
                frame[to + k] = packed[at + k]
            at += length
        else:  # a part of what is already there, again
            if length == NINE and at < size:
                length += np.uint64(packed[at])
                at += ONE
            if at == size:
                return False
            distance = ((control & LOW_BITS) << EIGHT) + np.uint64(packed[at]) + ONE
            at += ONE
            if distance > to or to + length > end:
                return False
            if distance == ONE:
                value = frame[to - ONE]
                wide = length <= WIDE and to + WIDE <= end
                for k in range(WIDE if wide else length):
                    frame[to + k] = value
            else:
                for k in range(length):
                    frame[to + k] = frame[to + k - distance]
        to += length
    return bool(to == end)


def _inside(start: int, out: np.ndarray, length: int) -> tuple[int, int]:
    """The frames of `out` that the file has, first and after the last; the others are set to zero."""
    first, stop = (min(max(frame, 0), length) for frame in (start, start + len(out)))
    out[: first - start] = 0
    out[stop - start :] = 0
    return first, stop


def _fail(path: Path, first: int, stop: int, reason: str) -> NoReturn:
    raise ValueError(f"{path}: frames {first} to {stop - 1} cannot be read: {reason}") from None
