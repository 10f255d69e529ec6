"""Folders of runs: names of their files, what a folder remembers of its run, checkpoints copied out of Ray's.

Imports nothing heavy: drivers and workers share it.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config import Config
from detector.utils.atomic_write import atomic_write
from evforge import EvForgeError, one_line
from evforge.cluster.ray_compat import CHECKPOINT_FOLDERS, drop_broken_checkpoint_list

if TYPE_CHECKING:
    from evforge.tracking.tracker import Tracker

__all__ = [
    "BEST_CHECKPOINT",
    "CHECKPOINT_NAME",
    "CONFIG_FILE",
    "COSTS",
    "RECORD_FILE",
    "RESOURCES_TAG",
    "SPACE_FILE",
    "CheckpointError",
    "RunRecord",
    "checkpoint_file",
    "copy_checkpoint",
    "failure_file",
    "is_metric",
    "last_checkpoint",
    "note_failure",
    "read_record",
    "unique_folder",
    "whole_checkpoints",
    "write_record",
    "write_text",
]

BEST_CHECKPOINT, CONFIG_FILE, RECORD_FILE, SPACE_FILE = "best.ckpt", "config.yaml", "run.json", "space.yaml"
RESOURCES_TAG = "trial_resources"
"""Tag of a study's run: what a trial reserves, as JSON, such as `{"cpu": 1, "gpu": 1}`."""
CHECKPOINT_NAME = "checkpoint.ckpt"
"""The file in a checkpoint folder of Ray's."""
COSTS = ("parameters", "latency_ms")
"""What a detector costs: its parameters, and the milliseconds of one frame."""
SPARE_BYTES = 8 * 2**20
"""What a checkpoint leaves free on its disk."""


class CheckpointError(EvForgeError):
    """A checkpoint cannot be written: the disk is full, say."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> "CheckpointError":
        """The error of writing in a folder."""
        reason = os.strerror(error.errno) if error.errno else one_line(error)
        return cls(f"{path}: a checkpoint cannot be written: {reason}; make room, then go on with --resume")


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
        raise FileNotFoundError(f"{folder}: no run of evforge, which has a {RECORD_FILE}")
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
    write_text(folder / CONFIG_FILE, config.to_yaml())
    record = RunRecord(run_id, tracker.uri, tracker.experiment)
    write_text(folder / RECORD_FILE, json.dumps(asdict(record), indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there."""
    with atomic_write(path) as part:
        part.write_text(text)


@contextmanager
def checkpoint_file(checkpoint: Any) -> Iterator[str | None]:
    """The file in one of Ray's checkpoints, for the block; None if there is no checkpoint."""
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield str(Path(folder) / CHECKPOINT_NAME)


def copy_checkpoint(folder: str | Path, target: Path) -> None:
    """Copy the file of a checkpoint's folder; a half-written file never stays."""
    with atomic_write(target) as part:
        shutil.copyfile(Path(folder) / CHECKPOINT_NAME, part)


@contextmanager
def whole_checkpoints(folder: Path, source: Path) -> Iterator[None]:
    """For a block that copies a checkpoint's folder to a new one in `folder`: nothing half-written stays.

    Raises:
        CheckpointError: it could not be written, or would have filled the disk: Ray and MLflow write lists there,
            which a full disk would cut off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < SPARE_BYTES + (source / CHECKPOINT_NAME).stat().st_size:
        raise CheckpointError.of(folder, OSError(errno.ENOSPC, ""))
    before = set(folder.glob(CHECKPOINT_FOLDERS))
    try:
        yield
    except OSError as error:
        for half in set(folder.glob(CHECKPOINT_FOLDERS)) - before:
            shutil.rmtree(half, ignore_errors=True)
        raise CheckpointError.of(folder, error) from None


def last_checkpoint(folder: Path) -> str | None:
    """The last checkpoint's file in a training's folder, where Ray's own list of them was cut off by a full disk.

    The list is removed then, as Ray would fail at it; None if it is whole, or was never begun.
    """
    if not drop_broken_checkpoint_list(folder):
        return None
    return max(map(str, folder.glob(f"{CHECKPOINT_FOLDERS}/{CHECKPOINT_NAME}")), default=None)


def failure_file(folder: Path, trial_id: str) -> Path:
    """Where a trial that fails leaves its traceback, in the folder of its study."""
    return folder / "failures" / f"{trial_id}.txt"


def note_failure(path: Path, text: str) -> None:
    """Leave word of a failure; on a full disk there is none, and Ray tells of it after it has tried again."""
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)


def is_metric(name: str) -> bool:
    """Whether a logged value is a figure of a split or a cost; the others are for the progress line."""
    return name in COSTS or name.startswith(("train_", "val_", "test_"))
