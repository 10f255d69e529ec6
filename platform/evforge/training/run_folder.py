"""Folders of runs: names of their files, records of MLflow runs, checkpoints, failures.

Imports no large library, as the driver and its workers share this module.
"""

import errno
import json
import os
import shutil
import time
import zipfile
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
"""Tag of a study's run: resources of one trial as JSON, such as `{"cpu": 1, "gpu": 1}`."""
CHECKPOINT_NAME = "checkpoint.ckpt"
"""Name of the file in a checkpoint folder of Ray."""
COSTS = ("parameters", "latency_ms")
"""Names of the costs of a detector: number of parameters, and milliseconds per frame."""
SPARE_BYTES = 8 * 2**20
"""Free space that must remain on the disk after a checkpoint is written."""


class CheckpointError(EvForgeError):
    """A checkpoint cannot be written, for example because the disk is full."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> "CheckpointError":
        """The error of writing to a folder."""
        reason = os.strerror(error.errno) if error.errno else one_line(error)
        return cls(f"{path}: a checkpoint cannot be written: {reason}; free some space, then resume with --resume")


@dataclass(frozen=True)
class RunRecord:
    """The MLflow run of a folder, stored in `run.json`.

    Args:
        run_id: id of the MLflow run
        tracking_uri: URI of the MLflow store
        experiment: name of the MLflow experiment
    """

    run_id: str
    tracking_uri: str
    experiment: str


def read_record(folder: str | Path) -> RunRecord:
    """Read the record of a run's folder.

    Raises:
        FileNotFoundError: the folder is not that of a run.
    """
    path = Path(folder) / RECORD_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: not the folder of a run, which contains {RECORD_FILE}")
    return RunRecord(**json.loads(path.read_text()))


def unique_folder(storage: str, kind: str) -> Path:
    """Create a folder `<storage>/<kind>-<time>`. Its name is unique, as Ray silently resumes a run with a known name.

    Raises:
        ValueError: `train.storage` is a file or an address.
        FileExistsError: all numbered names are in use.
    """
    if "://" in storage or Path(storage).is_file():
        raise ValueError(f"train.storage: got {storage!r}, allowed: a folder")
    stem = Path(storage).absolute() / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    for folder in (stem, *(stem.with_name(f"{stem.name}-{number}") for number in range(2, 1000))):
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise FileExistsError(f"{stem}: the folder and 998 numbered ones exist, allowed: another train.storage")


def write_record(folder: Path, config: Config, tracker: "Tracker", run_id: str) -> None:
    """Write the record that `read_record` reads, and the configuration."""
    write_text(folder / CONFIG_FILE, config.to_yaml())
    record = RunRecord(run_id, tracker.uri, tracker.experiment)
    write_text(folder / RECORD_FILE, json.dumps(asdict(record), indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: after an error it is absent or unchanged."""
    with atomic_write(path) as part:
        part.write_text(text)


@contextmanager
def checkpoint_file(checkpoint: Any) -> Iterator[str | None]:
    """Yield the path of the file in a checkpoint of Ray; None without a checkpoint.

    If the file is damaged, print a line and yield the newest older file that is not, else the best checkpoint of an
    ended training in the same folder, else None.
    """
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as path:
        newest = Path(path)
        older = sorted((one for one in newest.parent.glob(CHECKPOINT_FOLDERS) if one.name < newest.name), reverse=True)
        files = [*(folder / CHECKPOINT_NAME for folder in (newest, *older)), newest.parent / BEST_CHECKPOINT]
        found = next((str(file) for file in files if _is_undamaged(file)), None)
        if found != str(files[0]):
            print(f"{files[0]} is damaged: training resumes from {found or 'the start'}", flush=True)
        yield found


def _is_undamaged(file: Path) -> bool:
    """Check the checksums of a checkpoint, which is a ZIP archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (FileNotFoundError, zipfile.BadZipFile, EOFError):
        return False


def copy_checkpoint(folder: str | Path, target: Path) -> None:
    """Copy the file of a checkpoint folder atomically."""
    with atomic_write(target) as part:
        shutil.copyfile(Path(folder) / CHECKPOINT_NAME, part)


@contextmanager
def whole_checkpoints(folder: Path, source: Path) -> Iterator[None]:
    """Remove incomplete checkpoints in `folder` if the block, which copies the checkpoint folder `source`, fails.

    Raises:
        CheckpointError: the checkpoint could not be written, or would fill the disk, on which Ray and MLflow also
            write lists that a full disk would truncate.
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
    """Remove Ray's list of checkpoints in a training's folder if a full disk has truncated it: Ray could not read it.

    Returns:
        Path of the last checkpoint's file if the list was truncated. None if it is complete or absent.
    """
    if not drop_broken_checkpoint_list(folder):
        return None
    return max(map(str, folder.glob(f"{CHECKPOINT_FOLDERS}/{CHECKPOINT_NAME}")), default=None)


def failure_file(folder: Path, trial_id: str) -> Path:
    """Path of the traceback of a failed trial, in the folder of its study."""
    return folder / "failures" / f"{trial_id}.txt"


def note_failure(path: Path, text: str) -> None:
    """Write the text of a failure. On a full disk the file is absent, and Ray reports the failure after its retries."""
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)


def is_metric(name: str) -> bool:
    """Whether a logged value is a metric of a split or a cost; the others are for the progress line."""
    return name in COSTS or name.startswith(("train_", "val_", "test_"))
