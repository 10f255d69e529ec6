"""Plan of a build: the tensor files that will be made, and all checks that do not read events."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from detector.config.groups import DataConfig
from detector.data.builder.image_times import image_times_note
from detector.data.builder.label_counts import LabelCounts, count_labels
from detector.data.builder.source import Source
from detector.data.builder.split_counts import count_split
from detector.data.layout import LABELS_END, SPLITS
from detector.events import EventReader, open_events
from detector.events.frames import Frames
from detector.labels import FoundLabels, LabelTiming, recording_labels
from detector.labels.find import is_prediction
from detector.preprocess.representation import representation_of
from detector.utils.remote import Address, Place

__all__ = [
    "BROKEN",
    "Cuts",
    "Piece",
    "Plan",
    "check_plan",
    "local_files",
    "open_recording",
    "plan_pieces",
]

Cuts = Mapping[str, tuple[float, float]]
"""For each split, the part of every recording to use: start and end in seconds from the start of the stream."""

BROKEN = (ValueError, FileNotFoundError)
"""Errors that mean that a recording or its labels cannot be used. A full disk, for example, is a different error."""

CUT_SLACK_US = 1_000_000
"""Longest time in microseconds by which a cut may end after the last event.

This allows, for example, a cut from 24 to 30 s in a recording whose last event is at 29.9 s.
"""


@dataclass(frozen=True)
class Plan:
    """Parameters of a build, the same for all recordings.

    Args:
        output: dataset folder
        data: settings that determine how tensors are made
        cuts: for each split, start and end in seconds of the part of every recording to use; None for whole recordings
        names: dict from class id to name
        sensor: height and width of the sensor, for recordings that do not state them
        timing: how the label times are determined
    """

    output: Place
    data: DataConfig
    cuts: Cuts | None
    names: Mapping[int, str]
    sensor: tuple[int | None, int | None] = (None, None)
    timing: LabelTiming = LabelTiming()


@dataclass(frozen=True)
class Piece:
    """A tensor file that will be made from a recording or from a part of a recording.

    Args:
        recording: path of the recording, or of its copy on this machine
        target: path or address of the tensor file
        frames: start, duration and number of the frames of the tensor file
        labels: (M,) `BBOX_dtype` boxes of these frames in sensor pixels, with the times of the recording
        sensor_size: height and width of the sensor
        downsampling: exponent k; a frame has the height and width of the sensor divided by 2^k
        channels: number of channels of a frame
        data: settings of the tensors and formats
    """

    recording: Path
    target: Place
    frames: Frames
    labels: np.ndarray
    sensor_size: tuple[int, int]
    downsampling: int
    channels: int
    data: DataConfig

    @property
    def labels_target(self) -> Place:
        """Path or address of the label file that will be made, in the folder of the tensor file."""
        return self.target.parent / f"{self.target.stem}_bbox.npy"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (T, C, H, W) of the tensors."""
        height, width = self.sensor_size
        return self.frames.num_frames, self.channels, height >> self.downsampling, width >> self.downsampling


def check_plan(sources: Sequence[Source], plan: Plan) -> None:
    """Check everything that can be checked without opening a recording.

    Raises:
        ValueError: cuts are not valid, the folder of a recording is not a split, two recordings would have the same
            tensor file, or the build would overwrite the label file of a recording.
    """
    _check_cuts(plan.cuts)
    owners: dict[Place, Place] = {}
    own = {source.recording.parent.resolve() / f"{source.stem}{LABELS_END}" for source in sources}
    for source in sources:
        for split in plan.cuts or [_split_of(source)]:
            target = plan.output / split / source.stem
            if target in owners:
                raise ValueError(f"{owners[target]} and {source.recording} would both become {target}")
            owners[target] = source.recording
            replaced = target.parent / f"{target.name}{LABELS_END}"
            if replaced.resolve() in own and not plan.cuts:
                raise ValueError(f"{replaced}: would replace a recording's own labels, give another output")


