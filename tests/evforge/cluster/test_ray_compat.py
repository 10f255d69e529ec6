"""Undocumented parts of Ray: each test fails when Ray changes a part that `ray_compat` uses."""

import importlib
import inspect
import logging
import re
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from evforge.cluster import ray_compat


@pytest.mark.parametrize(
    ("quiet", "modules"),
    [
        (ray_compat.quiet_authentication, ["ray._private.authentication.authentication_token_setup"]),
        (ray_compat.quiet_job_client, ["ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"]),
    ],
)
def test_the_loggers_that_are_silenced_are_those_of_the_modules(quiet, modules):
    loggers = {name: importlib.import_module(name).logger for name in modules}
    quiet()
    for name, logger in loggers.items():
        assert logger.name == name and not logger.isEnabledFor(logging.INFO)


def _printed(capsys, **message):
    """What the driver prints about a message that Ray sends to it."""
    from ray._private import worker

    ray_compat.replace_messages()
    printer = inspect.getattr_static(worker, "print_to_stdstream")
    printer({"ip": "10.0.0.1", "localhost": "10.0.0.1", "is_err": False, **message}, ignore_prefix=False)
    return capsys.readouterr()


def test_the_messages_about_a_lost_node_become_one_line(capsys):
    dead = (
        "The node with node id: 4c17f0 and address: 10.0.0.3 and node name: 10.0.0.3 has been marked dead because the "
        "detector has missed too many heartbeats from it. This can happen when a \t(1) raylet crashes\n\t(2) lags"
    )
    dump = "Raylet is terminated. Termination is unexpected. Last 20 lines of the Raylet logs:\n    [state-dump] x"
    outputs = [_printed(capsys, pid="raylet", lines=[text]) for text in (dump, dead, dump)]
    assert [output.out for output in outputs] == ["", "", ""]
    assert [output.err for output in outputs] == [
        "",
        "node 10.0.0.3 was lost: its work restarts as soon as there is room on other nodes\n",
        "",
    ]


def test_other_messages_are_printed(capsys):
    assert "task 3 waits" in _printed(capsys, pid="raylet", lines=["task 3 waits"]).out
    lines = ["Raylet is terminated. says a user"]
    output = _printed(capsys, pid=71, actor_name="RayTrainWorker", lines=lines).out
    assert "RayTrainWorker pid=71" in output and "says a user" in output
    assert _printed(capsys, pid=72, actor_name="PlacementGroupCleaner", lines=["no dashboard"]) == ("", "")
    assert _printed(capsys, pid="gcs_server", is_err=True, lines=["E gcs.cc:1: Failed to remove 1 bundle"]) == ("", "")


def test_the_replaced_messages_are_those_that_ray_sends():
    """Also fails if the listeners of the driver no longer print by the replaced function."""
    import ray
    from ray._private import log_monitor, process_watcher, worker
    from ray.train.v2._internal.callbacks import placement_group_callback

    assert f'= "{ray_compat.HEAD_SERVER}"' in inspect.getsource(log_monitor)
    assert ray_compat.DEAD_RAYLET in inspect.getsource(process_watcher)
    assert "print_to_stdstream(" in inspect.getsource(worker.listen_error_messages)
    assert "print_to_stdstream," in inspect.getsource(worker.connect)
    assert placement_group_callback.PlacementGroupCleaner.__name__ == ray_compat.PLACEMENT_GROUP_CLEANER
    program = Path(ray.__file__).parent.joinpath("core", "src", "ray", "gcs", "gcs_server").read_bytes()
    for text in (b"The node with node id: ", b" and address: ", b" and node name: ", b" has been marked dead"):
        assert text in program
    raylet = Path(ray.__file__).parent.joinpath("core", "src", "ray", "raylet", "raylet").read_bytes()
    assert ray_compat.DEAD_WORKER.partition(" by ")[0].encode() in raylet


def test_lines_of_the_progress_have_no_prefix(capsys, monkeypatch):
    monkeypatch.setenv("RAY_COLOR_PREFIX", "0")
    lines = ["a warning", "epoch 1/2  loss 1", "epoch 2/2  loss 0.5", "another warning"]
    prefix = "(RayTrainWorker pid=71)"
    assert _printed(capsys, pid=71, actor_name="RayTrainWorker", lines=lines).out.splitlines() == [
        f"{prefix} a warning",
        "epoch 1/2  loss 1",
        "epoch 2/2  loss 0.5",
        f"{prefix} another warning",
    ]


