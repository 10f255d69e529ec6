"""A whole recording through a detector, to files of boxes and films."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from detector.events import EventReader, Faults, open_events
from detector.events.faults import MAX_FAULTY
from detector.inference.predictor import Events, Frame, Predictor
from detector.inference.writers import BOX_FILES, AddFrame, Scene
from detector.utils.decoration import decoration

__all__ = ["Summary", "predict"]

FILM_ENDINGS = (".gif", ".mp4")


class Summary(NamedTuple):
    """What came of a recording.

    Args:
        frames: number of frames
        boxes: number of boxes
        recorded_s: seconds of recording in the frames
        seconds: how long they took
        faults: faulty events of a recording
    """

    frames: int
    boxes: int
    recorded_s: float
    seconds: float
    faults: Faults = Faults()

    @property
    def real_time_factor(self) -> float:
        """Seconds of recording done in a second; from 1 on a live stream is followed."""
        return self.recorded_s / self.seconds

    def text(self) -> str:
        """One line for people."""
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
    max_faulty_events: float = MAX_FAULTY,
) -> Summary:
    """Detect in a recording or live stream, and write what was found while it is found.

    Args:
        recording: path of a recording, an open one, or chunks of events.
        predictor: the detector.
        outputs: files to write, by their endings `BOX_FILES`: `.npy`, `.csv`, `.json` (COCO), `.gif`, `.mp4`.
        progress: show a bar with the real-time factor.
        max_faulty_events: part of the events of a recording's file that may be faulty, see `open_events`.

    Returns:
        Counts and speed, without the time to load the model.

    Raises:
        FileNotFoundError: there is no such recording.
        ValueError: the recording is empty, broken or does not fit the model, or an output would replace a file that
            it is made of or has an unknown ending.
    """
    paths = [Path(output) for output in outputs]
    _check_outputs(paths, recording)
    with ExitStack() as stack:
        events = recording
        if isinstance(events, str | Path):
            sensor = predictor.height, predictor.width
            events = stack.enter_context(open_events(events, *sensor, max_faulty_events=max_faulty_events))
        faults = events.faults if isinstance(events, EventReader) else Faults()
        films = [path for path in paths if path.suffix.lower() in FILM_ENDINGS]
        steps = predictor.frames([events], histograms=bool(films))
        scene = Scene(predictor.classes, predictor.delta_t, *predictor.sensor_size(events))
        writers = [stack.enter_context(_open(path, scene)) for path in paths if path not in films]
        for path in films:  # which fail alone, where there are boxes that would be lost with them
            writer = _open(path, scene)
            writers.append(stack.enter_context(_decorative(path, writer) if len(films) < len(paths) else writer))
        bar = stack.enter_context(tqdm(total=_length(events, scene.delta_t), unit="frame", disable=not progress))
        found = _follow(steps, writers, scene.delta_t, bar)
        if not found.frames:
            raise ValueError(f"{_name(recording)}: no events, allowed: at least one")
    return found._replace(faults=faults)


def _follow(steps: Iterator[list[Frame | None]], writers: Sequence[AddFrame], delta_t: int, bar: tqdm) -> Summary:
    begin = time.perf_counter()
    found = Summary(0, 0, 0.0, 0.0)
    for (frame,) in steps:
        assert frame is not None  # the only stream
        for add in writers:
            add(*frame)
        frames, seconds = found.frames + 1, time.perf_counter() - begin
        found = Summary(frames, found.boxes + frame.boxes.size, frames * delta_t / 1e6, seconds)
        bar.set_postfix_str(f"{found.real_time_factor:.2f} x real time", refresh=False)
        bar.update()
    return found


@contextmanager
def _decorative(path: Path, writer: AbstractContextManager[AddFrame]) -> Iterator[AddFrame]:
    """A writer whose first error is a warning and ends its work."""
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
    """Number of frames, None where only the end will tell."""
    if not isinstance(events, EventReader) or events.first_t is None or events.last_t is None:
        return None
    return events.last_t // delta_t - events.first_t // delta_t + 1


def _check_outputs(paths: Sequence[Path], recording: str | Path | Events) -> None:
    for path in paths:
        if path.suffix.lower() not in BOX_FILES:
            raise ValueError(f"{path}: unknown kind of output, allowed: names ending in {', '.join(BOX_FILES)}")
        if paths.count(path) > 1:
            raise ValueError(f"{path}: given twice as an output, allowed: different files")
    source = getattr(recording, "path", recording)
    if isinstance(source, str | Path):
        source = Path(source)
        labels = source.with_name(f"{source.stem.removesuffix('_td')}_bbox.npy")
        for path in paths:
            if path.exists() and path.resolve() in (source.resolve(), labels.resolve()):
                raise ValueError(f"{path}: the recording or its labels would be lost, allowed: another output")


def _name(recording: str | Path | Events) -> str:
    source = getattr(recording, "path", recording)
    return str(source) if isinstance(source, str | Path) else "events"
