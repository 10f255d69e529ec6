"""Read a recording or tensor file once, find its faults, and collect what the comparison with labels needs."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from detector.data.check.alignment.activity import Activity, ActivityBuilder, choose_window
from detector.data.check.event_faults.monitor import EventMonitor
from detector.data.check.event_faults.sketch import Sketch, SketchBuilder, frame_hashes
from detector.data.check.evidence import Bars
from detector.data.check.finding import Finding, count_findings, refusal
from detector.data.check.inventory import DataFile, FileContent, TensorHeader, read_tensor_header
from detector.data.check.statistics import BIN_US, scan_events
from detector.events import EventReader
from detector.events.arrays import Columns
from detector.events.frames import Frames
from detector.utils.hdf5_file import open_hdf5

__all__ = ["Contents", "Done", "read_contents"]

Done = Callable[[int], object]
"""Function called with the number of bytes that were read since the last call."""

MAX_BYTES = 1 << 28
"""Number of bytes of frames that are read of a tensor file."""

MIN_ACTIVE = 2000
"""Smallest number of values other than 0 for a statement about empty channels."""


@dataclass(frozen=True)
class Contents:
    """What is known of a recording or tensor file after it was read.

    Args:
        content: sensor size, time grid of the frames, event times and header of the file
        findings: faults of the file, without its labels
        activity: counts of the events in the part of the file that is compared with labels; None if it is not known
        sketch: sketch of the events, or of the frames that were read; None if it is not known
        rarer_polarity: share of the events of the rarer polarity; 0.5 if it is not known
    """

    content: FileContent
    findings: list[Finding] = field(default_factory=list)
    activity: Activity | None = None
    sketch: Sketch | None = None
    rarer_polarity: float = 0.5


def read_contents(file: DataFile, times: np.ndarray, done: Done) -> Contents:
    """Read a file. An error of the file becomes a finding.

    Args:
        file: the recording or tensor file.
        times: (K,) labelled times in microseconds, sorted. They determine the part that is compared with the labels.
        done: function that is called with the number of bytes of each step.
    """
    kind = "tensor file" if file.is_tensor else "recording"
    try:
        return _read_tensors(file.path, times) if file.is_tensor else _read_recording(file, times, done)
    except (ValueError, OSError) as error:
        return Contents(FileContent(_sensor_size(file)), [refusal(file.path, f"{kind} cannot be read", error)])


def _sensor_size(file: DataFile) -> tuple[int, int] | None:
    """Return the height and width of a recording, also if its events cannot be read; None if they are not known."""
    try:
        if file.is_tensor:
            return None
        with file.open_events() as reader:
            return reader.height, reader.width
    except (ValueError, OSError):
        return None


def _read_recording(file: DataFile, times: np.ndarray, done: Done) -> Contents:
    path = file.path
    size = path.stat().st_size
    with file.open_events() as reader:
        content = FileContent((reader.height, reader.width))
        faults = reader.faults
        if reader.first_t is None or reader.last_t is None:
            return Contents(content, [Finding("error", path, "empty recording", "no events", "at least one")])
        span = reader.first_t, reader.last_t
        monitor = EventMonitor(reader.height, reader.width, span[0])
        builder = _builder(reader, times, span)

        def observe(columns: Columns) -> None:
            monitor.add(columns)
            if builder is not None:
                builder.add_events(columns)

        events = scan_events(reader, lambda part: done(int(part * size)), observe)
    findings = [Finding("warning", path, "faulty events", str(faults), "none")] if faults.total else []
    findings += monitor.findings(path, (span[1] - span[0]) / 1e6)
    content = replace(content, grid=Frames.of_events(*span, BIN_US), events=span)
    share = events.num_on / max(events.num_events, 1)
    return Contents(content, findings, builder.build() if builder else None, monitor.sketch(), min(share, 1 - share))


def _builder(reader: EventReader, times: np.ndarray, span: tuple[int, int]) -> ActivityBuilder | None:
    """Return the builder of the counts, None without labels."""
    if not times.size:
        return None
    return ActivityBuilder((reader.height, reader.width), choose_window(times, span))


def _read_tensors(path: Path, times: np.ndarray) -> Contents:
    header = read_tensor_header(path)
    content = FileContent(header.sensor_size, header.grid, None, header)
    findings = _not_finite(path, header) if header.dtype.kind == "f" else []
    if header.grid is None or not header.shape[0]:
        return Contents(content, findings)
    activity, sketch, active = _read_frames(path, header, header.grid, times)
    return Contents(content, [*findings, *_empty_channels(path, active)], activity, sketch)


def _read_frames(
    path: Path, header: TensorHeader, grid: Frames, times: np.ndarray
) -> tuple[Activity, Sketch, np.ndarray]:
    """Read frames around the labelled times, as many as `MAX_BYTES` allows.

    Returns:
        Counts of active pixels, a sketch of the frames, and the number of active pixels in each channel.
    """
    most = max(1, MAX_BYTES // max(1, int(np.prod(header.shape[1:])) * header.dtype.itemsize))
    start, end = choose_window(times, (grid.first_t, grid.end - 1), most * grid.delta_t)
    first = (start - grid.first_t) // grid.delta_t
    last = min(header.shape[0], first + most, -(-(end - grid.first_t) // grid.delta_t))
    part = grid.part(first, last)
    builder = ActivityBuilder(header.sensor_size, (part.first_t, part.end), grid.delta_t)
    hashes = SketchBuilder()
    active = np.zeros(header.shape[1], np.int64)
    with open_hdf5(path) as file:
        data = file["data"]
        for index in range(part.num_frames):
            frame = data[first + index]
            hashes.add(frame_hashes(frame))
            active += np.count_nonzero(frame, axis=(1, 2))
            builder.add_frame(index, frame.any(axis=0))
    return builder.build(), hashes.build(), active


def _empty_channels(path: Path, active: np.ndarray) -> list[Finding]:
    """Return a warning if some channels have no values other than 0 although others have many."""
    empty = np.flatnonzero(active == 0)
    if not empty.size or active.sum() < MIN_ACTIVE:
        return []
    names = ", ".join(map(str, empty))
    values = {f"channel {index}": float(count) for index, count in enumerate(active)}
    return [
        Finding(
            "warning",
            path,
            "empty channels",
            f"channels {names} of {active.size} are 0 in all frames that were read",
            "values in every channel",
            "the recording probably has events of one polarity only: check it, and build the dataset again",
            (
                Bars(
                    "Values other than 0 in each channel",
                    "values",
                    values,
                    tuple(f"channel {index}" for index in empty),
                ),
            ),
        )
    ]


def _not_finite(path: Path, header: TensorHeader) -> list[Finding]:
    with open_hdf5(path) as file:
        data = file["data"]
        frames = [index for index in range(header.shape[0]) if not np.isfinite(data[index]).all()]
    return count_findings(
        "error",
        path,
        "tensor value not finite",
        np.array(frames, np.int64),
        lambda frame: f"NaN or infinity in frame {frame}",
        "finite numbers",
    )
