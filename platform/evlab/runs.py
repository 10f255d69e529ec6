"""Folders of runs: names of their files, what a folder remembers of its run, checkpoints copied out of Ray's.

Imports nothing heavy: drivers and workers share it.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config import Config

if TYPE_CHECKING:
    from evlab.tracking import Tracker

__all__ = [
    "BEST_CHECKPOINT",
    "CHECKPOINT_NAME",
    "CONFIG_FILE",
    "RECORD_FILE",
    "RunRecord",
    "checkpoint_file",
    "copy_checkpoint",
    "failure_file",
    "is_metric",
    "read_record",
    "unique_folder",
    "write_record",
]

BEST_CHECKPOINT, CONFIG_FILE, RECORD_FILE = "best.ckpt", "config.yaml", "run.json"
CHECKPOINT_NAME = "checkpoint.ckpt"
"""The file in a checkpoint folder of Ray's."""


@dataclass(frozen=True)
class RunRecord:
    """What a run's folder remembers of it, in `run.json`.

    Args:
        run_id: the MLflow run
        tracking_uri: the MLflow store
        experiment: the MLflow experiment
    """

    run_id: str
    tracking_uri: str
    experiment: str


def read_record(folder: str | Path) -> RunRecord:
    """The record of a run's folder.

    Raises:
        FileNotFoundError: the folder is none of a run.
    """
    path = Path(folder) / RECORD_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no run of evlab, which has a {RECORD_FILE}")
    return RunRecord(**json.loads(path.read_text()))


def unique_folder(storage: str, kind: str) -> Path:
    """A new folder `<storage>/<kind>-<time>`: Ray silently goes on with a run whose name it knows.

    Raises:
        ValueError: `train.storage` is no folder.
    """
    if "://" in storage or Path(storage).is_file():
        raise ValueError(f"train.storage: got {storage!r}, allowed: a folder")
    stem = Path(storage).absolute() / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    for folder in (stem, *(stem.with_name(f"{stem.name}-{number}") for number in range(2, 1000))):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{stem}: it and its 999 successors exist, allowed: another train.storage")


def write_record(folder: Path, config: Config, tracker: "Tracker", run_id: str) -> None:
    """Write what `read_record` reads, and the configuration beside it."""
    (folder / CONFIG_FILE).write_text(config.to_yaml())
    record = RunRecord(run_id, tracker.uri, tracker.experiment)
    (folder / RECORD_FILE).write_text(json.dumps(asdict(record), indent=1) + "\n")


@contextmanager
def checkpoint_file(checkpoint: Any) -> Iterator[str | None]:
    """The file in one of Ray's checkpoints, for the block; None if there is no checkpoint."""
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield str(Path(folder) / CHECKPOINT_NAME)


def copy_checkpoint(checkpoint: Any, target: Path) -> None:
    """Copy the file of one of Ray's checkpoints; a half-written file never stays under the final name."""
    part = target.with_name(target.name + ".part")
    with checkpoint.as_directory() as source:
        shutil.copyfile(Path(source) / CHECKPOINT_NAME, part)
    os.replace(part, target)


def failure_file(folder: Path, trial_id: str) -> Path:
    """Where a trial that fails leaves its traceback, in the folder of its study."""
    return folder / "failures" / f"{trial_id}.txt"


def is_metric(name: str) -> bool:
    """Whether a logged value is a figure of a split; the others are for the progress line."""
    return name.startswith(("train_", "val_", "test_"))
