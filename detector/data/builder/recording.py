"""Convert one recording and its labels to tensor files.

The events and tensors of only a few frames are in memory at a time.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from glob import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from detector.data.builder.label_counts import LabelCounts
from detector.data.builder.plan import BROKEN, Piece, Plan, local_files, open_recording, plan_pieces
from detector.data.builder.source import Source
from detector.data.layout import SPLITS
from detector.data.tensor_file import create_tensors, write_frames
from detector.events import Faults
from detector.events.arrays import ColumnBuffer
from detector.labels import save_labels
from detector.preprocess.representation import representation_of
from detector.utils.atomic_write import atomic_write
from detector.utils.checksum import sha256_of
from detector.utils.hdf5_file import open_hdf5
from detector.utils.remote import Place

__all__ = ["Step", "report_steps"]

FRAMES_AT_ONCE = 8
"""Number of frames that are made from one read of events. Memory holds the events and tensors of these frames only."""


class Step(NamedTuple):
    """Progress of the build of a recording.

    Args:
        recording: the recording
        frames: number of frames that were made since the last step
        finished: whether all files of the recording are complete; this step is then the last one
        broken: reason why the recording cannot be used, or None; a step with a reason is the last one
        labels: numbers of labels that are not used, only in the last step of a recording at a remote address. Labels of
            recordings on this machine are counted before the build starts
        faults: numbers of faulty events, only in the last step; None if there are no faulty events
    """

    recording: Place
    frames: int = 0
    finished: bool = False
    broken: str | None = None
    labels: LabelCounts | None = None
    faults: Faults | None = None


def report_steps(source: Source, plan: Plan) -> Iterator[Step]:
    """Build the tensor files of a recording and report the progress. Parallel processes may build other recordings.

    Existing tensor files are kept if they were made from the same recording with the same parameters. If the recording
    cannot be used, its files are removed from the dataset.

    Args:
        source: the recording with its labels. Files at a remote address are copied to a temporary folder.
        plan: parameters of the build.

    Yields:
        A step after every few frames. The last step states whether the recording is finished, or why it is broken.

    Raises:
        OSError: a file cannot be written.
    """
    try:
        yield from _build(source, plan)
    except BROKEN as error:
        yield Step(source.recording, broken=" ".join(str(error).split()))


def _build(source: Source, plan: Plan) -> Iterator[Step]:
    recording = source.recording
    with local_files(source, plan.data.label_format) as local:
        pieces, counts = plan_pieces(local, plan)
        path = pieces[0].recording
        sha256 = sha256_of(path)
        _check_leftovers(source, plan, {piece.target for piece in pieces}, sha256)
        try:
            with open_recording(path, pieces[0].sensor_size, pieces[0].data) as reader:
                faults = reader.faults
            for piece in pieces:
                for count in _make(piece, _attributes(piece, sha256)):
                    yield Step(recording, count)
        except BROKEN:
            for piece in pieces:
                piece.target.unlink(missing_ok=True)
                piece.labels_target.unlink(missing_ok=True)
            raise
    if isinstance(recording, Path):
        labels = None
    else:
        labels = replace(counts, source=str(recording.parent / Path(counts.source).name))
    yield Step(recording, finished=True, labels=labels, faults=faults if faults.total else None)


def _make(piece: Piece, attributes: Mapping[str, Any]) -> Iterator[int]:
    """Write the tensor file and the label file of a piece. Yield the number of frames of each group that is written.

    The tensor file gets its final name after the label file is written. So if the tensor file exists, both files are
    complete. A tensor file that is up to date is kept.
    """
    if _is_current(piece, attributes):
        _write_labels(piece)
        yield piece.frames.num_frames
        return
    with atomic_write(piece.target) as part:
        with h5py.File(part, "w", locking=False) as file:  # `atomic_write` holds a lock on it
            dataset = create_tensors(file, piece.shape, representation_of(piece.data).dtype)
            dataset.attrs.update(attributes)
            begin = 0
            for frames in _frames(piece):
                write_frames(dataset, begin, frames)
                begin += len(frames)
                yield len(frames)
        _write_labels(piece)


def _write_labels(piece: Piece) -> None:
    with atomic_write(piece.labels_target) as part:
        save_labels(part, piece.labels)


def _frames(piece: Piece) -> Iterator[np.ndarray]:
    """Yield the frames of a piece as arrays (n, C, H, W), with n up to `FRAMES_AT_ONCE`.

    All arrays use the same memory, so each one is valid until the next one is requested.
    """
    data = piece.data
    representation, events = representation_of(data), ColumnBuffer()
    buffer = representation.empty(FRAMES_AT_ONCE, *piece.shape[1:])
    with open_recording(piece.recording, piece.sensor_size, data) as reader:
        _ = reader.faults  # search the whole recording for faulty events first, so that all reads treat them alike
        for begin in range(0, piece.frames.num_frames, FRAMES_AT_ONCE):
            frames = buffer[: piece.frames.num_frames - begin]
            start, duration = piece.frames.first_t + begin * data.delta_t, len(frames) * data.delta_t
            x, y, p, t = reader.read_columns(start, start + duration, events)
            t -= start
            representation.fill((x, y, p, t), frames, duration, piece.downsampling)
            yield frames


def _attributes(piece: Piece, sha256: str) -> dict[str, Any]:
    """Return attributes that describe how a tensor file is made.

    Tensor files with the same attributes and the same shape contain the same tensors.
    """
    data, representation = piece.data, representation_of(piece.data)
    parameters = {"downsampling_factor": piece.downsampling, **representation.parameters}
    columns = {} if data.event_columns is None else {"event_columns": data.event_columns}
    return {
        "preprocess": data.preprocess,
        "preprocess_params": json.dumps(parameters),
        "max_incr_per_pixel": float(data.max_incr_per_pixel),
        "divisor": float(representation.divisor),
        "delta_t": data.delta_t,
        "event_input_height": piece.sensor_size[0],
        "event_input_width": piece.sensor_size[1],
        "first_t": piece.frames.first_t,
        "sha256": sha256,
        "tool_version": _tool_version(),
        **columns,
    }


def _is_current(piece: Piece, attributes: Mapping[str, Any]) -> bool:
    found, shape = _stored(piece.target)
    keys = (*attributes, "event_columns")  # files that were made without this setting do not have it
    return shape == piece.shape and all(found.get(key) == attributes.get(key) for key in keys)


def _check_leftovers(source: Source, plan: Plan, targets: set[Place], sha256: str) -> None:
    """Raise an error if `output` contains tensor files that were made from the same recording with other cuts.

    With such files, the same frames could be in two splits.
    """
    stem = source.stem
    for split in SPLITS:
        for path in (plan.output / split).glob(f"{escape(stem)}*.h5"):
            if path in targets or not re.fullmatch(rf"{re.escape(stem)}(_\d+_\d+)?\.h5", path.name):
                continue
            if _stored(path)[0].get("sha256") == sha256:
                raise ValueError(
                    f"{path}: made earlier from {source.recording} with other cuts, remove it or give another output"
                )


def _stored(path: Place) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Return the attributes and the shape of a tensor file.

    Both are empty if the file is missing or damaged; the build then makes the file again.
    """
    with suppress(OSError, KeyError, ValueError), path.open("rb") as raw, open_hdf5(path, raw) as file:
        return dict(file["data"].attrs), file["data"].shape
    return {}, ()


def _tool_version() -> str:
    try:
        return version("evforge")
    except PackageNotFoundError:  # not installed, but used from the source folder
        return "unknown"