def test_a_training_without_the_cleaner_has_all_other_callbacks():
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(lambda: None)
    usual = [type(callback).__name__ for callback in trainer._create_default_callbacks()]
    with ray_compat.without_group_cleaner():
        fewer = [type(callback).__name__ for callback in trainer._create_default_callbacks()]
    place = usual.index("PlacementGroupCleanerCallback")
    assert fewer == [*usual[:place], "ControllerCallback", *usual[place + 1 :]]
    assert [type(callback).__name__ for callback in trainer._create_default_callbacks()] == usual


def test_the_folder_of_the_logs_is_that_of_the_latest_ray(ray_head):
    """Its name is checked, and that Ray has such a folder: the latest Ray can be that of another process."""
    from ray._private.worker import global_worker
    from waiting import wait_for  # Ray's workers load this module and would not find it

    folder, own = ray_compat.log_folder(), Path(global_worker.node.get_session_dir_path())
    assert folder.parent == own.parent / "session_latest"
    wait_for(folder.parent.is_symlink)  # another Ray that starts replaces it, and there is none for a moment
    assert (own / folder.name / "raylet.out").is_file()


def test_processes_of_ray_without_environment_have_the_known_titles(ray_head):
    import psutil
    from waiting import wait_for

    def titles():
        names = set()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                names.add(process.name())
        return {name for name in names if "ray" in name} - {"raylet", "ray_process_reaper"}

    wait_for(lambda: titles() >= {"ray::DashboardAgent", "ray::RuntimeEnvAgent"})
    assert all(name.startswith(ray_compat.PROCESS_TITLES) for name in titles())


def test_a_head_without_an_autoscaler_does_not_grow(ray_head):
    assert ray_compat.grown_nodes() == ()


def test_a_head_that_has_just_started_is_recognised_by_its_text():
    from ray.dashboard.modules.job import job_head

    (text,) = re.findall(r'text="(No available agent[^"]*)"', inspect.getsource(job_head))
    assert ray_compat.agent_is_missing(RuntimeError(f"Request failed with status code 500: {text}"))
    assert not ray_compat.agent_is_missing(RuntimeError("Request failed with status code 500: no such package"))


def test_a_failed_training_names_its_cause():
    import ray.train
    from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

    worker = WorkerGroupError("rank 1 failed", {1: ValueError("not a number")})
    controller = ControllerError(RuntimeError("no place for the group"))
    assert isinstance(worker, ray.train.TrainingFailedError)
    assert ray_compat.failure_text(worker) == "not a number"
    assert ray_compat.failure_text(controller) == "no place for the group"
    assert ray_compat.failure_text(OSError("another")) == "another"


def test_the_list_of_checkpoints_has_the_name_that_ray_gives_it():
    from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    assert ray_compat.CHECKPOINT_LIST == CHECKPOINT_MANAGER_SNAPSHOT_FILENAME


@pytest.mark.parametrize(("text", "broken"), [('{"a": 1}\n', False), ('{"a": ', True), (None, False)])
def test_only_a_list_that_was_cut_off_is_removed(tmp_path, text, broken):
    path = tmp_path / ray_compat.CHECKPOINT_LIST
    if text is not None:
        path.write_text(text)
    assert ray_compat.drop_broken_checkpoint_list(tmp_path) is broken
    assert path.exists() == (text is not None and not broken)


def test_the_path_of_a_trial_of_workers_has_the_key_that_ray_gives_it(tmp_path):
    from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY

    result = {CHECKPOINT_PATH_KEY: str(tmp_path / "workers" / "checkpoint_7"), "checkpoint_dir_name": None}
    assert ray_compat.reported_checkpoint(result, tmp_path / "trial") == tmp_path / "workers" / "checkpoint_7"