@contextmanager
def local_files(source: Source, label_format: str) -> Iterator[Source]:
    """Context manager that yields the source with a recording and labels on this machine.

    If the recording is at a remote address, both files are temporary copies that exist until the end of the block.

    Raises:
        FileNotFoundError: the recording does not exist or has no labels.
        ValueError: the block used copies and raised one of the errors `BROKEN`. The message contains the address of
            the recording instead of the path of the copy.
    """
    recording = source.recording
    if isinstance(recording, Path):
        yield source
        return
    if not recording.is_file():
        raise FileNotFoundError(f"{recording}: no such recording")
    found = source.find_labels(label_format)
    with TemporaryDirectory(prefix="evforge-") as temporary:
        folder = Path(temporary) / recording.parent.name
        folder.mkdir(exist_ok=True)
        for file in (recording, found.path):
            if isinstance(file, Address):
                file.get(folder / file.name)
        local = found.path if isinstance(found.path, Path) else folder / found.path.name
        try:
            copied = replace(source, recording=folder / recording.name, labels=local, label_format=found.label_format)
            yield replace(copied, name=source.stem, split=source.split or recording.parent.name)
        except BROKEN as error:
            raise ValueError(str(error).replace(str(folder), str(recording.parent))) from None


def open_recording(recording: Path, sensor: tuple[int | None, int | None], data: DataConfig) -> EventReader:
    """Open a recording with the event format, the order of columns and the limit of faulty events that `data` sets.

    `sensor` is the height and width for recordings that do not state them. Errors are described in
    `detector.events.open_events`.
    """
    return open_events(
        recording,
        *sensor,
        max_faulty_events=data.max_faulty_events,
        event_format=data.event_format,
        event_columns=data.event_columns,
    )


def plan_pieces(source: Source, plan: Plan) -> tuple[list[Piece], LabelCounts]:
    """Plan the tensor files of a recording on this machine, and count its labels.

    Returns:
        The tensor files to make, and the numbers of labels that are not used.

    Raises:
        FileNotFoundError: the recording or its label file is missing.
        ValueError: the recording, its labels, a cut or a size is not valid.
    """
    recording, data = source.recording, source.settings(plan.data)
    assert isinstance(recording, Path)
    with open_recording(recording, source.sensor or plan.sensor, data) as reader:
        first, last = reader.first_t, reader.last_t
        if first is None or last is None:
            raise ValueError(f"{recording}: the recording holds no events, allowed: at least one")
        sensor_size = reader.height, reader.width
        downsampling = _downsampling(reader, data)
        grid = Frames.of_events(first, last, data.delta_t)
        ranges = list(_frame_ranges(source, grid.num_frames, data.delta_t, plan.cuts))
        found = source.find_labels(data.label_format)
        timing = source.timing or plan.timing
        labels, notes = recording_labels(str(found.path), found.label_format, reader, timing, plan.names)
    notes = (*notes, *image_times_note(labels, found, timing, (first, last)))
    parts = [grid.part(begin, stop) for _, begin, stop in ranges]
    counts = count_labels(
        labels,
        str(found.path),
        Frames(grid.first_t, grid.delta_t, max(grid.num_frames, *(stop for _, _, stop in ranges))),
        (first, last),
        cuts=parts if plan.cuts else None,
        names=plan.names,
        sensor_size=sensor_size,
        scale=0.5**downsampling,
        min_box_diag=data.min_box_diag,
        min_box_side=data.min_box_side,
        time_unit=timing.time_unit,
    )
    _check_counts(counts, labels, grid, plan.names)
    pieces = [
        Piece(
            recording=recording,
            target=plan.output / split / f"{source.stem}{f'_{part.first_t}_{part.end}' if plan.cuts else ''}.h5",
            frames=part,
            labels=labels[part.inside(labels["t"])],
            sensor_size=sensor_size,
            downsampling=downsampling,
            channels=representation_of(data).channels,
            data=data,
        )
        for (split, _, _), part in zip(ranges, parts, strict=True)
    ]
    splits = [
        count_split(split, piece.frames, labels, plan.names, sensor_size)
        for (split, _, _), piece in zip(ranges, pieces, strict=True)
    ]
    return pieces, replace(counts, label_format=found.label_format, notes=_notes(found, notes), splits=tuple(splits))


