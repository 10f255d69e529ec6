"""All uses of private or undocumented parts of Ray: functions, file names and message texts.

A test fails if Ray changes one of these parts. Does not belong here: Ray's documented API.
"""

import functools
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient
    from ray.train.torch import TorchConfig
    from ray.tune import Tuner
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import PopulationBasedTraining

__all__ = [
    "CHECKPOINT_FOLDERS",
    "PROCESS_TITLES",
    "agent_is_missing",
    "before_retries",
    "drop_broken_checkpoint_list",
    "error_text",
    "failed_node",
    "failure_text",
    "fetch_shared",
    "grown_nodes",
    "keep_environment_private",
    "last_population_checkpoint",
    "log_folder",
    "quiet_authentication",
    "quiet_job_client",
    "replace_messages",
    "remove_shared",
    "reported_checkpoint",
    "restored_callbacks",
    "search_was_saved",
    "send_package",
    "start_checkpoint",
    "store_shared",
    "take_package",
    "torch_config",
    "trial_folder",
    "trial_is_running",
    "without_group_cleaner",
]

PROCESS_TITLES = ("ray::", "ray-")
"""First characters of the names that some of Ray's processes give themselves, which overwrites their environment."""

LOST_NODE = re.compile(r"The node with node id: \w+ and address: (\S+) and node name: \S+ has been marked dead")
"""Message of the head about a node that no longer answers."""

DEAD_RAYLET = "Raylet is terminated."
"""Start of the messages, one per agent of the node, that contain the end of the log of a node that was lost."""

DEAD_WORKER = "A worker died or was killed while executing a task by an unexpected system error."
"""Start of the message about a process that was lost. The error of its task names it, too."""

HEAD_SERVER = "gcs_server"
"""Sender of the lines in the log of the head's server. They are about its own retries, for example of a lost node."""

PLACEMENT_GROUP_CLEANER = "PlacementGroupCleaner"
"""Actor of each training. Without a dashboard it prints a warning per second, and it has nothing to clean."""

PROGRESS = "epoch "
"""Start of the lines of a training's first worker that are printed without the name of the worker."""

MOST_NODES = 100
"""Assumed largest number of nodes in an autoscaler's node group without a limit."""

CHECKPOINT_FOLDERS = "checkpoint_*"
"""Glob pattern of the folders in which Ray Train and Ray Tune store reported checkpoints."""

CHECKPOINT_LIST = "checkpoint_manager_snapshot.json"
"""Name of the file in which Ray Train lists the checkpoints of a run."""

SHARED = b"evforge_credentials"
"""Part of Ray's key-value store in which drivers store bytes for their workers. The key is the id of Ray's job."""

SAVED_SEARCH = "experiment_state-*.json"
"""Glob pattern of the files in which Ray Tune saves the state of a search."""


def quiet_authentication() -> None:
    """Silence Ray's message that names the source of the authentication token."""
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def quiet_job_client() -> None:
    """Silence the messages of Ray's job client about shipped packages.

    Call this function after the client is imported.
    """
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)


@functools.cache
def replace_messages() -> None:
    """Make Ray print one line about a lost node instead of dozens, and none about a lost worker or a missing dashboard.

    Call this function before `ray.init`.
    """
    from ray._private import worker

    ray_prints = worker.print_to_stdstream

    def print_rest(data: dict[str, Any], ignore_prefix: bool) -> None:
        lines = [line for line in data["lines"] if not _is_replaced(data, line)]
        for own, group in groupby(lines, lambda line: line.startswith(PROGRESS)):
            ray_prints({**data, "lines": list(group)}, ignore_prefix or own)

    worker.print_to_stdstream = print_rest


def _is_replaced(message: dict[str, Any], line: str) -> bool:
    """Return whether Ray must not print a line of a message. For a line about a lost node, print a shorter line.

    Args:
        message: dict with the lines that one process has printed, and with the name of this process.
        line: one of these lines.
    """
    if message.get("actor_name") == PLACEMENT_GROUP_CLEANER or message.get("pid") == HEAD_SERVER:
        return True
    if message.get("pid") != "raylet":
        return False
    if lost := LOST_NODE.search(line):
        text = f"node {lost[1]} was lost: its work restarts as soon as there is room on other nodes"
        print(text, file=sys.stderr, flush=True)
    return bool(lost) or line.startswith((DEAD_RAYLET, DEAD_WORKER))


