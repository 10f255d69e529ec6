import errno
import pickle

import pytest
import pytorch_lightning as pl

from evforge import EvForgeError
from evforge.tracking.tracker import Tracker
from evforge.training.callbacks import ReportMetrics
from evforge.training.failures import NodeError, TrainingFailed, failure_printer, is_temporary
from evforge.training.run_folder import (
    CheckpointError,
)
from evforge.training.train import check_config, fit


def _caused(error, cause):
    try:
        try:
            raise cause
        except type(cause):
            raise error from None
    except type(error) as caused:
        return caused


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (FileNotFoundError("gone"), True),
        (ConnectionResetError("reset"), True),
        (MemoryError(), True),
        (TrainingFailed("a worker was lost"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 MiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"), True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), True),
        (_caused(ValueError("frames 0 to 4 cannot be read"), OSError(5, "Input/output error")), True),
        (EOFError(), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("optim.lr: got -1"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (_caused(ValueError("bad"), KeyError("bad")), False),
        (EvForgeError("every trial failed"), False),
    ],
)
def test_which_failures_a_retry_may_cure(error, temporary):
    assert is_temporary(error) is temporary


def test_the_error_of_a_node_survives_its_way_to_the_driver():
    error = pickle.loads(pickle.dumps(NodeError("OSError: gone", "ab12")))
    assert str(error) == "OSError: gone" and error.node_id == "ab12"


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


class FullDisk(pl.Callback):
    """Fills the disk after the validation: earlier, numba could not write its cache."""

    def __init__(self, fill):
        self.fill = fill

    def on_validation_end(self, trainer, pl_module):
        self.fill()


def test_a_training_whose_checkpoint_finds_no_room_says_so(tiny_config, tmp_path, monkeypatch, request):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    reports = []
    callbacks = [
        FullDisk(lambda: request.getfixturevalue("small_disk")),
        ReportMetrics(lambda *report: reports.append(report)),
    ]
    with pytest.raises(
        CheckpointError, match=r"scratch/evforge-\w+: a checkpoint cannot be written: File too large; free"
    ):
        fit(check_config(tiny_config), callbacks, threads=1)
    assert reports == [] and list((tmp_path / "scratch").iterdir()) == []


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
    monkeypatch.setattr("evforge.tracking.retry_queue.time.sleep", lambda seconds: None)
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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The actor died unexpectedly.\n\tclass_name: RayTrainWorker\n\tpid: 7", "The actor died unexpectedly."),
        ("no memory\nTraceback (most recent call last):\n  ...\nOSError: no memory\n", "OSError: no memory"),
    ],
)
def test_each_failure_of_ranks_is_one_line(capsys, text, reason):
    failure_printer().after_exception(None, {2: RuntimeError("later"), 1: RuntimeError(text)})
    assert capsys.readouterr().out == f"ranks that failed: 1, 2 ({reason})\n"
