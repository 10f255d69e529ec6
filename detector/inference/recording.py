"""Detection in a whole recording, with output to files of boxes and videos."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from detector.config.groups import DEFAULT_DATA, DataConfig
from detector.data.builder.plan import open_recording
from detector.events import EventReader, Faults
from detector.inference.predictor import Events, Frame, Predictor
from detector.inference.writers import BOX_FILES, AddFrame, Scene, video_file
from detector.labels import find_labels
from detector.labels.find import is_prediction
from detector.utils.decoration import decoration

__all__ = ["Summary", "predict"]


class Summary(NamedTuple):
    """Statistics of the detection in a recording: number of frames and boxes, and speed.

    Args:
        frames: number of frames
        boxes: number of detected boxes in all frames
        recorded_s: total duration of the frames in seconds
        seconds: computing time in seconds
        faults: number of faulty events of each kind; all 0 for chunks of events
    """

    frames: int
    boxes: int
    recorded_s: float
    seconds: float
    faults: Faults = Faults()

    @property
    def real_time_factor(self) -> float:
        """Seconds of recording per second of computing. If at least 1, the detector keeps up with a live stream."""
        return self.recorded_s / self.seconds

    def text(self) -> str:
        """Return the summary as one line of text."""
        faults = f"; faulty events: {self.faults}" if self.faults.total else ""
        return (
            f"{self.boxes} boxes in {self.frames} frames, {self.recorded_s:.1f} s of recording "
            f"in {self.seconds:.1f} s: {self.real_time_factor:.2f} x real time{faults}"
        )


def predict(
    recording: str | Path | Events,
    predictor: Predictor,
    outputs: Sequence[str | Path],
    *,
    progress: bool = True,
    data: DataConfig = DEFAULT_DATA,
) -> Summary:
    """Detect objects in a recording or live stream, and write the detections frame by frame.

    Args:
        recording: path of a recording, an open recording, or chunks of events.
        predictor: the detector.
        outputs: files to write. The suffix selects the format: `.npy`, `.csv`, `.json` (COCO), `.gif` or `.mp4`.
        progress: whether to show a progress bar with the real-time factor.
        data: settings, of which `event_format`, `event_columns`, `label_format` and `max_faulty_events` are used.

    Returns:
        Number of frames and boxes, and speed. The time to load the model is not included.

    Raises:
        FileNotFoundError: there is no such recording.
        ValueError: the recording is empty, damaged or does not fit the model, or an output has an unknown suffix, is
            given twice, or would replace the recording or its labels.
    """
    paths = [Path(output) for output in outputs]
    given = getattr(recording, "path", recording)
    source = Path(given) if isinstance(given, str | Path) else None
    _check_outputs(paths, source, data.label_format)
    with ExitStack() as stack:
        events = recording
        if isinstance(events, str | Path):
            sensor = predictor.height, predictor.width
            events = stack.enter_context(open_recording(Path(events), sensor, data))
        faults = events.faults if isinstance(events, EventReader) else Faults()
        videos = [path for path in paths if BOX_FILES[path.suffix.lower()] is video_file]
        steps = predictor.frames([events], histograms=bool(videos))
        name = source.name if source else ""
        scene = Scene(predictor.classes, predictor.delta_t, *predictor.sensor_size(events), name)
        writers = [stack.enter_context(_open(path, scene)) for path in paths if path not in videos]
        for path in videos:  # if there are files of boxes, too, an error in a video must not lose the boxes
            writer = _open(path, scene)
            writers.append(stack.enter_context(_decorative(path, writer) if len(videos) < len(paths) else writer))
        bar = stack.enter_context(
            tqdm(total=_length(events, scene.delta_t), unit="frame", disable=not progress or None)
        )
        found = _follow(steps, writers, scene.delta_t, bar)
        if not found.frames:
            raise ValueError(f"{source or 'events'}: no events, allowed: at least one")
    return found._replace(faults=faults)


def _follow(steps: Iterator[list[Frame | None]], writers: Sequence[AddFrame], delta_t: int, bar: tqdm) -> Summary:
    begin = time.perf_counter()
    found = Summary(0, 0, 0.0, 0.0)
    for (frame,) in steps:
        assert frame is not None  # the only stream has not ended
        for add in writers:
            add(*frame)
        frames, seconds = found.frames + 1, time.perf_counter() - begin
        found = Summary(frames, found.boxes + frame.boxes.size, frames * delta_t / 1e6, seconds)
        bar.set_postfix_str(f"{found.real_time_factor:.2f} x real time", refresh=False)
        bar.update()
    return found


@contextmanager
def _decorative(path: Path, writer: AbstractContextManager[AddFrame]) -> Iterator[AddFrame]:
    """Wrap a writer so that an error in it does not stop the detection: the writer ends, and a warning is printed.

    Yields:
        Function that appends a frame, see `AddFrame`.
    """
    append, error = writer.__enter__(), None

    def add(end: int, boxes: np.ndarray, histogram: np.ndarray) -> None:
        nonlocal error
        if error is None:
            try:
                append(end, boxes, histogram)
            except Exception as found:
                error = found

    try:
        yield add
    except BaseException:
        writer.__exit__(*sys.exc_info())
        raise
    with decoration(str(path)), ExitStack() as closing:
        closing.push(writer)
        if error is not None:
            raise error


def _open(path: Path, scene: Scene) -> AbstractContextManager[AddFrame]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return BOX_FILES[path.suffix.lower()](path, scene)


def _length(events: Events, delta_t: int) -> int | None:
    """Return the number of frames of a recording; None for chunks of events, whose end is not known."""
    if not isinstance(events, EventReader) or events.first_t is None or events.last_t is None:
        return None
    return events.last_t // delta_t - events.first_t // delta_t + 1


def _check_outputs(paths: Sequence[Path], source: Path | None, label_format: str) -> None:
    found = find_labels(source, label_format) if source else None
    labels = () if found is None else (found.path, *found.others)
    inputs = [Path(file).resolve() for file in (source, *labels) if isinstance(file, Path)]
    for path in paths:
        if path.suffix.lower() not in BOX_FILES:
            raise ValueError(f"{path}: unknown kind of output, allowed: names that end in {', '.join(BOX_FILES)}")
        if paths.count(path) > 1:
            raise ValueError(f"{path}: given twice as an output, allowed: different files")
        if path.exists() and path.resolve() in inputs and (path == source or not is_prediction(path)):
            raise ValueError(f"{path}: the recording or its labels would be lost, allowed: another output")