@contextmanager
def without_group_cleaner() -> Iterator[None]:
    """Context manager that prevents Ray Train from starting its process `PlacementGroupCleaner` in the block.

    This process needs 120 MB. It frees the CPUs of a training if the controller of the training dies and the driver
    continues. Here, the driver ends together with the training. Without a dashboard, the process does not work anyway.
    """
    from ray.train.v2._internal.execution.callback import ControllerCallback
    from ray.train.v2.api import data_parallel_trainer

    trainer: Any = data_parallel_trainer
    callback = trainer.PlacementGroupCleanerCallback
    trainer.PlacementGroupCleanerCallback = ControllerCallback
    try:
        yield
    finally:
        trainer.PlacementGroupCleanerCallback = callback


def torch_config(backend: str, prepare: Callable[[], None]) -> "TorchConfig":
    """Return a configuration of torch's process group.

    Args:
        backend: "gloo" or "nccl".
        prepare: function that each worker calls before it joins the group.
    """
    from ray.train.torch import config

    class Backend(config._TorchBackend):
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(prepare)
            super().on_start(worker_group, backend_config)

    class Config(config.TorchConfig):
        @property
        def backend_cls(self) -> type[Backend]:
            return Backend

    return Config(backend=backend)


def log_folder() -> Path:
    """Return the folder with the logs of the Ray that was last started on this machine."""
    from ray._common.utils import get_default_ray_temp_dir

    return Path(get_default_ray_temp_dir(), "session_latest", "logs")


def grown_nodes() -> tuple[tuple[int, int], ...]:
    """Return (CPU cores, GPUs) of each node in the largest cluster that the autoscaler can start.

    The tuple is empty if the cluster has no autoscaler.
    """
    import ray._private.state

    config = ray._private.state.state.get_cluster_config()
    nodes: list[tuple[int, int]] = []
    for group in config.node_group_configs if config else ():
        count = min(group.max_count, MOST_NODES) if group.max_count >= 0 else MOST_NODES  # -1 means no limit
        nodes += [(int(group.resources["CPU"]), int(group.resources["GPU"]))] * count
    return tuple(nodes)


def agent_is_missing(error: RuntimeError) -> bool:
    """Return whether the head node rejected a job only because it has just started. The job can be submitted again."""
    return "No available agent" in str(error)


def failure_text(error: Exception) -> str:
    """Return the message of the failure that caused an error of Ray Train, from a worker or else the controller."""
    causes = list(getattr(error, "worker_failures", {}).values()) or [getattr(error, "controller_failure", error)]
    return str(causes[0])


def drop_broken_checkpoint_list(folder: Path) -> bool:
    """Remove Ray Train's list of checkpoints from the folder of a run if the list is truncated.

    A full disk can truncate the list. Ray Train cannot read a truncated list.

    Returns:
        True if the list was truncated and removed; False if the list is complete or absent.
    """
    listed = folder / CHECKPOINT_LIST
    if not listed.is_file() or listed.read_bytes().rstrip().endswith(b"}"):
        return False
    listed.unlink()
    return True


def search_was_saved(folder: Path) -> bool:
    """Return whether `folder` contains the saved state of a search, from which Ray Tune can resume the search."""
    return any(folder.glob(SAVED_SEARCH))


def restored_callbacks(tuner: "Tuner") -> list[Any]:
    """Return the callbacks that `Tuner.restore` has unpickled for `tuner`."""
    local: Any = tuner._local_tuner
    return list(local.get_run_config().callbacks)


def trial_is_running() -> bool:
    """Return True if the trial of this process is running, and False if the trial was stopped."""
    from ray.train._internal.session import get_session

    return get_session() is not None


def trial_folder() -> Path:
    """Return the folder in which Ray Tune stores the checkpoints of the trial of this process."""
    from ray import tune

    return Path(tune.get_context().get_storage().trial_fs_path)


def reported_checkpoint(result: dict[str, Any], folder: Path | None) -> Path:
    """Return the folder of the checkpoint that a trial reported together with a result.

    Args:
        result: the result that Ray Tune passes to `Callback.on_trial_result`.
        folder: folder of the trial, used if the result contains only the name of the checkpoint folder.
    """
    return Path(result.get("checkpoint_path") or Path(folder or "", result.get("checkpoint_dir_name") or ""))


def start_checkpoint(trial: "Trial") -> tuple[Path, dict[str, Any]] | None:
    """Return the folder and metrics of the checkpoint from which a trial starts; None if there is no checkpoint."""
    found = trial.latest_checkpoint_result
    return None if found is None or found.checkpoint is None else (Path(found.checkpoint.path), found.metrics)


