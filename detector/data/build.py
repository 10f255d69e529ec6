"""Recordings and their labels -> a dataset folder of HDF5 tensor files."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from detector.config import LABEL_MAP_NAME
from detector.data.build_plan import SPLITS, Piece, find_label_map, plan_pieces
from detector.events import open_events, save_labels
from detector.events.writing import whole_file
from detector.preprocess import PREPROCESS
from detector.settings import DataConfig

__all__ = ["build_dataset"]

FRAMES_AT_ONCE = 8
"""Frames made from one reading: what is held at any time is their events and tensors."""


def build_dataset(
    recordings: Sequence[Path],
    output: Path,
    data: DataConfig,
    cuts: dict[str, tuple[float, float]] | None = None,
    label_map: dict[int, str] | None = None,
    progress: bool = True,
) -> Path:
    """Make `output/<split>/<stem>.h5` and `<stem>_bbox.npy` of each recording, and the label map beside the splits.

    The labels of `R.raw`, `R.dat` and `R_td.dat` are `R_bbox.npy` beside it. A stream starts at the multiple of
    `data.delta_t` at or before the first event. Labels are kept from just after a file's start to its end, in sensor
    pixels and recording time. Whatever can be is checked before work starts; a finished file that was made from the
    same recording with the same parameters is kept.

    Args:
        recordings: files that `open_events` reads.
        output: dataset folder, made if need be.
        data: `preprocess`, `max_incr_per_pixel`, `delta_t`; `height` and `width` of the tensors: the sensor's, or
            those divided by a power of two.
        cuts: `{"train": (0, 20), ...}` in seconds from a stream's start, rounded to whole frames; the stem of a cut
            ends in its start and end in microseconds. Without cuts each recording is kept whole, in the split that
            its folder is named after.
        label_map: class names by id; that beside or one folder above the recordings if not given.
        progress: show a progress bar.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: a recording, its labels or a label map is missing.
        ValueError: something does not fit; the message names it and what is allowed.
    """
    recordings, output = [Path(recording) for recording in recordings], Path(output)
    if not recordings:
        raise ValueError("recordings: got none, allowed: at least one DAT or RAW file")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: output is a file, allowed: a folder")
    bound = data.max_incr_per_pixel
    if not (1 <= bound <= 255 and bound == int(bound)):
        raise ValueError(f"data.max_incr_per_pixel: got {bound}, allowed: whole numbers from 1 to 255")
    checksum = cache(_checksum)
    names = find_label_map(recordings, output, label_map)
    pieces = plan_pieces(recordings, output, data, cuts, names)
    _check_leftovers(pieces, output, checksum)
    total = sum(piece.num_frames for piece in pieces)
    with (
        _no_empty_folders([output, *(piece.target.parent for piece in pieces)]),
        tqdm(total=total, unit="frame", desc="build", disable=not progress) as bar,
    ):
        for piece in pieces:
            bar.set_postfix_str(piece.target.stem)
            _make(piece, data, _attributes(piece, data, checksum(piece.recording)), bar.update)
        with whole_file(output / LABEL_MAP_NAME) as part:
            part.write_text(json.dumps({str(key): name for key, name in names.items()}, indent=1) + "\n")
    return output


def _make(piece: Piece, data: DataConfig, attributes: Mapping[str, Any], advance: Callable[[int], Any]) -> None:
    """Write tensors, then labels, and only then give the tensor file its name: where it is, both are."""
    piece.target.parent.mkdir(parents=True, exist_ok=True)
    if _is_current(piece, attributes):
        save_labels(piece.labels_target, piece.labels)
        advance(piece.num_frames)
        return
    with whole_file(piece.target) as part:
        with h5py.File(part, "w") as file:
            dataset = file.create_dataset(
                "data", piece.shape, np.uint8, chunks=(1, *piece.shape[1:]), compression="lzf"
            )
            dataset.attrs.update(attributes)
            begin = 0
            for frames in _frames(piece, data):
                dataset[begin : begin + len(frames)] = frames
                begin += len(frames)
                advance(len(frames))
        save_labels(piece.labels_target, piece.labels)


def _frames(piece: Piece, data: DataConfig) -> Iterator[np.ndarray]:
    """A piece's frames (n, C, H, W), up to `FRAMES_AT_ONCE` at a time, in a buffer that is used again."""
    buffer = np.empty((FRAMES_AT_ONCE, *piece.shape[1:]), np.uint8)
    with open_events(piece.recording) as reader:
        for begin in range(0, piece.num_frames, FRAMES_AT_ONCE):
            frames = buffer[: piece.num_frames - begin]
            start, duration = piece.start + begin * data.delta_t, len(frames) * data.delta_t
            x, y, p, t = reader.read_columns(start, start + duration)
            PREPROCESS[data.preprocess](
                (x, y, p, t - start), frames, duration, piece.downsampling, max_incr_per_pixel=data.max_incr_per_pixel
            )
            yield frames


def _attributes(piece: Piece, data: DataConfig, sha256: str) -> dict[str, Any]:
    """How a tensor file was made: with equal attributes and shape, two files hold the same tensors."""
    parameters = {"downsampling_factor": piece.downsampling, "max_incr_per_pixel": data.max_incr_per_pixel}
    return {
        "preprocess": data.preprocess,
        "preprocess_params": json.dumps(parameters),
        "max_incr_per_pixel": float(data.max_incr_per_pixel),
        "delta_t": data.delta_t,
        "event_input_height": piece.sensor_size[0],
        "event_input_width": piece.sensor_size[1],
        "first_t": piece.start,
        "sha256": sha256,
        "tool_version": _tool_version(),
    }


def _is_current(piece: Piece, attributes: Mapping[str, Any]) -> bool:
    if not piece.target.is_file():
        return False
    try:
        with h5py.File(piece.target) as file:
            found = file["data"].attrs
            equal = all(found.get(key) == value for key, value in attributes.items())
            return equal and file["data"].shape == piece.shape
    except (OSError, KeyError):
        return False  # a broken file is made anew


def _check_leftovers(pieces: Sequence[Piece], output: Path, checksum: Callable[[Path], str]) -> None:
    """Files of an earlier build with other cuts would put the same frames into two splits."""
    targets = {piece.target for piece in pieces}
    others = [path for split in SPLITS for path in (output / split).glob("*.h5") if path not in targets]
    sources = {checksum(piece.recording): piece.recording for piece in pieces} if others else {}
    for path in others:
        with suppress(OSError, KeyError), h5py.File(path) as file:
            source = file["data"].attrs.get("sha256")
            if source in sources:
                raise ValueError(f"{path}: made earlier from {sources[source]}, remove it or give another output")


@contextmanager
def _no_empty_folders(folders: Iterable[Path]) -> Iterator[None]:
    """Take away folders that were made for nothing when the block fails."""
    made = [folder for folder in dict.fromkeys(folders) if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in reversed(made):
            with suppress(OSError):  # finished files stay
                folder.rmdir()
        raise


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _tool_version() -> str:
    try:
        return version("evlab")
    except PackageNotFoundError:  # used from the source folder
        return "unknown"
