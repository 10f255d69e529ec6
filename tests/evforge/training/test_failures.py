import errno
import resource
import traceback
from types import SimpleNamespace

import pytest

from evforge import runs
from evforge.callbacks import ReportMetrics
from evforge.runs import (
    CHECKPOINT_NAME,
    CheckpointError,
    copy_checkpoint,
    last_checkpoint,
    note_failure,
    whole_checkpoints,
    write_text,
)
from evforge.tracking import Tracker
from evforge.train import check_config, fit


@pytest.fixture
def small_disk():
    """Files of this process can have 1 KB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_training_whose_checkpoint_finds_no_room_says_so(tiny_config, tmp_path, monkeypatch, small_disk):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    reports = []
    with pytest.raises(
        CheckpointError, match=r"scratch/evforge-\w+: a checkpoint cannot be written: File too large; make"
    ):
        fit(check_config(tiny_config), [ReportMetrics(lambda *report: reports.append(report))], threads=1)
    assert reports == [] and list((tmp_path / "scratch").iterdir()) == []


def test_what_ray_wrote_of_a_checkpoint_goes_again(tmp_path):
    def ray_writes():
        (tmp_path / "checkpoint_000001").mkdir()
        (tmp_path / "checkpoint_000001" / CHECKPOINT_NAME).write_text("hal")
        full_disk()

    (tmp_path / "checkpoint_000000").mkdir()
    (tmp_path / "checkpoint_000000" / CHECKPOINT_NAME).write_text("all")
    message = "a checkpoint cannot be written: No space left on device"
    with pytest.raises(CheckpointError, match=message), whole_checkpoints(tmp_path, tmp_path / "checkpoint_000000"):
        ray_writes()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_000000"]


def test_a_checkpoint_leaves_room_for_what_ray_writes(tmp_path, monkeypatch):
    (tmp_path / CHECKPOINT_NAME).write_text("all")
    free = runs.SPARE_BYTES + len("all")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with whole_checkpoints(tmp_path / "run", tmp_path):
        free -= 1
    with pytest.raises(CheckpointError, match="No space left"), whole_checkpoints(tmp_path / "run", tmp_path):
        pytest.fail("it was not looked")


@pytest.mark.parametrize(("text", "found"), [("", "2"), ('{"check', "2"), ('{"checkpoints": []}\n', None)])
def test_a_list_of_checkpoints_that_was_cut_off(tmp_path, text, found):
    assert last_checkpoint(tmp_path) is None
    for number in "12":
        (tmp_path / f"checkpoint_{number}").mkdir()
        (tmp_path / f"checkpoint_{number}" / CHECKPOINT_NAME).write_text("all")
    listed = tmp_path / "checkpoint_manager_snapshot.json"
    listed.write_text(text)
    assert last_checkpoint(tmp_path) == (found and str(tmp_path / f"checkpoint_{found}" / CHECKPOINT_NAME))
    assert listed.is_file() == (found is None)


def test_files_are_whole_or_not_there(tmp_path, small_disk):
    (tmp_path / "big").mkdir()
    with pytest.raises(OSError, match="File too large"):
        write_text(tmp_path / "config.yaml", "x" * 5000)
    note_failure(tmp_path / "failures" / "a.txt", "x" * 5000)  # Ray tells of it instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    (tmp_path / "big" / CHECKPOINT_NAME).write_text("x" * 5000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with pytest.raises(OSError, match="File too large"):
        copy_checkpoint(tmp_path / "big", tmp_path / "best.ckpt")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["big", CHECKPOINT_NAME, "failures"]


def test_a_failure_is_noted_where_there_is_room(tmp_path):
    note_failure(tmp_path / "failures" / "a.txt", "why")
    assert (tmp_path / "failures" / "a.txt").read_text() == "why"


def test_the_error_crosses_processes():
    import pickle

    error = CheckpointError.of(runs.Path("runs"), OSError(errno.ENOSPC, "x"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    text = "".join(traceback.format_exception_only(error))
    assert text.startswith("evforge.runs.CheckpointError: runs: a checkpoint")


class Away:
    """A method of MLflow's client whose server is away for some calls."""

    def __init__(self, call, away):
        self.call, self.away, self.calls = call, away, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls in self.away:
            raise ConnectionError("refused")
        return self.call(*args, **kwargs)


def test_a_server_that_goes_away_costs_a_training_nothing(tiny_config, monkeypatch):
    monkeypatch.setattr("evforge.outbox.time.sleep", lambda seconds: None)
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    monkeypatch.setattr(tracker.client, "get_experiment", Away(tracker.client.get_experiment, range(1, 3)))
    # Parameters are one call, then comes one an epoch: the second epoch finds nobody, four times.
    monkeypatch.setattr(tracker.client, "log_batch", Away(tracker.client.log_batch, range(3, 7)))
    monkeypatch.setattr(tracker.client, "set_terminated", Away(tracker.client.set_terminated, [1, 2]))

    def report(metrics, folder):
        tracker.log_metrics(run_id, {"val_mean_ap": metrics["val_mean_ap"]}, step=metrics["epoch"])

    with tracker.run("train", {"a": 1}) as run_id:
        fit(check_config(tiny_config.with_overrides({"train.max_epochs": 3})), [ReportMetrics(report)], threads=1)
    assert [epoch for epoch, _ in tracker.metric_history(run_id, "val_mean_ap")] == [1, 2, 3]
    assert tracker.run_info(run_id).status == "FINISHED"
