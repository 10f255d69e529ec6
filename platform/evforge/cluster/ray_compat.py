"""All uses of private or undocumented parts of Ray: functions, file names, texts.

Each use has a test that fails when Ray changes the part. Does not belong here: Ray's documented API.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.tune import Tuner
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import PopulationBasedTraining

__all__ = [
    "CHECKPOINT_FOLDERS",
    "agent_is_missing",
    "drop_broken_checkpoint_list",
    "error_text",
    "failure_text",
    "grown_nodes",
    "last_population_checkpoint",
    "quiet_authentication",
    "quiet_job_client",
    "reported_checkpoint",
    "restored_callbacks",
    "search_was_saved",
    "start_checkpoint",
    "trial_folder",
    "trial_is_running",
]

MOST_NODES = 100
"""Number of nodes that is assumed for a group without a limit."""

CHECKPOINT_FOLDERS = "checkpoint_*"
"""Names of the folders in which Ray Train and Ray Tune store reported checkpoints."""

CHECKPOINT_LIST = "checkpoint_manager_snapshot.json"
"""The file in which Ray Train lists the checkpoints of a run."""

SAVED_SEARCH = "experiment_state-*.json"
"""Names of the files in which Ray Tune saves a search."""


def quiet_authentication() -> None:
    """Silence Ray's message about the source of the cluster's token."""
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def quiet_job_client() -> None:
    """Silence the messages of Ray's job client about shipped packages. Call it after the client was imported."""
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)


def grown_nodes() -> tuple[tuple[int, int], ...]:
    """Return (CPU cores, GPUs) of each node that an autoscaler runs at most; an empty tuple without an autoscaler."""
    import ray._private.state

    config = ray._private.state.state.get_cluster_config()
    nodes: list[tuple[int, int]] = []
    for group in config.node_group_configs if config else ():
        count = min(group.max_count, MOST_NODES) if group.max_count >= 0 else MOST_NODES  # -1: without a limit
        nodes += [(int(group.resources["CPU"]), int(group.resources["GPU"]))] * count
    return tuple(nodes)


def agent_is_missing(error: RuntimeError) -> bool:
    """Whether a head rejected a job only because it has just started."""
    return "No available agent" in str(error)


def failure_text(error: Exception) -> str:
    """Text of the error of the worker, or else of the controller, in an error of Ray Train."""
    causes = list(getattr(error, "worker_failures", {}).values()) or [getattr(error, "controller_failure", error)]
    return str(causes[0])


def drop_broken_checkpoint_list(folder: Path) -> bool:
    """Remove the list of checkpoints in a run's folder if a full disk has truncated it: Ray Train could not read it.

    Returns:
        Whether the list was truncated; False if it is complete or absent.
    """
    listed = folder / CHECKPOINT_LIST
    if not listed.is_file() or listed.read_bytes().rstrip().endswith(b"}"):
        return False
    listed.unlink()
    return True


def search_was_saved(folder: Path) -> bool:
    """Whether a search has been started in a folder, so that Ray Tune can restore it."""
    return any(folder.glob(SAVED_SEARCH))


def restored_callbacks(tuner: "Tuner") -> list[Any]:
    """The callbacks that `Tuner.restore` has unpickled."""
    local: Any = tuner._local_tuner
    return list(local.get_run_config().callbacks)


def trial_is_running() -> bool:
    """In a trial's process: whether the trial is still running, and not stopped."""
    from ray.train._internal.session import get_session

    return get_session() is not None


def trial_folder() -> Path:
    """In a trial's process: the folder in which Ray Tune stores the trial's checkpoints."""
    from ray import tune

    return Path(tune.get_context().get_storage().trial_fs_path)


def reported_checkpoint(result: dict[str, Any], folder: Path | None) -> Path:
    """Folder of the checkpoint that was reported with a result of a trial.

    Args:
        result: the result that Ray Tune passes to `Callback.on_trial_result`.
        folder: folder of the trial.
    """
    return Path(result.get("checkpoint_path") or Path(folder or "", result.get("checkpoint_dir_name") or ""))


def start_checkpoint(trial: "Trial") -> tuple[Path, dict[str, Any]] | None:
    """Folder and metrics of the checkpoint from which a trial starts; None without a checkpoint."""
    found = trial.latest_checkpoint_result
    return None if found is None or found.checkpoint is None else (Path(found.checkpoint.path), found.metrics)


def error_text(trial: "Trial") -> str:
    """Traceback of a trial that Ray Tune has stored; empty if the trial has not failed."""
    return Path(trial.error_file).read_text() if trial.error_file else ""


def last_population_checkpoint(scheduler: "PopulationBasedTraining", trial: "Trial") -> Path | None:
    """Folder of the checkpoint of a trial that other trials would load; None before the first one."""
    state = scheduler._trial_state.get(trial)
    if state is None or not state.last_result or not trial.path:
        return None
    return reported_checkpoint(state.last_result, Path(trial.path))
