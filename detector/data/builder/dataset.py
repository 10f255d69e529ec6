"""Recordings and their labels -> a dataset folder of HDF5 tensor files.

The driver, `build_dataset`, checks and counts. A recording is one unit of work, `report_steps`, which holds the events
and tensors of a few frames; who runs the units, and where, is an argument.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from detector.config.groups import DataConfig
from detector.data.builder.label_counts import LabelCounts, report_lines
from detector.data.builder.plan import BROKEN, SPLITS, Plan, check_names, find_label_map, plan_pieces
from detector.data.builder.recording import make_recording
from detector.data.label_map import LABEL_MAP_NAME
from detector.events import Faults
from detector.labels import TimeUnit
from detector.preprocess.representation import representation_of
from detector.utils.atomic_write import atomic_write, remove_dead_parts
from detector.utils.remote import Address, Place

__all__ = ["Step", "build_dataset", "report_steps", "run_here"]

Output = TypeVar("Output", Path, Address)


class Step(NamedTuple):
    """What is told while a recording is built: `frames` more are done; `finished` at its end.

    `broken` says why a recording cannot be used, which ends it, too. `faults` counts its faulty events at its end.
    `labels` are counted for one that is not on this machine; those of the others are counted before work starts.
    """

    recording: Place
    frames: int = 0
    finished: bool = False
    broken: str | None = None
    labels: LabelCounts | None = None
    faults: Faults | None = None


Runner = Callable[[Sequence[Place], Plan], Iterator[Step]]
"""Runs `report_steps` of every recording; closing the iterator ends what still runs."""


def run_here(recordings: Sequence[Place], plan: Plan) -> Iterator[Step]:
    """Build one recording after the other in this process."""
    for recording in recordings:
        yield from report_steps(recording, plan)


def build_dataset(
    recordings: Sequence[Place],
    output: Output,
    data: DataConfig,
    cuts: dict[str, tuple[float, float]] | None = None,
    label_map: dict[int, str] | None = None,
    progress: bool = True,
    *,
    sensor: tuple[int | None, int | None] = (None, None),
    on_broken: Callable[[str], None] | None = None,
    run: Runner = run_here,
    label_time_unit: TimeUnit = "us",
    label_offset: int = 0,
    on_labels: Callable[[LabelCounts], None] | None = None,
) -> Output:
    """Make `output/<split>/<stem>.h5` and `<stem>_bbox.npy` of each recording, and the label map beside the splits.

    The labels of `R.raw`, `R.dat` and `R_td.dat` are `R_bbox.npy` beside it. A stream starts at the multiple of
    `data.delta_t` at or before the first event. Labels are kept from just after a file's start to its end, in sensor
    pixels and recording time; what of them is not used is counted and printed. Whatever can be is checked before work
    starts; a finished file that was made from the same recording (by its SHA-256) with the same parameters is kept, so
    a build that was killed goes on when it is started again.

    Args:
        recordings: files that `open_events` reads, or their addresses.
        output: dataset folder, made if need be.
        data: `preprocess`, `max_incr_per_pixel`, `delta_t`; `height` and `width` of the tensors: the sensor's, or
            those divided by a power of two.
        cuts: `{"train": (0, 20), ...}` in seconds from a stream's start, rounded to whole frames; the stem of a cut
            ends in its start and end in microseconds. Without cuts each recording is kept whole, in the split that
            its folder is named after.
        label_map: class names by id; that beside or one folder above the recordings if not given.
        progress: show a progress bar.
        sensor: height and width of the sensor, for recordings that do not tell it.
        on_broken: called with the reason for each recording that cannot be used and is left out; the first one ends
            the build if not given.
        run: what runs the units of work.
        label_time_unit: unit of the label times: us, ms, s or ns.
        label_offset: microseconds that are added to the label times.
        on_labels: called with the counts of each recording's labels, which are printed to stderr if not given.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: a recording, its labels or a label map is missing.
        ValueError: something does not fit; the message names it and what is allowed.
    """
    _check_arguments(recordings, output, data)
    names = find_label_map(recordings, output, label_map)
    plan = Plan(output, data, cuts, names, sensor, label_time_unit, label_offset)
    check_names(recordings, plan)
    tally = _Tally(on_broken)
    _build(recordings, plan, tally, run, progress)
    _report_labels(list(tally.labels.values()), on_labels, progress)
    return output


def _check_arguments(recordings: Sequence[Place], output: Place, data: DataConfig) -> None:
    if not recordings:
        raise ValueError("recordings: got none, allowed: at least one recording")
    if isinstance(output, Path) and output.exists() and not output.is_dir():
        raise ValueError(f"{output}: output is a file, allowed: a folder")
    found = representation_of(data)
    highest = np.iinfo(found.dtype).max if found.counts else 0
    if found.counts and not (1 <= found.divisor <= highest and found.divisor == int(found.divisor)):
        raise ValueError(f"data.max_incr_per_pixel: got {found.divisor}, allowed: whole numbers from 1 to {highest}")


def _build(recordings: Sequence[Place], plan: Plan, tally: "_Tally", run: Runner, progress: bool) -> None:
    usable, frames = _survey(recordings, plan, tally, progress)
    with _tidy(plan.output):
        with (
            closing(run(usable, plan)) as steps,  # type: ignore[type-var]
            tqdm(total=frames, unit="frame", desc="build", disable=not progress) as bar,
        ):
            for step in steps:
                bar.update(step.frames)
                tally.count(step)
                bar.set_postfix_str(f"{tally.finished}/{len(usable)} recordings", refresh=False)
        tally.check(len(recordings))
        with atomic_write(plan.output / LABEL_MAP_NAME) as part:
            part.write_text(json.dumps({str(key): name for key, name in plan.names.items()}, indent=1) + "\n")


def _report_labels(
    labels: Sequence[LabelCounts], on_labels: Callable[[LabelCounts], None] | None, progress: bool
) -> None:
    if on_labels is not None:
        for counts in labels:
            on_labels(counts)
    elif progress or any(counts.faulty for counts in labels):
        for line in report_lines(labels):
            print(line, file=sys.stderr)


class _Tally:
    """Counts recordings; a broken one is an error unless somebody listens."""

    def __init__(self, on_broken: Callable[[str], None] | None) -> None:
        self.finished = 0
        self.labels: dict[Place, LabelCounts] = {}
        self._first_reason = ""
        self._on_broken = on_broken

    def count(self, step: Step) -> None:
        self.finished += step.finished
        if step.labels is not None:
            self.labels[step.recording] = step.labels
        if step.faults is not None and step.faults.total:
            tqdm.write(f"{step.recording}: faulty events: {step.faults}", file=sys.stderr)
        if step.broken is not None:
            self.labels.pop(step.recording, None)
            self.leave_out(ValueError(step.broken))

    def leave_out(self, error: Exception) -> None:
        if self._on_broken is None:
            raise error
        self._first_reason = self._first_reason or str(error)
        self._on_broken(str(error))

    def check(self, total: int) -> None:
        """One recording at least must be left."""
        if not self.finished:
            raise ValueError(f"none of the {total} recordings can be used, the first: {self._first_reason}")


def _survey(recordings: Sequence[Place], plan: Plan, tally: _Tally, progress: bool) -> tuple[list[Place], int | None]:
    """The recordings that can be used as far as is seen without reading their events, and the frames they become.

    What lies at an address is not copied only to be counted: with such recordings the number is unknown.
    """
    usable: list[Place] = []
    total = 0
    for recording in tqdm(recordings, unit="recording", desc="plan", leave=False, disable=not progress):
        try:
            if isinstance(recording, Path):
                pieces, counts = plan_pieces(recording, plan)
                total += sum(piece.num_frames for piece in pieces)
                tally.labels[recording] = counts
            usable.append(recording)
        except BROKEN as error:
            tally.leave_out(error)
    return usable, total if all(isinstance(recording, Path) for recording in usable) else None


def report_steps(recording: Place, plan: Plan) -> Iterator[Step]:
    """Build a recording: the unit of work, of which several processes may run one each.

    Yields:
        a step after every few frames, and one at the end.

    Raises:
        OSError: a file cannot be written.
    """
    labels: list[LabelCounts] = []
    faults: list[Faults] = []
    try:
        for frames in make_recording(recording, plan, labels.append, faults.append):
            yield Step(recording, frames)
    except BROKEN as error:
        yield Step(recording, broken=" ".join(str(error).split()))
    else:
        counted = None if isinstance(recording, Path) else labels[0]
        yield Step(recording, finished=True, labels=counted, faults=faults[0] if faults[0].total else None)


@contextmanager
def _tidy(output: Place) -> Iterator[None]:
    """Before and after the block take away what killed builds left, and after it folders that were made for nothing."""
    if isinstance(output, Address):
        yield
        return
    folders = [output, *(output / split for split in SPLITS)]
    made = [folder for folder in folders if not folder.exists()]
    _remove_leftovers(output)
    try:
        yield
    finally:
        _remove_leftovers(output)
        for folder in reversed(made):
            with suppress(OSError):  # it is not there, or holds finished files
                folder.rmdir()


def _remove_leftovers(output: Path) -> None:
    remove_dead_parts(output, f"{LABEL_MAP_NAME}.*")
    for split in SPLITS:
        remove_dead_parts(output / split)
