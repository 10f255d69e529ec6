"""Convert recordings and their labels to a dataset folder of HDF5 tensor files.

`build_dataset` checks the arguments, builds the recordings and counts the results. Each recording is built separately
by `detector.data.builder.recording.report_steps`. The argument `run` of `build_dataset` is the function that calls
`report_steps` for all recordings, for example in parallel processes.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from detector.config.groups import DataConfig
from detector.data.builder.dataset_classes import find_label_map
from detector.data.builder.label_counts import LabelCounts, report_lines
from detector.data.builder.plan import BROKEN, Plan, check_plan, plan_pieces
from detector.data.builder.recording import Step, report_steps
from detector.data.builder.source import Source
from detector.data.builder.split_counts import split_lines
from detector.data.label_map import LABEL_MAP_NAME
from detector.data.layout import SPLITS
from detector.labels import LabelTiming
from detector.preprocess.representation import representation_of
from detector.utils.atomic_write import atomic_write, remove_dead_parts
from detector.utils.remote import Address, Place

__all__ = ["build_dataset", "run_here"]

Output = TypeVar("Output", Path, Address)


Runner = Callable[[Sequence[Source], Plan], Iterator[Step]]
"""Function that yields the steps of `report_steps` for every recording. Closing the iterator stops the work."""


def run_here(sources: Sequence[Source], plan: Plan) -> Iterator[Step]:
    """Build the recordings one after another in this process, and yield the steps of `report_steps`."""
    for source in sources:
        yield from report_steps(source, plan)


def build_dataset(
    recordings: Sequence[Place | Source],
    output: Output,
    data: DataConfig,
    cuts: dict[str, tuple[float, float]] | None = None,
    label_map: dict[int, str] | None = None,
    progress: bool = True,
    *,
    sensor: tuple[int | None, int | None] = (None, None),
    on_broken: Callable[[str], None] | None = None,
    run: Runner = run_here,
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
) -> Output:
    """Build a dataset folder: a tensor file and a label file for each recording or cut, and one label map.

    The files are `output/<split>/<stem>.h5`, `output/<split>/<stem>_bbox.npy` and `output/label_map_dictionary.json`.
    Labels are searched by `detector.labels.find_labels`. Frame 0 of a recording starts at the last multiple of
    `data.delta_t` that is not after the first event.

    A tensor file gets the labels with start < time <= end of its frames. Boxes stay in sensor pixels, and times are not
    shifted to the start of a cut. The numbers of labels of each split and of labels that are not used are printed to
    stderr, and a warning for a split without boxes.

    All checks that need no events run before the build starts. A tensor file is kept if it was made from the same
    recording (equal SHA-256) with the same parameters, so a killed build resumes when it is started again.

    Args:
        recordings: paths or addresses (`s3://bucket/R.raw`) of recordings, or `Source`s with given labels or splits.
        output: dataset folder, created if missing.
        data: settings of the tensors, such as `preprocess`, `max_incr_per_pixel` and `delta_t`. `height` and `width`
            are the size of the sensor, or this size divided by a power of two.
        cuts: for each split, the part of every recording to use: start and end in seconds from the start of frame 0,
            such as `{"train": (0, 20)}`, rounded to whole frames. File names then end in start and end in microseconds.
            If None, the whole recording is used, in the split with the name of its folder.
        label_map: dict from class id to name. If None, the label map beside the recordings or one folder above is used,
            or the classes that the label files name.
        progress: whether to show a progress bar.
        sensor: height and width of the sensor, for recordings that do not state them.
        on_broken: function called with the reason for each recording that cannot be used and is skipped. If None, the
            first such recording ends the build with an error.
        run: function that calls `report_steps` for all recordings and yields the steps.
        timing: how the label times are determined.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: a recording, its labels or a label map is missing.
        ValueError: an argument or a file is not valid; the message names it and what is allowed.
    """
    sources = [Source.of(recording) for recording in recordings]
    _check_arguments(sources, output, data)
    names = find_label_map(sources, output, label_map, data.label_format)
    plan = Plan(output, data, cuts, names, sensor, timing)
    check_plan(sources, plan)
    tally = _Tally(on_broken)
    _build(sources, plan, tally, run, progress)
    _print_counts(list(tally.labels.values()), progress)
    return output


def _print_counts(counts: Sequence[LabelCounts], progress: bool) -> None:
    """Print the numbers of labels to stderr; without `progress` only if there are faults or splits without boxes."""
    lines = split_lines([part for count in counts for part in count.splits])
    if progress or any(count.faulty for count in counts) or any(line.startswith("warning") for line in lines):
        print(*report_lines(counts), *lines, sep="\n", file=sys.stderr)


def _check_arguments(sources: Sequence[Source], output: Place, data: DataConfig) -> None:
    if not sources:
        raise ValueError("recordings: got none, allowed: at least one recording")
    if isinstance(output, Path) and output.exists() and not output.is_dir():
        raise ValueError(f"{output}: output is a file, allowed: a folder")
    found = representation_of(data)
    highest = np.iinfo(found.dtype).max if found.counts else 0
    if found.counts and not (1 <= found.divisor <= highest and found.divisor == int(found.divisor)):
        raise ValueError(f"data.max_incr_per_pixel: got {found.divisor}, allowed: whole numbers from 1 to {highest}")


def _build(sources: Sequence[Source], plan: Plan, tally: "_Tally", run: Runner, progress: bool) -> None:
    usable, frames = _survey(sources, plan, tally, progress)
    with _tidy(plan.output):
        with (
            closing(run(usable, plan)) as steps,  # type: ignore[type-var]
            tqdm(total=frames, unit="frame", desc="build", disable=not progress or None) as bar,
        ):
            for step in steps:
                bar.update(step.frames)
                tally.count(step)
                bar.set_postfix_str(f"{tally.finished}/{len(usable)} recordings", refresh=False)
        tally.check(len(sources))
        with atomic_write(plan.output / LABEL_MAP_NAME) as part:
            part.write_text(json.dumps({str(key): name for key, name in plan.names.items()}, indent=1) + "\n")


class _Tally:
    """Number of finished recordings, and the label counts of each recording.

    If a recording cannot be used, `on_broken` is called with the reason. If `on_broken` is None, an error is raised.
    """

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
        """Raise an error if no recording was built."""
        if not self.finished:
            raise ValueError(f"none of the {total} recordings can be used, the first: {self._first_reason}")


def _survey(sources: Sequence[Source], plan: Plan, tally: _Tally, progress: bool) -> tuple[list[Source], int | None]:
    """Check the recordings without reading events. Return the usable ones and their total number of frames.

    Recordings at a remote address are returned without a check, because the check would have to copy them. The number
    of frames is then None.
    """
    usable: list[Source] = []
    total = 0
    for source in tqdm(sources, unit="recording", desc="plan", leave=False, disable=not progress or None):
        try:
            if isinstance(source.recording, Path):
                pieces, counts = plan_pieces(source, plan)
                total += sum(piece.frames.num_frames for piece in pieces)
                tally.labels[source.recording] = counts
            usable.append(source)
        except BROKEN as error:
            tally.leave_out(error)
    return usable, total if all(isinstance(source.recording, Path) for source in usable) else None


@contextmanager
def _tidy(output: Place) -> Iterator[None]:
    """Context manager that removes leftovers of killed builds in `output` before and after the block.

    After the block, folders that did not exist before and are still empty are removed, too.
    """
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
            with suppress(OSError):  # the folder does not exist or contains finished files
                folder.rmdir()


def _remove_leftovers(output: Path) -> None:
    remove_dead_parts(output, f"{LABEL_MAP_NAME}.*")
    for split in SPLITS:
        remove_dead_parts(output / split)
