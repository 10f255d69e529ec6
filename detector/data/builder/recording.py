"""One recording and its labels -> its tensor files, holding the events and tensors of a few frames at a time."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from glob import escape
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from detector.config.groups import DataConfig
from detector.data.builder.label_counts import LabelCounts
from detector.data.builder.plan import BROKEN, SPLITS, Piece, Plan, local_files, plan_pieces, recording_stem
from detector.data.tensor_file import create_tensors, write_frames
from detector.events import Faults, open_events
from detector.events.arrays import ColumnBuffer
from detector.labels import save_labels
from detector.preprocess.representation import representation_of
from detector.utils.atomic_write import atomic_write
from detector.utils.hdf5_file import open_hdf5
from detector.utils.remote import Place

__all__ = ["make_recording"]

FRAMES_AT_ONCE = 8
"""Frames made from one reading: what is held at any time is their events and tensors."""


def make_recording(
    recording: Place, plan: Plan, counted: Callable[[LabelCounts], object], faulty: Callable[[Faults], object]
) -> Iterator[int]:
    """Make the tensor files of a recording, or keep them if they were made from it with the same parameters.

    Args:
        recording: the recording; if it is not on this machine, it and its labels are copied for the time being.
        plan: what is to be made of it.
        counted: called with what of its labels is not used.
        faulty: called with the counts of its faulty events.

    Yields:
        the number of frames done since the last time.

    Raises:
        ValueError, FileNotFoundError: something is wrong with it, and nothing of it is left in the dataset.
        OSError: a file cannot be written.
    """
    with local_files(recording) as path:
        pieces, counts = plan_pieces(path, plan)
        counted(replace(counts, source=str(recording.parent / Path(counts.source).name)))
        sha256 = _checksum(path)
        _check_leftovers(recording, plan, {piece.target for piece in pieces}, sha256)
        try:
            faulty(_faults(path, plan))
            for piece in pieces:
                yield from _make(piece, plan.data, _attributes(piece, plan.data, sha256))
        except BROKEN:
            for piece in pieces:
                piece.target.unlink(missing_ok=True)
                piece.labels_target.unlink(missing_ok=True)
            raise


def _faults(recording: Path, plan: Plan) -> Faults:
    with open_events(recording, *plan.sensor, max_faulty_events=plan.data.max_faulty_events) as reader:
        return reader.faults


def _make(piece: Piece, data: DataConfig, attributes: Mapping[str, Any]) -> Iterator[int]:
    """Write tensors, then labels, and only then give the tensor file its name: where it is, both are."""
    if _is_current(piece, attributes):
        _write_labels(piece)
        yield piece.num_frames
        return
    with atomic_write(piece.target) as part:
        with h5py.File(part, "w", locking=False) as file:  # `atomic_write` holds a lock on it
            dataset = create_tensors(file, piece.shape, representation_of(data).dtype)
            dataset.attrs.update(attributes)
            begin = 0
            for frames in _frames(piece, data):
                write_frames(dataset, begin, frames)
                begin += len(frames)
                yield len(frames)
        _write_labels(piece)


def _write_labels(piece: Piece) -> None:
    with atomic_write(piece.labels_target) as part:
        save_labels(part, piece.labels)


def _frames(piece: Piece, data: DataConfig) -> Iterator[np.ndarray]:
    """A piece's frames (n, C, H, W), up to `FRAMES_AT_ONCE` at a time, in a buffer that is used again."""
    representation, events = representation_of(data), ColumnBuffer()
    buffer = representation.empty(FRAMES_AT_ONCE, *piece.shape[1:])
    with open_events(piece.recording, *piece.sensor_size, max_faulty_events=data.max_faulty_events) as reader:
        _ = reader.faults  # from now on windows are exactly parts of the whole
        for begin in range(0, piece.num_frames, FRAMES_AT_ONCE):
            frames = buffer[: piece.num_frames - begin]
            start, duration = piece.start + begin * data.delta_t, len(frames) * data.delta_t
            x, y, p, t = reader.read_columns(start, start + duration, events)
            t -= start
            representation.fill((x, y, p, t), frames, duration, piece.downsampling)
            yield frames


def _attributes(piece: Piece, data: DataConfig, sha256: str) -> dict[str, Any]:
    """How a tensor file was made: with equal attributes and shape, two files hold the same tensors."""
    representation = representation_of(data)
    parameters = {"downsampling_factor": piece.downsampling, **representation.parameters}
    return {
        "preprocess": data.preprocess,
        "preprocess_params": json.dumps(parameters),
        "max_incr_per_pixel": float(data.max_incr_per_pixel),
        "divisor": float(representation.divisor),
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
        with piece.target.open("rb") as raw, open_hdf5(piece.target, raw) as file:
            found = file["data"].attrs
            equal = all(found.get(key) == value for key, value in attributes.items())
            return equal and file["data"].shape == piece.shape
    except (OSError, KeyError, ValueError):
        return False  # a broken file is made anew


def _check_leftovers(recording: Place, plan: Plan, targets: set[Place], sha256: str) -> None:
    """Files of an earlier build with other cuts would put the same frames into two splits."""
    stem = recording_stem(recording)
    for split in SPLITS:
        for path in (plan.output / split).glob(f"{escape(stem)}*.h5"):
            if path in targets or not re.fullmatch(rf"{re.escape(stem)}(_\d+_\d+)?\.h5", path.name):
                continue
            if _source_of(path) == sha256:
                raise ValueError(f"{path}: made earlier from {recording}, remove it or give another output")


def _source_of(path: Place) -> str | None:
    """Checksum of the recording that a tensor file was made from, None if it does not say."""
    with suppress(OSError, KeyError, ValueError), path.open("rb") as raw, open_hdf5(path, raw) as file:
        return file["data"].attrs.get("sha256")
    return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _tool_version() -> str:
    try:
        return version("evforge")
    except PackageNotFoundError:  # used from the source folder
        return "unknown"
