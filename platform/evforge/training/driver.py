"""The frame of a training or a search in the driver: start of Ray, folder and its lease, MLflow run, resuming."""

import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from detector.config import Config
from evforge.cluster.placement import serving_nodes
from evforge.cluster.session import Resources, ray_session
from evforge.display.live import announce
from evforge.tracking.datasets import dataset_inputs
from evforge.tracking.guard import guarded
from evforge.tracking.outbox import Write
from evforge.tracking.tracker import Tracker
from evforge.tracking.writes import NOTE, PATH, START
from evforge.training.lease import hold_lease, ownerless
from evforge.training.run_folder import CONFIG_FILE, SPACE_FILE, read_record, unique_folder, write_record, write_text

__all__ = ["DrivenRun", "driven_run"]

VERBS = {"train": "train", "study": "tune"}
"""For each kind of run, the command that resumes it."""


@dataclass(frozen=True)
class DrivenRun:
    """A run or study that this process drives.

    Args:
        folder: folder of the run
        tracker: tracker of the MLflow store
        run_id: id of the MLflow run
        resources: resources of the nodes on which the dataset exists
    """

    folder: Path
    tracker: Tracker
    run_id: str
    resources: Resources


@contextmanager
def driven_run(
    kind: str,
    config: Config,
    resume: Path | None,
    require: Callable[[Resources], Any],
    *,
    dashboard: bool,
    files: Mapping[str, str] = MappingProxyType({}),
    tags: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[DrivenRun]:
    """Context manager that starts Ray and a new run, or resumes a run, and ends the MLflow run after the block.

    A run has a folder and an MLflow run. The lease of the folder is held during the block. If the start of a new run
    fails or is interrupted, all its processes, its folder and its MLflow run are removed. If the block fails, the
    command that resumes the run is printed. If this process dies, a guard does the same and sets the status of the
    MLflow run to KILLED.

    Args:
        kind: "train" or "study".
        config: checked configuration.
        resume: folder of an earlier run; None to create a new run.
        require: function that raises an error if the resources of Ray are not sufficient.
        dashboard: whether a local Ray is started with its dashboard.
        files: dict from names to texts of files in the folder of a new run. They are also stored in the MLflow run.
        tags: further tags of a new MLflow run.

    Yields:
        The run.

    Raises:
        FileNotFoundError: `resume` is not the folder of a run.
        ValueError: `train.storage` or the MLflow store cannot be used.
        EvForgeError: another process is working in the folder, or the start of Ray failed.
    """
    record = None if resume is None else read_record(resume)
    announce("starting Ray" if "RAY_ADDRESS" not in os.environ else f"connecting to Ray at {os.environ['RAY_ADDRESS']}")
    with nullcontext() if resume is None else hold_lease(resume), ray_session(dashboard) as all_resources:
        _end_abandoned(Path(config.train.storage).absolute())
        resources = serving_nodes(config, all_resources)
        require(resources)
        if resume is None or record is None:
            created = _created(kind, config, resources, files, tags)
            with created as run, _resumable(kind, run.folder), run.tracker.ending(run.run_id):
                announce(f"all files are written to {run.folder}")
                yield run
        else:
            tracker = Tracker(record.tracking_uri, record.experiment, resume.parent, create=False)
            guard = guarded(tracker, resume, _command(kind, resume), run_id=record.run_id)
            with guard, _resumable(kind, resume), tracker.resumed(record.run_id):
                tracker.log_text(record.run_id, config.to_yaml(), CONFIG_FILE)
                write_record(resume, config, tracker, record.run_id)
                yield DrivenRun(resume, tracker, record.run_id, resources)


@contextmanager
def _created(
    kind: str, config: Config, resources: Resources, files: Mapping[str, str], tags: Mapping[str, Any]
) -> Iterator[DrivenRun]:
    """Context manager that creates the folder and the MLflow run of a new run, and holds the lease of the folder.

    The arguments are the same as for `driven_run`; `resources` are the resources of the yielded run.
    """
    tracker = Tracker(config.track.tracking_uri, config.track.experiment, config.train.storage)
    folder, run_id, complete = unique_folder(config.train.storage, kind), "", False
    start = secrets.token_hex(8)
    try:
        with guarded(tracker, folder, _command(kind, folder), start=start) as started, hold_lease(folder):
            own = {"config_fingerprint": config.fingerprint(), PATH: str(folder), START: start}
            own[NOTE] = _note(kind, folder, config)
            run_id = tracker.start_run(folder.name, config.to_flat(), {**own, **tags})
            tracker.log_inputs(run_id, dataset_inputs(config, ("train", "val")))
            for name, text in files.items():
                write_text(folder / name, text)
            write_record(folder, config, tracker, run_id)
            for name, text in {CONFIG_FILE: config.to_yaml(), **files}.items():
                tracker.log_text(run_id, text, name)
            started(run_id)
            complete = True
            yield DrivenRun(folder, tracker, run_id, resources)
    finally:
        if not complete:
            shutil.rmtree(folder, ignore_errors=True)
            if run_id:
                with suppress(Exception):
                    tracker.client.delete_run(run_id)


def _end_abandoned(storage: Path) -> None:
    """End the runs of drivers that died together with their guards, for example because their machine failed.

    A failure to do so, for example because a folder belongs to another user, must not prevent a training.
    """
    for folder, alive_s in ownerless(storage):
        with suppress(Exception):
            record, kind = read_record(folder), folder.name.partition("-")[0]
            tracker = Tracker(record.tracking_uri, record.experiment, storage, create=False)
            run = tracker.run_info(record.run_id)
            if kind in VERBS and run.status == "RUNNING" and run.tags.get(PATH) == str(folder):  # else it was copied
                print(f"the process of {folder} has died; resume with: {_command(kind, folder)}", flush=True)
                ended = {"run_id": record.run_id, "died_ms": int(alive_s * 1000)}
                tracker.send(Write(f"the end of run {record.run_id}", "end_dead", ended))


def _note(kind: str, folder: Path, config: Config) -> str:
    """Return the description of a new run as Markdown."""
    what = "Search: the child runs are its trials." if kind == "study" else "Training of one detector."
    space = f" {SPACE_FILE}" if kind == "study" else ""
    return (
        f"{what} Classes: {', '.join(config.data.classes)}. Dataset: `{Path(config.data.dataset_path).name}`.\n\n"
        f"Reproduce it with the artifacts of this run:\n\n"
        f"```sh\nevforge {VERBS[kind]}{space} --config {CONFIG_FILE}\n```\n\n"
        f"Resume it:\n\n```sh\n{_command(kind, folder)}\n```\n"
    )


def _command(kind: str, folder: Path) -> str:
    """Return the command that resumes a run."""
    return f"evforge {VERBS[kind]} --resume {shlex.quote(str(folder))}"


@contextmanager
def _resumable(kind: str, folder: Path) -> Iterator[None]:
    """Context manager that prints the command that resumes a run if its block raises an error."""
    try:
        yield
    except BaseException:
        print(f"resume with: {_command(kind, folder)}", file=sys.stderr, flush=True)
        raise
