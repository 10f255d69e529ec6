from pathlib import Path

import h5py
import numpy as np
import pytest

from detector.data import tensor_file
from detector.data.tensor_file import create_tensors, open_tensors, read_attributes, write_frames

SHAPE = (7, 2, 12, 40)


def frames_of(dtype: str) -> np.ndarray:
    """Empty, sparse and dense frames; the last cannot be made smaller."""
    rng = np.random.default_rng(0)
    shares = np.array([0, 0.01, 0.05, 0.3, 1, 0, 1])[:, None, None, None]
    data = (rng.integers(1, 6, SHAPE) * (rng.random(SHAPE) < shares)).astype(dtype)
    data[6] = rng.integers(0, 256, data[6].nbytes, dtype=np.uint8).view(dtype).reshape(SHAPE[1:])
    return np.nan_to_num(data)


def write(path: Path, data: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        dataset = create_tensors(file, data.shape, data.dtype)
        write_frames(dataset, 0, data[:5])
        write_frames(dataset, 5, data[5:])
    return path


def by_h5py(path: Path, data: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        create_tensors(file, data.shape, data.dtype)[:] = data


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_plain_h5py_reads_what_is_written(tmp_path, dtype: str):
    data = frames_of(dtype)
    with h5py.File(write(tmp_path / "a.h5", data)) as file:
        assert file["data"].dtype == dtype
        assert file["data"].compression == "lzf"
        assert np.array_equal(file["data"][:], data)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
@pytest.mark.parametrize(
    "layout",
    [
        "ours",
        "lzf",
        "half",
        {},
        {"chunks": (1, *SHAPE[1:])},
        {"chunks": (4, 1, 12, 40), "compression": "gzip", "shuffle": True},
        {"chunks": (1, *SHAPE[1:]), "compression": "lzf", "shuffle": True},
        {"chunks": (1, *SHAPE[1:]), "compression": "lzf", "fillvalue": 3},
    ],
)
def test_any_range_of_any_layout_is_read(tmp_path, dtype: str, layout):
    data, path = frames_of(dtype), tmp_path / "a.h5"
    if layout == "ours":
        write(path, data)
    elif layout == "lzf":
        by_h5py(path, data)
    elif layout == "half":
        data[3:] = 0
        with h5py.File(path, "w") as file:
            write_frames(create_tensors(file, data.shape, data.dtype), 0, data[:3])
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=data, **layout)
    reader = open_tensors(path)
    padded = np.concatenate([np.zeros_like(data), data, np.zeros_like(data)])
    for start, count in ((0, 7), (2, 3), (-2, 4), (5, 6), (-7, 3), (-2, 12), (9, 2), (6, 1)):
        out = np.full((count, 2, *SHAPE[1:]), 9, dtype)
        reader.read(start, out[:, 1])  # frames need not lie side by side
        assert np.array_equal(out[:, 1], padded[start + 7 : start + 7 + count])
        assert (out[:, 0] == 9).all()
    reader.close()


def test_our_frames_take_the_fast_path_and_others_do_not(tmp_path):
    data = frames_of("uint8")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("data", data=data, chunks=(2, *SHAPE[1:]), compression="lzf")
    kinds = [type(open_tensors(path)).__name__ for path in (write(tmp_path / "a.h5", data), tmp_path / "b.h5")]
    assert kinds == ["_PackedReader", "TensorReader"]


def test_without_machine_code_h5py_reads_and_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_file, "HAS_COMPILER", False)
    data = frames_of("uint8")
    reader, out = open_tensors(write(tmp_path / "a.h5", data)), np.empty_like(data)
    reader.read(0, out)
    assert type(reader).__name__ == "TensorReader"
    assert np.array_equal(out, data)


PLAIN = getattr(tensor_file._unpack, "py_func", tensor_file._unpack)


@pytest.mark.parametrize("unpack", [tensor_file._unpack, PLAIN])
@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        ([2, 1, 2, 3], [1, 2, 3]),
        ([0, 7, 0 << 5 | 32, 0], [7, 7, 7, 7]),  # 3 more at a distance of 1
        ([1, 1, 2, 64, 1], [1, 2, 1, 2, 1, 2]),  # 4 at a distance of 2
        ([0, 0, 7 << 5, 3, 0], [0] * 13),  # 7 + 3 + 2
        ([1, 1, 2], None),  # the bytes end before the frame
    ],
)
def test_pieces_are_unpacked(unpack, packed: list[int], expected: list[int] | None):
    out = np.full(len(expected or [0, 0, 0]), 99, np.uint8)
    assert unpack(np.array(packed, np.uint8), out) is (expected is not None)
    if expected is not None:
        assert out.tolist() == expected


