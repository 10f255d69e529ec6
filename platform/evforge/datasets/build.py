"""Building whole datasets: in this process, or as Ray tasks, one recording each."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config.groups import DataConfig
from evforge import EvForgeError, last_line
from evforge.cluster.session import ray_session

if TYPE_CHECKING:
    from detector.data.builder.plan import Plan
    from detector.data.builder.recording import Step
    from detector.labels import TimeUnit
    from detector.utils.remote import Place

__all__ = ["build", "run_on_ray", "worth_ray"]

RAY_FROM_BYTES = 10**9
"""Recordings that together are smaller are done before Ray's start, some 5 s, would pay."""

REPORT_S, END_S = 1.0, 10.0
"""Seconds between two reports of a task, and for interrupted tasks to clean up."""


def build(
    recordings: Sequence[str],
    output: str,
    data: DataConfig,
    cuts: Mapping[str, tuple[float, float]] | None = None,
    label_map: dict[int, str] | None = None,
    *,
    sensor: tuple[int | None, int | None] = (None, None),
    skip_broken: bool = False,
    label_time_unit: "TimeUnit" = "us",
    label_offset: int = 0,
) -> "Place":
    """Make a dataset folder, see `detector.data.builder.dataset.build_dataset`.

    Args:
        recordings: paths, addresses, or addresses with `*`.
        output: path or address of the dataset folder.
        data: how tensors are made.
        cuts: parts of each recording, in seconds.
        label_map: class names by id.
        sensor: height and width of the sensor, for recordings that do not tell it.
        skip_broken: leave recordings out that cannot be used, and say at the end which.
        label_time_unit: unit of the label times.
        label_offset: microseconds that are added to the label times.

    Returns:
        The dataset folder.

    Raises:
        FileNotFoundError: a recording, its labels or a label map is missing.
        ValueError: something does not fit.
        EvForgeError: a task failed.
    """
    from detector.data.builder.dataset import build_dataset, run_here
    from detector.utils.remote import find_places, to_place

    # Workers of a cluster have another working folder.
    places = [place.absolute() for text in recordings for place in find_places(text)]
    reasons: list[str] = []
    folder: Any = build_dataset(
        places,
        to_place(output).absolute(),  # type: ignore[type-var]
        data,
        dict(cuts) if cuts else None,
        label_map,
        sensor=sensor,
        on_broken=reasons.append if skip_broken else None,
        run=run_on_ray if worth_ray(places) else run_here,
        label_time_unit=label_time_unit,
        label_offset=label_offset,
    )
    if reasons:
        print(f"{len(reasons)} of {len(places)} recordings skipped:", *reasons, sep="\n  ", file=sys.stderr)
    return folder


def worth_ray(recordings: Sequence["Place"]) -> bool:
    """Whether to build on Ray: several recordings, and a cluster is named or they are `RAY_FROM_BYTES` together."""
    if len(recordings) < 2:
        return False
    return "RAY_ADDRESS" in os.environ or sum(map(_size, recordings)) >= RAY_FROM_BYTES


def _size(recording: "Place") -> int:
    if not recording.is_file():
        return 0
    return recording.stat().st_size if isinstance(recording, Path) else recording.size()


def run_on_ray(recordings: Sequence["Place"], plan: "Plan") -> "Iterator[Step]":
    """Build recordings as Ray tasks, a CPU core each; no more wait for a core than there are cores.

    Closing the iterator ends the tasks.

    Raises:
        EvForgeError: a task failed for a reason that is none of its recording's, such as a full disk.
    """
    import ray

    with ray_session() as resources:
        task = ray.remote(num_cpus=1)(_report_now_and_then)
        waiting = list(reversed(recordings))
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


def _report_now_and_then(recording: "Place", plan: "Plan") -> "Iterator[Step]":
    """The steps of a recording, in a worker, but no more of them than anybody can see."""
    from detector.data.builder.recording import report_steps

    frames, last = 0, time.monotonic()
    for step in report_steps(recording, plan):
        frames += step.frames
        if step.finished or step.broken is not None or time.monotonic() - last >= REPORT_S:
            yield step._replace(frames=frames)
            frames, last = 0, time.monotonic()


def _next_step(task: Any) -> "Step | None":
    """What a task has to tell, None at its end."""
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
    """Interrupt tasks and wait until they have removed what they had begun."""
    import ray

    for task in tasks:
        with suppress(ray.exceptions.RayError):
            ray.cancel(task)
    if tasks:
        ray.wait([task.completed() for task in tasks], num_returns=len(tasks), timeout=END_S)
