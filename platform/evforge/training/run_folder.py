"""The folder of a run: names of its files, the record of its MLflow run, checkpoints and failures.

This module imports no large library, because the driver and its workers share it.
"""

import errno
import json
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config import Config
from detector.utils.atomic_write import atomic_write
from evforge import EvForgeError, one_line
from evforge.cluster.ray_compat import CHECKPOINT_FOLDERS, drop_broken_checkpoint_list
from evforge.tracking.store import sqlite_path

if TYPE_CHECKING:
    from evforge.tracking.tracker import Tracker

__all__ = [
    "BEST_CHECKPOINT",
    "BEST_KEPT",
    "CHECKPOINT_NAME",
    "CONFIG_FILE",
    "COSTS",
    "HARDWARE_TAG",
    "RECORD_FILE",
    "RESOURCES_TAG",
    "SPACE_FILE",
    "CheckpointError",
    "RunRecord",
    "checkpoint_file",
    "copy_checkpoint",
    "failure_file",
    "has_checkpoint",
    "is_metric",
    "is_study",
    "is_training",
    "checkpoint_after_broken_list",
    "load_config",
    "logged_metrics",
    "newest_run",
    "note_failure",
    "read_record",
    "remove_checkpoints",
    "unique_folder",
    "whole_checkpoints",
    "write_record",
    "write_text",
]

BEST_CHECKPOINT, CONFIG_FILE, RECORD_FILE, SPACE_FILE = "best.ckpt", "config.yaml", "run.json", "space.yaml"
RESOURCES_TAG = "trial_resources"
"""Tag of a study's MLflow run. It contains the resources of one trial as JSON, such as `{"cpu": 1, "gpu": 1}`."""
HARDWARE_TAG = "hardware"
"""Tag of a study's MLflow run with the nodes and GPUs as text."""
CHECKPOINT_NAME = "checkpoint.ckpt"
"""Name of Lightning's checkpoint file in a checkpoint folder of Ray."""
BEST_KEPT = 2
"""Number of best checkpoints that Ray keeps, besides the last one. With one, a damaged last checkpoint that is also the
best would be the only one."""
COSTS = ("parameters", "latency_ms")
"""Names of the costs of a detector: number of parameters, and milliseconds per frame."""
SPARE_BYTES = 8 * 2**20
"""Free space in bytes that must remain on the disk after a checkpoint is written."""


