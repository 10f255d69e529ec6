import os
import subprocess
import time
from contextlib import contextmanager

import pytest

from evforge import EvForgeError
from evforge.cluster.session import Resources
from evforge.tracking.tracker import Tracker
from evforge.training import driver, lease
from evforge.training.driver import driven_run
from evforge.training.lease import LEASE_FILE
from evforge.training.run_folder import write_record
from evforge.training.train import check_config


@pytest.fixture
def config(tiny_config, monkeypatch):
    """A configuration, in a session without Ray."""

    @contextmanager
    def session(dashboard):
        yield Resources(((2, 0),))

    monkeypatch.setattr(driver, "ray_session", session)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(driver, "serving_nodes", lambda config, resources: resources)
    return check_config(tiny_config)


def drive(config, resume=None, require=lambda resources: None, **new):
    return driven_run("study", config, resume, require, dashboard=False, **new)


def runs(config):
    tracker = Tracker(config.track.tracking_uri, config.track.experiment)
    return [(run.info.run_name, run.info.status) for run in tracker.client.search_runs([tracker.experiment_id])]


def test_a_run_has_a_folder_a_lease_and_its_files_twice(config, capfd):
    with drive(config, files={"space.yaml": "space: {}\n"}, tags={"space": "a.yaml"}) as run:
        assert run.folder.name.startswith("study-") and (run.folder / LEASE_FILE).is_file()
        assert (run.folder / "space.yaml").read_text() == "space: {}\n"
        info = run.tracker.run_info(run.run_id)
        assert info.status == "RUNNING" and info.tags["space"] == "a.yaml" and info.tags["path"] == str(run.folder)
        note = info.tags["mlflow.note.content"]
        assert note.startswith("Search: the child runs are its trials. Classes: block, tower. Dataset: `dataset`.")
        assert "evforge tune space.yaml --config config.yaml" in note and f"--resume {run.folder}" in note
        inputs = run.tracker.client.get_run(run.run_id).inputs.dataset_inputs
        assert sorted(tag.value for one in inputs for tag in one.tags) == ["train", "val"]
        stored = {file.path for file in run.tracker.client.list_artifacts(run.run_id)}
        assert stored == {"config.yaml", "space.yaml"}
    assert runs(config) == [(run.folder.name, "FINISHED")] and not (run.folder / LEASE_FILE).exists()
    assert "resume" not in capfd.readouterr().err


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["write_text", "write_record", "hold_lease"])
def test_a_start_that_fails_leaves_neither_folder_nor_run(config, tmp_path, monkeypatch, step, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(driver, step, fail)
    with pytest.raises(type(error)), drive(config, files={"space.yaml": "space: {}\n"}):
        pytest.fail("started")
    assert list((tmp_path / "runs").iterdir()) == [] and runs(config) == []


def test_too_few_resources_are_found_before_a_folder_exists(config, tmp_path):
    def require(resources):
        raise EvForgeError(f"{resources.cpus} cores")

    with pytest.raises(EvForgeError, match="2 cores"), drive(config, require=require):
        pytest.fail("started")
    assert not (tmp_path / "runs").exists() and runs(config) == []


@pytest.mark.parametrize(("error", "status"), [(EvForgeError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_after_an_error_the_command_that_resumes_is_printed_and_works(config, capfd, error, status):
    with pytest.raises(type(error)), drive(config) as first:
        raise error
    assert f"resume with: evforge tune --resume {first.folder}\n" in capfd.readouterr().err
    assert runs(config) == [(first.folder.name, status)]
    with drive(config, first.folder) as second:
        assert (second.folder, second.run_id) == (first.folder, first.run_id)
        assert runs(config) == [(first.folder.name, "RUNNING")]
    assert runs(config) == [(first.folder.name, "FINISHED")]


def test_a_second_driver_is_refused_before_it_changes_anything(config):
    with drive(config) as first:
        held = (first.folder / LEASE_FILE).read_text()
        with pytest.raises(EvForgeError, match="is working in this folder"), drive(config, first.folder):
            pytest.fail("started")
        assert (first.folder / LEASE_FILE).read_text() == held
        assert runs(config) == [(first.folder.name, "RUNNING")]


@pytest.fixture
def crashed(config, tmp_path, monkeypatch):
    """Returns a function that makes the folder of a run whose machine has failed. The storage is a relative path."""
    monkeypatch.chdir(tmp_path)
    tracker = Tracker(config.track.tracking_uri, config.track.experiment)

    def make(name, **tags):
        folder = tmp_path / "runs" / f"study-{name}"
        folder.mkdir(parents=True)
        run_id = tracker.start_run(folder.name, {}, {"path": str(folder), **tags})
        (folder / LEASE_FILE).write_text("filelock/2\npid=1\nhost=x\nmode=lease\ntoken=1\nduration=6.0\nstart=1\n")
        os.utime(folder / LEASE_FILE, (0, time.time() - 1000))
        write_record(folder, config, tracker, run_id)
        return folder

    return make


def test_the_run_of_a_machine_that_failed_is_ended_by_a_later_driver(config, crashed, capfd):
    config = config.with_overrides({"train.storage": "runs"})
    folder = crashed("1")
    with drive(config) as run:
        pass
    assert sorted(runs(config)) == [("study-1", "KILLED"), (run.folder.name, "FINISHED")]
    assert f"resume with: evforge tune --resume {folder}\n" in capfd.readouterr().out
    with drive(config):
        pass
    assert "died" not in capfd.readouterr().out


def test_the_run_of_a_copied_folder_goes_on(config, crashed):
    crashed("copied", path="/elsewhere/study-copied")
    crashed("resumed", resumed_ms=int(time.time() * 1000))
    with drive(config):
        pass
    assert {("study-copied", "RUNNING"), ("study-resumed", "RUNNING")} <= set(runs(config))


def test_a_damaged_folder_prevents_no_training(config, crashed):
    folder = crashed("damaged")
    (folder / "run.json").write_text("")
    with drive(config) as run:
        pass
    assert (run.folder.name, "FINISHED") in runs(config) and folder.is_dir()


def test_a_resume_that_is_interrupted_at_once_removes_nothing(config, monkeypatch):
    with pytest.raises(KeyboardInterrupt), drive(config) as run:
        raise KeyboardInterrupt
    started = subprocess.Popen

    def interrupted(*arguments, **options):
        started(*arguments, **options).communicate(b"")  # a guard that hears nothing
        raise KeyboardInterrupt

    monkeypatch.setattr("evforge.tracking.guard.subprocess.Popen", interrupted)
    with pytest.raises(KeyboardInterrupt), drive(config, run.folder):
        pass
    assert (run.folder / "run.json").is_file()
    assert runs(config) == [(run.folder.name, "KILLED")]
