"""Survey a recording or tensor file: compute statistics and read sampled frames."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.config.groups import DataConfig
from detector.data.builder.label_counts import LabelCounts, count_labels
from detector.data.check.inventory import DataFile, TensorHeader, read_tensor_header
from detector.data.check.statistics import (
    BIN_US,
    Advance,
    EventStatistics,
    LabelStatistics,
    label_statistics,
    scan_events,
)
from detector.data.targets import scale_labels
from detector.events import EventReader, Faults
from detector.events.frames import Frames
from detector.preprocess import histo
from detector.utils.hdf5_file import open_hdf5

__all__ = ["FileSurvey", "frame_labels", "sample_frames", "survey_file"]

NUM_SAMPLES = 64
"""Number of evenly spread frames of a file in which active pixels are counted."""


@dataclass(frozen=True)
class FileSurvey:
    """Statistics of a recording or tensor file and of its labels.

    Args:
        file: the recording or tensor file
        format: name of the format of a recording, such as DAT or EVT3, or "tensors"
        sensor_size: height and width of the sensor in pixels
        network_size: height and width of the network's frames in pixels
        span: start and end of the frames of a tensor file, or times of the first and last event, in microseconds
        delta_t: duration in microseconds of a frame of a tensor file, or of a bin of a recording
        sample_times: (S,) times in microseconds at which the sampled frames end
        active: (S,) share of the pixels with events in each sampled frame
        labels: statistics of the labels, None if there is no label file
        label_counts: numbers of labels that are not used, None if they were not counted
        events: statistics of the events of a recording, None for a tensor file
        edges: number of rising edges and number of falling edges of the trigger inputs of a recording
        faults: numbers of faulty events of a recording
        header: header of a tensor file, None for a recording
    """

    file: DataFile
    format: str
    sensor_size: tuple[int, int]
    network_size: tuple[int, int]
    span: tuple[int, int]
    delta_t: int
    sample_times: np.ndarray
    active: np.ndarray
    labels: LabelStatistics | None
    label_counts: LabelCounts | None = None
    events: EventStatistics | None = None
    edges: tuple[int, int] = (0, 0)
    faults: Faults = Faults()
    header: TensorHeader | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames of a tensor file, or of bins of a recording."""
        return self.events.counts.size if self.events else self.header.shape[0] if self.header else 0

    @property
    def seconds(self) -> float:
        """Duration of `span` in seconds."""
        return (self.span[1] - self.span[0]) / 1e6


def survey_file(
    file: DataFile, data: DataConfig, names: Mapping[int, str], advance: Advance = lambda part: None
) -> FileSurvey:
    """Compute statistics of a file and of its labels, if it has labels.

    All events of a recording are read, but only some frames of a tensor file.

    Args:
        file: the recording or tensor file.
        data: `delta_t` is the duration of a frame for tensor files that do not state it, and for the label counts of
            recordings. `width` is the width of the network's frames for recordings; if it is not set, the width of the
            sensor is used.
        names: dict from class id to name.
        advance: function called after each step with the share of the file that was read in this step.

    Raises:
        ValueError: the file or its labels are damaged.
    """
    if not file.is_tensor:
        return _survey_recording(file, data, names, advance)
    header = read_tensor_header(file.path)
    num_frames, _, height, width = header.shape
    delta_t = header.delta_t or data.delta_t
    grid = Frames(header.first_t, delta_t, num_frames)
    ends = grid.first_t + (_spread(num_frames) + 1) * delta_t
    shares = _active_shares(sample_frames(file, ends, delta_t))
    advance(1.0)
    return FileSurvey(
        file=file,
        format="tensors",
        sensor_size=header.sensor_size,
        network_size=(height, width),
        span=(grid.first_t, grid.end),
        delta_t=delta_t,
        sample_times=ends,
        active=shares,
        **_survey_labels(file, names, header.sensor_size, (height, width), grid),
        header=header,
    )