def _train(config):
    """A trial that reports two checkpoints, whether it runs, and its folder."""
    import tempfile
    from pathlib import Path

    from ray import tune

    for epoch in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "a.txt").write_text(str(epoch))
            seen = {"running": ray_compat.trial_is_running(), "folder": str(ray_compat.trial_folder())}
            metrics = {"epoch": epoch, "score": config["score"] * epoch, **seen}
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


class Recorder:
    """Callback of a search that records the reported checkpoints."""

    def __new__(cls):
        from ray.tune import Callback

        class Notes(Callback):
            def __init__(self):
                self.checkpoints = []

            def on_trial_result(self, iteration, trials, trial, result, **info):
                self.checkpoints.append(str(ray_compat.reported_checkpoint(result, trial.path)))

            def get_state(self):
                return {"checkpoints": self.checkpoints}

            def set_state(self, state):
                self.checkpoints = state["checkpoints"]

        return Notes()


def test_a_search_keeps_its_checkpoints_and_its_state_where_they_are_looked_for(ray_head, tmp_path):
    from ray import tune

    assert not ray_compat.search_was_saved(tmp_path / "search") and not ray_compat.trial_is_running()
    notes = Recorder()
    tuner = tune.Tuner(
        tune.with_resources(_train, {"cpu": 0.1}),
        param_space={"score": 2},
        run_config=tune.RunConfig(name="search", storage_path=str(tmp_path), callbacks=[notes], verbose=0),
    )
    (result,) = tuner.fit()
    assert (result.metrics["running"], result.metrics["folder"]) == (True, result.path)
    found = sorted(str(path) for path in (tmp_path / "search").rglob(ray_compat.CHECKPOINT_FOLDERS))
    assert len(found) == 2 and notes.checkpoints == found
    assert ray_compat.search_was_saved(tmp_path / "search")
    restored = tune.Tuner.restore(str(tmp_path / "search"), tune.with_resources(_train, {"cpu": 0.1}))
    (callback,) = ray_compat.restored_callbacks(restored)
    restored.fit()
    assert callback.checkpoints == found, "the restored callback is the one whose state the search restores"


class Controller:
    search_alg = None


def _population(trial):
    from ray.tune.schedulers import PopulationBasedTraining

    scheduler = PopulationBasedTraining(
        time_attr="epoch", metric="score", mode="max", perturbation_interval=2, hyperparam_mutations={"a": [1, 2]}
    )
    scheduler.on_trial_add(Controller(), trial)
    return scheduler


def test_checkpoints_and_errors_of_a_trial_in_a_population(ray_head, tmp_path):
    from ray.train._internal.session import _TrainingResult
    from ray.train._internal.storage import StorageContext
    from ray.tune import Checkpoint
    from ray.tune.experiment import Trial
    from ray.tune.registry import register_trainable

    register_trainable("population_of_one", _train)
    storage = StorageContext(str(tmp_path), "search", trial_dir_name="unused")
    trial = Trial("population_of_one", config={"a": 1}, trial_id="one", stub=True, storage=storage)
    scheduler = _population(trial)
    assert ray_compat.last_population_checkpoint(scheduler, trial) is None
    assert ray_compat.start_checkpoint(trial) is None and ray_compat.error_text(trial) == ""
    trial.init_local_path()
    trial.handle_error(RuntimeError("out of luck"))
    assert "out of luck" in ray_compat.error_text(trial)
    result = {"epoch": 6, "score": 0.5, "checkpoint_dir_name": "checkpoint_000005"}
    trial.run_metadata.last_result = result
    trial.on_checkpoint(_TrainingResult(Checkpoint.from_directory(tmp_path), result))
    assert ray_compat.start_checkpoint(trial) == (tmp_path, result)
    scheduler._save_trial_state(scheduler._trial_state[trial], 6, result, trial)
    found = ray_compat.last_population_checkpoint(scheduler, trial)
    assert found == Path(trial.path, "checkpoint_000005") and found.is_relative_to(tmp_path / "search")


def test_each_worker_is_prepared_before_it_joins_the_group(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "ray.train.torch.config._TorchBackend.on_start", lambda self, group, config: calls.append(config.backend)
    )
    config = ray_compat.torch_config("gloo", prepare := lambda: None)
    config.backend_cls().on_start(SimpleNamespace(execute=calls.append), config)
    assert calls == [prepare, "gloo"]
