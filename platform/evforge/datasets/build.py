"""Building of datasets: in this process, or as Ray tasks that build one recording each."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from detector.config.groups import DataConfig
from detector.data.builder.dataset import build_dataset, run_here
from detector.data.builder.plan import Plan
from detector.data.builder.recording import Step, report_steps
from detector.data.builder.source import Source
from detector.data.layouts import Layout, find_layout
from detector.labels import LabelTiming
from detector.utils.remote import Place, find_places, to_place
from evforge import EvForgeError, last_line
from evforge.cluster.credentials import load
from evforge.cluster.session import ray_session
from evforge.datasets.folders import find_recordings

__all__ = ["build", "run_on_ray", "worth_ray"]

RAY_FROM_BYTES = 10**9
"""Total size of the recordings from which Ray builds them. Starting Ray takes about 5 s."""

REPORT_S, END_S = 1.0, 10.0
"""Seconds between two reports of a task, and seconds that interrupted tasks have to clean up."""


def build(
    recordings: Sequence[str],
    output: str,
    data: DataConfig,
    cuts: Mapping[str, tuple[float, float]] | None = None,
    label_map: dict[int, str] | None = None,
    *,
    sensor: tuple[int | None, int | None] = (None, None),
    skip_broken: bool = False,
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    labels: str | None = None,
    layout: str | None = None,
) -> Place:
    """Build a dataset folder of tensor files from recordings. Several large recordings are built in parallel with Ray.

    Args:
        recordings: paths or addresses, which may contain the wildcard `*`, or folders with recordings at any depth.
        output: path or address of the dataset folder.
        data: settings of the tensors.
        cuts: dict from split to (start, end) in seconds of every recording. If None or empty, each whole recording
            belongs to the split that its folder is named after.
        label_map: class names by id; if None, the label map file in the folder of the recordings or one folder above.
        sensor: height and width of the sensor in pixels, for recordings that do not state them.
        skip_broken: skip recordings that cannot be used, and list them at the end.
        timing: how the label times are determined.
        labels: label file or folder of a single recording; if None, labels are searched beside each recording.
        layout: name or import path of the layout of a public dataset; `recordings` is then its folder.

    Returns:
        Path or address of the dataset folder.

    Raises:
        FileNotFoundError: a recording, its labels or a label map is missing.
        ValueError: a recording, its labels or a setting cannot be used.
        EvForgeError: a Ray task failed.
    """
    if timing.times is not None:
        timing = replace(timing, times=str(Path(timing.times).absolute()))
    if layout is None:
        sources = _sources(recordings, labels, data)
    else:
        found, root = find_layout(layout), _dataset_root(recordings, layout, labels, cuts)
        if found.find is None:
            return _convert(found, root, output)
        sources, label_map = found.find(root), label_map or dict(found.names)
    reasons: list[str] = []
    folder: Any = build_dataset(
        sources,
        to_place(output).absolute(),  # type: ignore[type-var]
        data,
        dict(cuts) if cuts else None,
        label_map,
        sensor=sensor,
        on_broken=reasons.append if skip_broken else None,
        run=run_on_ray if worth_ray([source.recording for source in sources]) else run_here,
        timing=timing,
    )
    if reasons:
        print(f"{len(reasons)} of {len(sources)} recordings skipped:", *reasons, sep="\n  ", file=sys.stderr)
    return folder


def _sources(recordings: Sequence[str], labels: str | None, data: DataConfig) -> list[Source]:
    # Absolute, because the workers of a cluster have another working folder.
    sources = [Source(place.absolute()) for text in recordings for place in _places(text, data)]
    if labels is None:
        return sources
    if len(sources) != 1:
        raise ValueError(f"--labels: got {labels} for {len(sources)} recordings, allowed: a single recording")
    return [replace(sources[0], labels=Path(labels).absolute())]


def _places(text: str, data: DataConfig) -> Sequence[Place]:
    if "://" not in text and Path(text).is_dir():
        return find_recordings(Path(text), data)
    return find_places(text)


def _dataset_root(folders: Sequence[str], layout: str, labels: str | None, cuts: object) -> Path:
    """Return the folder of a public dataset. Raise an error for arguments that are not allowed with --layout."""
    if len(folders) != 1 or not Path(folders[0]).is_dir():
        raise ValueError(f"--layout {layout}: got {', '.join(folders)}, allowed: the folder of the dataset")
    if labels is not None:
        raise ValueError(f"--labels: got {labels}, allowed: none with --layout, whose labels are found")
    if cuts:
        raise ValueError("--layout: got --train, --val or --test, allowed: none of them, as the dataset has splits")
    return Path(folders[0]).absolute()


def _convert(layout: Layout, root: Path, output: str) -> Path:
    """Convert a dataset of tensors to the dataset folder `output`, and return its path."""
    folder = to_place(output).absolute()
    if layout.convert is None or not isinstance(folder, Path):
        raise ValueError(f"--output: got {output} for a dataset of tensors, allowed: a local folder")
    layout.convert(root, folder, True)
    return folder


def worth_ray(recordings: Sequence[Place]) -> bool:
    """Return True if Ray should build the recordings.

    Ray is used for several recordings if at least one condition holds: RAY_ADDRESS is set, or the recordings have at
    least 1 GB in total.
    """
    return len(recordings) > 1 and ("RAY_ADDRESS" in os.environ or sum(map(_size, recordings)) >= RAY_FROM_BYTES)


def _size(recording: Place) -> int:
    if not recording.is_file():
        return 0
    return recording.stat().st_size if isinstance(recording, Path) else recording.size()


def run_on_ray(sources: Sequence[Source], plan: Plan) -> Iterator[Step]:
    """Build recordings as Ray tasks with one CPU core each. At most two tasks per core are submitted at a time.

    Closing the iterator ends the tasks.

    Yields:
        Progress reports (`Step`) of all recordings, in the order of their arrival.

    Raises:
        EvForgeError: a task failed for a reason other than its recording, such as a full disk.
    """
    import ray

    with ray_session() as resources:
        task = ray.remote(num_cpus=1)(_report_at_intervals)
        waiting = list(reversed(sources))
        running: list[Any] = []
        try:
            while waiting or running:
                while waiting and len(running) < 2 * max(1, resources.cpus):
                    running.append(task.remote(waiting.pop(), plan))
                (ready,), running = ray.wait(running)
                step = _next_step(ready)
                if step is not None:
                    running.append(ready)
                    yield step
        finally:
            _end(running)


def _report_at_intervals(source: Source, plan: Plan) -> Iterator[Step]:
    """Build a recording in a Ray worker, and yield its progress about once every `REPORT_S` seconds and at the end.

    The steps since the last report are combined into one step.
    """
    load()
    frames, last = 0, time.monotonic()
    for step in report_steps(source, plan):
        frames += step.frames
        if step.finished or step.broken is not None or time.monotonic() - last >= REPORT_S:
            yield step._replace(frames=frames)
            frames, last = 0, time.monotonic()


def _next_step(task: Any) -> Step | None:
    """Wait for the next progress report of a Ray task. Return None if the task has ended."""
    import ray

    try:
        return ray.get(next(task))
    except StopIteration:
        return None
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, OSError):
            raise EvForgeError(f"build: {error.cause}") from None
        raise
    except ray.exceptions.RayError as error:
        raise EvForgeError(f"build: a task failed: {last_line(str(error))}") from None


def _end(tasks: Sequence[Any]) -> None:
    """Interrupt Ray tasks and wait until they have removed their unfinished files, for at most `END_S` seconds."""
    import ray

    for task in tasks:
        with suppress(ray.exceptions.RayError):
            ray.cancel(task)
    if tasks:
        ray.wait([task.completed() for task in tasks], num_returns=len(tasks), timeout=END_S)
