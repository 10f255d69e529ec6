"""Which tensor files a dataset is to be made of, and every check that needs no reading of events."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.config import LABEL_MAP_NAME, read_label_map
from detector.events import EventReader, load_labels, open_events
from detector.settings import PREPROCESS_CHANNELS, DataConfig

__all__ = ["SPLITS", "Cuts", "Piece", "find_label_map", "plan_pieces"]

SPLITS = ("train", "val", "test")

Cuts = Mapping[str, tuple[float, float]]
"""Split -> (start, end) in seconds from a stream's start."""

CUT_SLACK_US = 1_000_000
"""A cut may end this long after the last event: "24 to 30 s" of a recording whose events cease at 29.9 s."""


@dataclass(frozen=True)
class Piece:
    """One tensor file to be made.

    Args:
        recording: source of the events
        labels_source: label file of the recording
        target: the tensor file
        start: start of the first frame in microseconds of recording time
        num_frames: number of frames
        labels: boxes of these frames, sensor pixels and recording time
        sensor_size: height and width of the sensor
        downsampling: k of the tensors' size, the sensor's divided by 2^k
        channels: channels of a frame
    """

    recording: Path
    labels_source: Path
    target: Path
    start: int
    num_frames: int
    labels: np.ndarray
    sensor_size: tuple[int, int]
    downsampling: int
    channels: int

    @property
    def labels_target(self) -> Path:
        """The label file beside the tensor file."""
        return self.target.with_name(f"{self.target.stem}_bbox.npy")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """T, C, H, W."""
        height, width = self.sensor_size
        return self.num_frames, self.channels, height >> self.downsampling, width >> self.downsampling


def plan_pieces(
    recordings: Sequence[Path], output: Path, data: DataConfig, cuts: Cuts | None, names: Mapping[int, str]
) -> list[Piece]:
    """Open each recording and its labels, and lay down what they become.

    Args:
        recordings: files that `open_events` reads.
        output: dataset folder.
        data: how tensors are made.
        cuts: parts of each recording; whole recordings if None.
        names: class names by id.

    Raises:
        FileNotFoundError: a recording or its labels are missing.
        ValueError: a recording, its labels, a cut or a size does not fit, or two files would get one name.
    """
    _check_cuts(cuts)
    pieces = [piece for recording in recordings for piece in _plan(recording, output, data, cuts, names)]
    owners: dict[Path, Path] = {}
    sources = {piece.labels_source.resolve() for piece in pieces}
    for piece in pieces:
        if piece.target in owners:
            raise ValueError(f"{owners[piece.target]} and {piece.recording} would both become {piece.target}")
        owners[piece.target] = piece.recording
        if piece.labels_target.resolve() in sources:
            raise ValueError(f"{piece.labels_target}: would replace a recording's own labels, give another output")
    return pieces


def find_label_map(recordings: Iterable[Path], output: Path, given: Mapping[int, str] | None) -> dict[int, str]:
    """The dataset's label map: the one given, or those beside the recordings or one folder above, all equal.

    Raises:
        FileNotFoundError: none is given and a recording has none.
        ValueError: two differ (that of an existing `output` included), or it is empty.
    """
    found = {} if given is None else {"label_map": dict(sorted(given.items()))}
    for recording in recordings if given is None else ():
        paths = [folder / LABEL_MAP_NAME for folder in recording.absolute().parents[:2]]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise FileNotFoundError(
                f"{recording}: no {LABEL_MAP_NAME} beside it or one folder above; "
                'put one there, like {"0": "pedestrian"}, or give label_map'
            )
        found[str(path)] = read_label_map(path)
    if (output / LABEL_MAP_NAME).is_file():
        found[str(output / LABEL_MAP_NAME)] = read_label_map(output / LABEL_MAP_NAME)
    (source, first), *others = found.items()
    for other, names in others:
        if names != first:
            raise ValueError(f"{other}: label map {names} differs from {first} of {source}, allowed: one for all")
    if not first:
        raise ValueError(f"{source}: the label map is empty, allowed: at least one class")
    return first


def _plan(
    recording: Path, output: Path, data: DataConfig, cuts: Cuts | None, names: Mapping[int, str]
) -> Iterator[Piece]:
    with open_events(recording) as reader:
        first, last = reader.first_t, reader.last_t
        sensor_size = reader.height, reader.width
        downsampling = _downsampling(reader, data)
    if first is None or last is None:
        raise ValueError(f"{recording}: the recording holds no events, allowed: at least one")
    stem = recording.stem.removesuffix("_td")
    start = first // data.delta_t * data.delta_t
    length = (last - start) // data.delta_t + 1
    labels_source = recording.with_name(f"{stem}_bbox.npy")
    labels = _load_labels(recording, labels_source, names)
    end = start + length * data.delta_t
    if labels.size and not _within(labels, start, end).size:
        raise ValueError(
            f"{labels_source}: labels from {labels['t'][0]} to {labels['t'][-1]} us, "
            f"allowed: within the recording, {start} to {end} us"
        )
    for split, begin, stop in _frame_ranges(recording, length, data.delta_t, cuts):
        t0, t1 = start + begin * data.delta_t, start + stop * data.delta_t
        yield Piece(
            recording=recording,
            labels_source=labels_source,
            target=output / split / (f"{stem}_{t0}_{t1}.h5" if cuts else f"{stem}.h5"),
            start=t0,
            num_frames=stop - begin,
            labels=_within(labels, t0, t1),
            sensor_size=sensor_size,
            downsampling=downsampling,
            channels=PREPROCESS_CHANNELS[data.preprocess],
        )


def _frame_ranges(recording: Path, length: int, delta_t: int, cuts: Cuts | None) -> Iterator[tuple[str, int, int]]:
    """(split, first frame, frame after the last) of the parts of a recording of `length` frames."""
    if not cuts:
        split = recording.absolute().parent.name
        if split not in SPLITS:
            raise ValueError(f"{recording}: its folder {split} is no split, allowed: {', '.join(SPLITS)}, or cuts")
        yield split, 0, length
        return
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


def _load_labels(recording: Path, path: Path, names: Mapping[int, str]) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{recording}: the recording has no labels: {path.name} is missing beside it")
    labels = load_labels(path)
    unknown = sorted(set(np.unique(labels["class_id"]).tolist()) - set(names))
    if unknown:
        known = ", ".join(f"{key} {name}" for key, name in names.items())
        raise ValueError(f"{path}: class_id {unknown[0]} is not in the label map, allowed: {known}")
    return labels


def _within(labels: np.ndarray, start: int, end: int) -> np.ndarray:
    """A frame's labels come after its start, up to and with its end."""
    return labels[(labels["t"] > start) & (labels["t"] <= end)]


def _downsampling(reader: EventReader, data: DataConfig) -> int:
    """k such that the tensors have the sensor's size divided by 2^k."""
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