class CheckpointError(EvForgeError):
    """A checkpoint cannot be written, for example because the disk is full."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> "CheckpointError":
        """Return the CheckpointError for `error`, which occurred when a checkpoint was written to the folder `path`."""
        reason = os.strerror(error.errno) if error.errno else one_line(error)
        return cls(f"{path}: a checkpoint cannot be written: {reason}; free some space, then resume with --resume")


@dataclass(frozen=True)
class RunRecord:
    """Record of the MLflow run that belongs to a folder. It is stored in the file `run.json` of the folder.

    Args:
        run_id: id of the MLflow run
        tracking_uri: URI of the MLflow store
        experiment: name of the MLflow experiment
    """

    run_id: str
    tracking_uri: str
    experiment: str


def read_record(folder: str | Path) -> RunRecord:
    """Read the record in the folder of a run.

    If a SQLite store was moved or copied together with the folder, the record contains the new address of the store.

    Raises:
        FileNotFoundError: the folder is not the folder of a run.
    """
    path = Path(folder) / RECORD_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: not the folder of a run, which contains {RECORD_FILE}")
    found = json.loads(path.read_text())
    moved = found.pop("relative", {}).get("store")
    if moved is not None and (store := Path(os.path.normpath(path.parent.absolute() / moved))).is_file():
        found["tracking_uri"] = f"{found['tracking_uri'].partition('///')[0]}///{store}"
    return RunRecord(**found)


def load_config(folder: str | Path, config: Config | None = None) -> Config:
    """Return the configuration of a run. If run and dataset were moved together, the dataset path is corrected.

    Args:
        folder: folder of the run.
        config: configuration whose dataset path is corrected; the one that is stored in the folder if None.
    """
    config = Config.load(Path(folder) / CONFIG_FILE) if config is None else config
    path = Path(folder).absolute() / RECORD_FILE
    if path.is_file() and not Path(config.data.dataset_path).exists():
        moved = json.loads(path.read_text()).get("relative", {}).get("dataset")
        if moved is not None and (dataset := Path(os.path.normpath(path.parent / moved))).exists():
            return config.with_overrides({"data.dataset_path": str(dataset)})
    return config


def has_checkpoint(folder: Path) -> bool:
    """Return whether the folder of a run or study contains the best checkpoint, which is written at the end."""
    return any((folder / name).is_file() for name in (BEST_CHECKPOINT, f"best/{BEST_CHECKPOINT}"))


def is_study(folder: Path) -> bool:
    """Return whether a folder is the folder of a study."""
    return (folder / RECORD_FILE).is_file() and (folder / SPACE_FILE).is_file()


def is_training(folder: Path) -> bool:
    """Return whether a folder is the folder of a training that is not part of a study."""
    return (folder / RECORD_FILE).is_file() and not (folder / SPACE_FILE).is_file()


def newest_run(path: str | Path, wanted: Callable[[Path], bool], kind: str) -> Path:
    """Return the newest run in a folder of runs, and print its name to standard error.

    The age of a run is the time in its name. For a run without one, it is the time at which its record was written.

    Args:
        path: folder of runs. Any other path, such as a checkpoint or the folder of a run, is returned unchanged.
        wanted: whether the folder of a run can be used.
        kind: the wanted kind of run, for the error message, such as "finished run or study".

    Raises:
        FileNotFoundError: the folder contains no run that can be used.
    """
    path = Path(path)
    if not path.is_dir() or wanted(path) or (path / RECORD_FILE).is_file():
        return path
    found = [record.parent for record in path.glob(f"*/{RECORD_FILE}") if wanted(record.parent)]
    if not found:
        raise FileNotFoundError(
            f"{path}: contains no {kind}, allowed: the folder of one, or a folder that contains one"
        )
    newest = max(found, key=_start)
    print(f"{path}: using the newest {kind} in it, {newest.name}", file=sys.stderr, flush=True)
    return newest


def _start(folder: Path) -> tuple[str, int, str]:
    """Return the start of a run as text, the number at the end of its name, and its name, for sorting."""
    found = re.search(r"-(\d{8}-\d{6})(?:-(\d+))?$", folder.name)
    if found is not None:
        return found[1], int(found[2] or 1), folder.name
    written = time.localtime((folder / RECORD_FILE).stat().st_mtime)
    return time.strftime("%Y%m%d-%H%M%S", written), 1, folder.name


def unique_folder(storage: str, kind: str) -> Path:
    """Create a folder `<storage>/<kind>-<time>` with a unique name, and return its path.

    The name must be unique because Ray silently resumes a run with a known name.

    Raises:
        ValueError: `storage` is a file or an address.
        FileExistsError: all names `<storage>/<kind>-<time>-<number>` are in use.
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
    """Write two files into the folder of a run: the configuration, and the record that `read_record` reads.

    The record also contains the relative paths from the folder to the dataset and to a SQLite store. They stay correct
    if all of these are moved together.
    """
    write_text(folder / CONFIG_FILE, config.to_yaml())
    record = asdict(RunRecord(run_id, tracker.uri, tracker.experiment))
    paths = {"dataset": Path(config.data.dataset_path), "store": sqlite_path(tracker.uri)}
    relative = {name: os.path.relpath(path.absolute(), folder.absolute()) for name, path in paths.items() if path}
    write_text(folder / RECORD_FILE, json.dumps({**record, "relative": relative}, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically. After an error, the file is absent or unchanged."""
    with atomic_write(path) as part:
        part.write_text(text)


@contextmanager
def checkpoint_file(checkpoint: Any) -> Iterator[str | None]:
    """Context manager that yields the path of the Lightning file in a checkpoint of Ray; None without a checkpoint.

    If the file is damaged, a line is printed, and another file is yielded: the newest undamaged file of the older
    checkpoints, or else the best checkpoint of an ended training in the same folder. If there is neither, None.
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
    """Return whether a checkpoint file, which is a ZIP archive, exists and has correct checksums."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except Exception:  # `zipfile` raises many kinds of errors for damaged files
        return False


def copy_checkpoint(folder: str | Path, target: Path) -> None:
    """Copy the file in a checkpoint folder to the file `target` atomically."""
    with atomic_write(target) as part:
        shutil.copyfile(Path(folder) / CHECKPOINT_NAME, part)


@contextmanager
def whole_checkpoints(folder: Path, source: Path) -> Iterator[None]:
    """Context manager for a block that copies a checkpoint. If the block fails, the incomplete copy is removed.

    Args:
        folder: folder into which the block copies the checkpoint.
        source: checkpoint folder that the block copies.

    Raises:
        CheckpointError: the checkpoint could not be written or would fill the disk. A full disk would also truncate the
            lists that Ray and MLflow write.
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


def checkpoint_after_broken_list(folder: Path) -> str | None:
    """Return the last checkpoint of a training if a full disk has truncated Ray's list of checkpoints.

    The truncated list is removed, because Ray cannot read it.

    Returns:
        Path of the last checkpoint's file. None if the list is complete or absent, or if there is no checkpoint.
    """
    if not drop_broken_checkpoint_list(folder):
        return None
    return max(map(str, folder.glob(f"{CHECKPOINT_FOLDERS}/{CHECKPOINT_NAME}")), default=None)


def failure_file(folder: Path, trial_id: str) -> Path:
    """Return the path of the file in which a failed trial stores its traceback. `folder` is the folder of the study."""
    return folder / "failures" / f"{trial_id}.txt"


def note_failure(path: Path, text: str) -> None:
    """Write the traceback of a failed trial to a file. Do nothing if the file cannot be written.

    Without the file, Ray reports the failure after it has retried the trial.
    """
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)


def is_metric(name: str) -> bool:
    """Return whether the logged value with this name is a metric of a split or a cost of the detector.

    Other logged values are only used in the progress line.
    """
    return name in COSTS or name.startswith(("train_", "val_", "test_"))


def logged_metrics(report: Mapping[str, Any], first: bool) -> dict[str, float]:
    """Return the values of a report that are logged to MLflow.

    Args:
        report: dict that `ReportMetrics` reports.
        first: whether this is the first report of the training. Only then are the costs of the detector included, as
            they do not change.
    """
    return {key: value for key, value in report.items() if is_metric(key) and (first or key not in COSTS)}


def remove_checkpoints(folder: Path | None, kept: Container[Path], age_s: float = 0.0) -> None:
    """Remove the checkpoints in a folder, except new ones and given ones.

    Args:
        folder: folder of a trial, with checkpoints at any depth; nothing is done if None.
        kept: folders of checkpoints that are not removed.
        age_s: checkpoints that are younger than this number of seconds are not removed.
    """
    for checkpoint in folder.rglob(CHECKPOINT_FOLDERS) if folder else ():
        if checkpoint.is_dir() and checkpoint not in kept and time.time() - checkpoint.stat().st_mtime >= age_s:
            shutil.rmtree(checkpoint, ignore_errors=True)