def error_text(trial: "Trial") -> str:
    """Return the traceback that Ray Tune has stored for a failed trial; empty if the trial has not failed."""
    return Path(trial.error_file).read_text() if trial.error_file else ""


def failed_node(trial: "Trial") -> str | None:
    """Return the id of the node that caused the failure of a trial; None if it is unknown.

    The id is the attribute `node_id` of the exception that the trial raised.
    """
    from ray import cloudpickle

    file = trial.pickled_error_file  # `Trial.get_pickled_error` reads a copy that is written later
    error = cloudpickle.loads(Path(file).read_bytes()) if file else None
    return getattr(getattr(error, "cause", error), "node_id", None)


@contextmanager
def before_retries(act: Callable[["Trial"], None]) -> Iterator[None]:
    """Context manager: in its block, `act` is called with each failed trial before Ray Tune queues the trial again.

    Ray's callback `on_trial_recover` comes too late to change the requested resources of the trial.
    """
    from ray.tune.execution.tune_controller import TuneController

    requeue = TuneController._requeue_trial

    def act_and_requeue(controller: TuneController, trial: "Trial") -> None:
        act(trial)
        requeue(controller, trial)

    TuneController._requeue_trial = act_and_requeue  # type: ignore[method-assign]
    try:
        yield
    finally:
        TuneController._requeue_trial = requeue  # type: ignore[method-assign]


def last_population_checkpoint(scheduler: "PopulationBasedTraining", trial: "Trial") -> Path | None:
    """Return the folder of the checkpoint that other trials load to continue `trial`.

    The result is None before the first checkpoint of `trial`.
    """
    state = scheduler._trial_state.get(trial)
    if state is None or not state.last_result or not trial.path:
        return None
    return reported_checkpoint(state.last_result, Path(trial.path))


def keep_environment_private() -> None:
    """Stop Ray Tune from adding the credentials of AWS to the environment of trials, which Ray writes to its logs."""
    from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

    private = {name for name in ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    ENV_VARS_TO_PROPAGATE.difference_update(private)


def send_package(client: "JobSubmissionClient", name: str, data: bytes) -> None:
    """Store bytes in the key-value store of a cluster, as a package that Ray removes after 10 minutes.

    Unlike the job client itself, this function writes no file.

    Args:
        client: client of the job server.
        name: name of the package. It ends with `.zip`.
        data: content of the package.

    Raises:
        RuntimeError: the cluster does not accept the package.
    """
    answer = client._do_request("PUT", f"/api/packages/gcs/{name}", data=data)
    stored = answer.status_code == 200 and client._package_exists(_package_uri(name))  # this starts the 10 minutes
    if not stored:
        raise RuntimeError(f"package {name}: {answer.status_code}")


def take_package(address: str, name: str) -> bytes | None:
    """Return the content of a package and remove it; None if there is no such package.

    Args:
        address: address HOST:PORT of the cluster's head.
        name: name of the package.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    client, key = GcsClient(address=address), _package_uri(name).encode()
    data = client.internal_kv_get(key, None)
    client.internal_kv_del(key, False, None)
    return data


def store_shared(data: bytes) -> None:
    """Store bytes on the cluster for the workers of this driver. Remove the bytes of drivers that have died."""
    from ray.experimental import internal_kv

    client = internal_kv.internal_kv_get_gcs_client()
    jobs = client.get_all_job_info(skip_submission_job_info_field=True, skip_is_running_tasks_field=True)
    for job_id, job in jobs.items():
        if job.is_dead:
            client.internal_kv_del(job_id.hex().encode(), False, SHARED)
    internal_kv._internal_kv_put(_job_id(), data, namespace=SHARED)


def fetch_shared() -> bytes | None:
    """Return the bytes that the driver of this process has stored by `store_shared`; None if there are none."""
    from ray.experimental.internal_kv import _internal_kv_get

    return _internal_kv_get(_job_id(), namespace=SHARED)


def remove_shared() -> None:
    """Remove the bytes that this driver has stored by `store_shared`. Do nothing if the cluster no longer runs."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_del

    with suppress(ray.exceptions.RayError):
        _internal_kv_del(_job_id(), namespace=SHARED)


def _package_uri(name: str) -> str:
    return f"gcs://{name}"


def _job_id() -> str:
    import ray

    return ray.get_runtime_context().get_job_id()