def _notes(found: FoundLabels, notes: Sequence[str]) -> tuple[str, ...]:
    notes = list(notes)
    if is_prediction(found.path):
        notes.append("these boxes are detections of a model; other labels are used by --labels PATH")
    if found.others:
        notes.append(f"not used: {', '.join(path.name for path in found.others)}; select one by --labels PATH")
    return tuple(notes)


def _check_counts(counts: LabelCounts, labels: np.ndarray, grid: Frames, names: Mapping[int, str]) -> None:
    """Raise an error if all labels are outside the recording, or if all labels are of unknown classes."""
    if counts.boxes and counts.before + counts.after == counts.boxes:
        raise ValueError(
            f"{counts.source}: labels from {labels['t'][0]} to {labels['t'][-1]} us, allowed: within the recording, "
            f"{grid.first_t} to {grid.end} us{''.join(f'; {cause}' for cause in counts.causes)}"
        )
    if counts.boxes and counts.unknown == counts.boxes:
        known = ", ".join(f"{key} {name}" for key, name in names.items())
        raise ValueError(
            f"{counts.source}: class_id {labels['class_id'].min()} is not in the label map, allowed: {known}"
        )


def _frame_ranges(source: Source, length: int, delta_t: int, cuts: Cuts | None) -> Iterator[tuple[str, int, int]]:
    """Yield (split, first frame, last frame + 1) for each part of a recording of `length` frames."""
    if not cuts:
        yield _split_of(source), 0, length
        return
    recording = source.recording
    for split, (begin_s, end_s) in cuts.items():
        begin, end = (round(seconds * 1e6 / delta_t) for seconds in (begin_s, end_s))
        if begin >= length or (end - length) * delta_t > CUT_SLACK_US:
            raise ValueError(
                f"{recording}: cut {split} {begin_s:g} to {end_s:g} s, "
                f"allowed: within the recording, 0 to {length * delta_t / 1e6:g} s"
            )
        if begin == end:
            raise ValueError(f"cut {split}: got {begin_s:g} to {end_s:g} s, allowed: at least a frame of {delta_t} us")
        yield split, begin, end


def _split_of(source: Source) -> str:
    """Return the split of a recording, by default the name of its folder. Raise an error if it is not a split."""
    split = source.split or source.recording.absolute().parent.name
    if split not in SPLITS:
        allowed = f"{', '.join(SPLITS)}, or cuts by --train, --val and --test"
        raise ValueError(f"{source.recording}: its folder {split} is not a split, allowed: {allowed}")
    return split


def _downsampling(reader: EventReader, data: DataConfig) -> int:
    """Return k such that the sensor size divided by 2^k is the frame size in `data`. Raise an error if no k fits."""
    k = 0
    for wanted, side in ((data.height, reader.height), (data.width, reader.width)):
        k = max(k, int(math.log2(max(1, side // wanted)))) if wanted else k
    size = reader.height >> k, reader.width >> k
    whole = (size[0] << k, size[1] << k) == (reader.height, reader.width)
    if not whole or (data.height or size[0], data.width or size[1]) != size:
        powers = [n for n in range(4) if not (reader.height | reader.width) % (1 << n)]
        sizes = ", ".join(f"{reader.height >> n} x {reader.width >> n}" for n in powers)
        raise ValueError(
            f"data.height, data.width: got {data.height}, {data.width} for {reader.path}, "
            f"allowed: the sensor's size divided by a power of two: {sizes}"
        )
    return k


def _check_cuts(cuts: Cuts | None) -> None:
    for split, (begin, end) in (cuts or {}).items():
        if split not in SPLITS:
            raise ValueError(f"cuts: unknown split {split}, allowed: {', '.join(SPLITS)}")
        if not (math.isfinite(begin) and math.isfinite(end) and 0 <= begin < end):
            raise ValueError(f"cut {split}: got {begin} to {end} s, allowed: 0 <= start < end")
    ordered = sorted((cuts or {}).items(), key=lambda item: item[1])
    for (split, (_, end)), (following, (begin, _)) in zip(ordered, ordered[1:], strict=False):
        if begin < end:
            raise ValueError(f"cuts: {split} ends at {end:g} s, {following} starts at {begin:g} s, allowed: no overlap")