def sample_frames(file: DataFile, ends: Iterable[int], delta_t: int = BIN_US) -> Iterator[np.ndarray]:
    """Read one frame of a file for each of the given times.

    Args:
        file: the recording or tensor file.
        ends: times in microseconds.
        delta_t: duration of a frame in microseconds.

    Yields:
        For a tensor file, the frame (C, H, W) with start < time <= end, or the first or last frame if the time is
        outside the file. For a recording, a histogram (2, H, W) uint8 of the events in the `delta_t` microseconds
        before the time.
    """
    if file.is_tensor:
        first_t = read_tensor_header(file.path).first_t
        with open_hdf5(file.path) as tensors:
            frames = tensors["data"]
            grid = Frames(first_t, delta_t, len(frames))
            for index in grid.find(np.clip(list(ends), grid.first_t + 1, grid.end)):
                yield frames[index]
    else:
        with file.open_events() as reader:
            for end in ends:
                yield _histogram(reader, int(end) - delta_t, delta_t)


def frame_labels(survey: FileSurvey, names: Mapping[int, str] | None = None) -> np.ndarray:
    """Read the boxes of a file, without the boxes of class "empty".

    Args:
        survey: the file.
        names: dict from class id to name.

    Returns:
        (M,) `BBOX_dtype`, sorted by t, in pixels of the frames that `sample_frames` yields.
    """
    labels = survey.file.load_labels(names or None)
    boxes = labels[~np.isin(labels["class_id"], [key for key, name in (names or {}).items() if name == "empty"])]
    height, width = survey.network_size if survey.file.is_tensor else survey.sensor_size
    return scale_labels(boxes, width / survey.sensor_size[1], height, width)


def _survey_recording(file: DataFile, data: DataConfig, names: Mapping[int, str], advance: Advance) -> FileSurvey:
    with file.open_events() as reader:
        size, faults, event_format = (reader.height, reader.width), reader.faults, reader.format
        scale = (data.width or reader.width) / reader.width
        network = round(reader.height * scale), round(reader.width * scale)
        events = scan_events(reader, advance)
        edges = reader.triggers()["p"]
    ends = events.start + (_spread(events.counts.size) + 1) * BIN_US
    span = events.first_t or 0, events.last_t or 0
    grid = Frames.of_events(*span, data.delta_t) if events.num_events else None
    return FileSurvey(
        file=file,
        format=event_format,
        sensor_size=size,
        network_size=network,
        span=span,
        delta_t=BIN_US,
        sample_times=ends,
        active=_active_shares(sample_frames(file, ends)),
        **_survey_labels(file, names, size, network, grid, span),
        events=events,
        edges=(int(np.count_nonzero(edges)), int(np.count_nonzero(edges == 0))),
        faults=faults,
    )


def _survey_labels(
    file: DataFile,
    names: Mapping[int, str],
    sensor_size: tuple[int, int],
    network_size: tuple[int, int],
    grid: Frames | None,
    events: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return the fields `labels` and `label_counts` of a `FileSurvey` as keyword arguments."""
    if file.found_labels is None:
        return {"labels": None}
    labels = file.load_labels(names or None)
    statistics = label_statistics(labels, names, network_size[1] / sensor_size[1], *network_size)
    if grid is None:
        return {"labels": statistics}
    source = file.labels_path.name
    unit = file.timing.time_unit
    counts = count_labels(labels, source, grid, events, names=names or None, sensor_size=sensor_size, time_unit=unit)
    return {"labels": statistics, "label_counts": counts}


def _histogram(reader: EventReader, start: int, delta_t: int) -> np.ndarray:
    frames = np.empty((1, 2, reader.height, reader.width), np.uint8)
    x, y, p, t = reader.read_columns(start, start + delta_t)
    histo((x, y, p, t - start), frames, delta_t)
    return frames[0]


def _spread(count: int) -> np.ndarray:
    """Return at most `NUM_SAMPLES` different indices from 0 to `count` - 1, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, NUM_SAMPLES)).round().astype(np.int64))


def _active_shares(frames: Iterable[np.ndarray]) -> np.ndarray:
    return np.array([np.count_nonzero(frame.any(axis=0)) / frame[0].size for frame in frames])