@pytest.mark.parametrize("unpack", [tensor_file._unpack, PLAIN])
@pytest.mark.parametrize(
    "packed",
    [
        [],
        [3, 1, 2],  # fewer bytes than announced
        [7, 1, 2, 3, 4, 5, 6, 7, 8],  # too many for the frame
        [32, 0, 3, 1, 1, 1, 1],  # repeats what was before the frame
        [0, 1, 32, 1],
        [0, 1, 224, 255, 0],  # a run past the frame's end
        [0, 1, 224],  # cut off
        [0, 1, 224, 1],
        [0, 1, 32],
    ],
)
def test_malformed_bytes_are_noticed(unpack, packed: list[int]):
    guarded = np.full(20, 77, np.uint8)
    assert not unpack(np.array(packed, np.uint8), guarded[8:12])
    assert (guarded[:8] == 77).all()
    assert (guarded[12:] == 77).all()


def test_mutated_chunks_never_write_outside():
    rng = np.random.default_rng(1)
    frame = (rng.integers(1, 6, 600) * (rng.random(600) < 0.2)).astype(np.uint8)
    buffer = np.empty(1200, np.uint8)
    packed = buffer[: tensor_file._pack(frame, buffer)].copy()
    guarded = np.full(632, 77, np.uint8)
    for _ in range(2000):
        broken = packed[: rng.integers(1, len(packed) + 1)].copy()
        broken[rng.integers(0, len(broken), 3)] = rng.integers(0, 256, 3)
        tensor_file._unpack(broken, guarded[16:616])
        assert (guarded[:16] == 77).all()
        assert (guarded[616:] == 77).all()
    assert tensor_file._unpack(packed, guarded[16:616])
    assert np.array_equal(guarded[16:616], frame)


@pytest.mark.parametrize("pack", [tensor_file._pack, getattr(tensor_file._pack, "py_func", tensor_file._pack)])
@pytest.mark.parametrize(
    ("frame", "packed"),
    [
        ([5] + [0] * 9, [1, 5, 0, 6 << 5, 0]),  # a zero, then 8 more of them
        ([0] * 8 + [1], [0, 0, 5 << 5, 0, 0, 1]),
        ([0] * 7 + [1], [7, 0, 0, 0, 0, 0, 0, 0, 1]),  # too short for a run
        ([0] * 266, [0, 0, 7 << 5, 255, 0, 0, 0]),  # 264 and one more
        ([1] * 33, [31] + [1] * 32 + [0, 1]),
    ],
)
def test_runs_of_zeros_are_packed(pack, frame: list[int], packed: list[int]):
    buffer, out = np.zeros(2 * len(frame), np.uint8), np.empty(len(frame), np.uint8)
    size = pack(np.array(frame, np.uint8), buffer)
    assert buffer[:size].tolist() == packed
    assert tensor_file._unpack(buffer[:size], out)
    assert out.tolist() == frame


def test_a_damaged_chunk_names_the_file_and_the_frames(tmp_path):
    path = write(tmp_path / "a.h5", frames_of("uint8"))
    with h5py.File(path) as file:
        chunk = file["data"].id.get_chunk_info(2)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    reader, out = open_tensors(path), np.empty(SHAPE, np.uint8)
    with pytest.raises(ValueError, match=r"a.h5: frames 1 to 6 cannot be read: the chunk of frame 2 is damaged"):
        reader.read(1, out)
    reader.read(3, out[:4])
    with path.open("r+b") as raw:
        raw.truncate(chunk.byte_offset + 1)
    with pytest.raises(ValueError, match="the chunk of frame 2 is damaged"):
        reader.read(2, out[:1])


def test_a_file_that_is_cut_off_is_named(tmp_path):
    path = write(tmp_path / "a.h5", frames_of("uint8"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"a.h5: not a complete HDF5 file: .*truncated"):
        open_tensors(path)


@pytest.mark.parametrize("name", ["first_t", "delta_t"])
def test_times_of_frames_are_whole_microseconds(tmp_path, name: str):
    """A start in seconds would shift every label."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=np.zeros((1, 2, 4, 4), np.uint8)).attrs[name] = 50_000.0
    assert read_attributes(path)[2][name] == 50_000
    with h5py.File(path, "r+") as file:
        file["data"].attrs[name] = 1.25
    with pytest.raises(ValueError, match=f"a.h5: attribute {name} is 1.25, allowed: whole microseconds"):
        read_attributes(path)


@pytest.mark.parametrize("compression", ["lzf", None])
def test_frames_outside_the_file_are_zero(tmp_path, compression):
    data = np.arange(1, 4, dtype=np.uint8).reshape(3, 1, 1, 1) * np.ones((1, 2, 12, 40), np.uint8)
    path = tmp_path / "a.h5"
    if compression:
        write(path, data)
    else:
        with h5py.File(path, "w") as file:
            file["data"] = data
    reader = open_tensors(path)
    for start, expected in ((0, [1, 2, 3, 0]), (-1, [0, 1, 2, 3]), (2, [3, 0, 0, 0]), (3, [0] * 4), (-4, [0] * 4)):
        out = np.full((4, 2, 12, 40), 9, np.uint8)
        reader.read(start, out)
        assert out.min((1, 2, 3)).tolist() == out.max((1, 2, 3)).tolist() == expected
    reader.close()
