import json
import re
from types import SimpleNamespace

import pytest
import torch

from detector.config import Config
from evforge.training import callbacks
from evforge.training.callbacks import ProgressLine, ReportMetrics
from evforge.training.run_folder import CHECKPOINT_NAME, is_metric


class FakeTrainer:
    """What the callbacks use of a trainer."""

    def __init__(self, **changes):
        self.sanity_checking = False
        self.current_epoch, self.max_epochs, self.global_step = 2, 5, 30
        self.num_training_batches, self.num_val_batches, self.world_size = 8, [4], 2
        self.check_val_every_n_epoch = 1
        self.strategy = SimpleNamespace(root_device=torch.device("cpu"))
        self.callback_metrics = {
            "train_loss": torch.tensor(0.5),
            "val_mean_ap": torch.tensor(0.25),
            "val_mean_ap50": torch.tensor(0.75),
            "loss": torch.tensor(0.125),
            "map": torch.tensor(0.25),
        }
        self.__dict__.update(changes)

    def save_checkpoint(self, path):
        path.write_text("weights")


@pytest.fixture
def module():
    losses = torch.tensor([1.75, 1.5, 0.25])
    return SimpleNamespace(hparams=vars(Config.load().to_hparams()), mean_losses=losses)


def test_every_metric_is_reported_with_a_checkpoint(module):
    seen = []

    def report(metrics, folder):
        seen.append((metrics, (folder / CHECKPOINT_NAME).read_text(), folder))

    ReportMetrics(report).on_validation_end(FakeTrainer(), module)
    ((metrics, weights, folder),) = seen
    assert metrics == {
        "train_loss": 0.5,
        "val_mean_ap": 0.25,
        "val_mean_ap50": 0.75,
        "epoch": 3,
        "step": 30,
        "fingerprint": Config.load().fingerprint(),
    }
    assert weights == "weights"
    assert not folder.exists()


def test_the_fingerprint_is_of_what_the_model_holds(module):
    seen = []
    module.hparams["feature_base"] = 24
    ReportMetrics(lambda metrics, folder: seen.append(metrics)).on_validation_end(FakeTrainer(), module)
    assert seen[0]["fingerprint"] == Config.load(None, {"model.feature_base": 24}).fingerprint()


def test_the_sanity_check_reports_and_prints_nothing(module, capsys):
    def fail(*_):
        raise AssertionError

    trainer = FakeTrainer(sanity_checking=True)
    ReportMetrics(fail).on_validation_end(trainer, module)
    ProgressLine(every_s=0).on_validation_batch_end(trainer, module, None, None, 0)
    assert capsys.readouterr().out == ""


def started(progress, trainer):
    """Start an epoch and train one batch of 10 frames of 4 streams on two ranks."""
    progress.on_train_epoch_start(trainer, None)
    progress.on_before_optimizer_step(trainer, None, SimpleNamespace(param_groups=[{"lr": 0.00375}]))
    progress.on_train_batch_end(trainer, None, None, {"inputs": torch.zeros(10, 4, 2, 1, 1)}, 3)


def test_progress_lines(module, capsys):
    progress, trainer = ProgressLine(every_s=0), FakeTrainer()
    started(progress, trainer)
    progress.on_validation_batch_end(trainer, None, None, None, 1)
    progress.on_train_epoch_end(trainer, module)
    first, training, validation, epoch = capsys.readouterr().out.splitlines()
    assert first == "epoch 3/5  the training resumes here"
    assert training.startswith("epoch 3/5  training batch 4/8  loss 0.125  ")
    assert validation.startswith("epoch 3/5  validation batch 2/4  ")
    start = "epoch 3/5  loss 1.750 (class 1.500, box 0.250)  lr 0.00375  mAP 0.250  mAP50 0.750  "
    assert epoch.startswith(start)
    assert re.fullmatch(r"\d+ frames/s  RAM \d+\.\d GB  \d+ s  \d+ s left", epoch.removeprefix(start))


def at(monkeypatch, seconds):
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: seconds)


def test_lines_of_a_training_by_the_clock(module, capsys, monkeypatch):
    at(monkeypatch, 1000.0)
    progress, trainer = ProgressLine(every_s=10), FakeTrainer(current_epoch=0)
    progress.on_train_epoch_start(trainer, None)
    assert capsys.readouterr().out == "", "the first epoch does not resume"
    batch = {"inputs": torch.zeros(10, 4, 2, 1, 1)}
    for seconds, index in ((1009.5, 0), (1010.0, 1), (1019.0, 2), (1020.0, 3)):
        at(monkeypatch, seconds)
        progress.on_train_batch_end(trainer, None, None, batch, index)
    # 2 ranks with 40 frames per batch; 2 of 8 batches of the first of 5 epochs in 10 s, then 4 in 20 s
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/5  training batch 2/8  loss 0.125  16 frames/s  3 min left",
        "epoch 1/5  training batch 4/8  loss 0.125  16 frames/s  3 min left",
    ]
    for seconds, index in ((1029.0, 0), (1030.0, 1), (1031.0, 2)):
        at(monkeypatch, seconds)
        progress.on_validation_batch_end(trainer, None, None, None, index)
    assert capsys.readouterr().out == "epoch 1/5  validation batch 2/4  16 frames/s  2 min left\n"
    at(monkeypatch, 1040.0)
    progress.on_train_epoch_end(trainer, module)
    assert capsys.readouterr().out.strip().endswith("  40 s  3 min left")
    at(monkeypatch, 1060.0)
    progress.on_train_epoch_start(FakeTrainer(current_epoch=1), None)
    assert capsys.readouterr().out == ""
    at(monkeypatch, 1069.0)
    progress.on_train_batch_end(trainer, None, None, batch, 0)
    assert capsys.readouterr().out == "", "the time since the last line begins anew with an epoch"
    at(monkeypatch, 1070.0)
    progress.on_train_batch_end(FakeTrainer(current_epoch=1), None, None, batch, 1)
    # 1.25 of 5 epochs in 70 s; the frames are counted from the start of the epoch
    assert capsys.readouterr().out == "epoch 2/5  training batch 2/8  loss 0.125  16 frames/s  4 min left\n"


def test_the_second_of_several_validation_loaders_has_its_own_number_of_batches(capsys):
    progress, trainer = ProgressLine(every_s=0), FakeTrainer(current_epoch=0, num_val_batches=[4, 7])
    started(progress, trainer)
    capsys.readouterr()
    progress.on_validation_batch_end(trainer, None, None, None, 1, 1)
    assert "validation batch 2/7" in capsys.readouterr().out


def test_costs_are_measured_once_and_are_in_every_report(module):
    seen, calls = [], []
    trainer = FakeTrainer()
    measure = lambda *found: calls.append(found) or {"parameters": 7.0}  # noqa: E731
    reporter = ReportMetrics(lambda metrics, folder: seen.append(metrics), measure)
    for _ in range(2):
        reporter.on_validation_end(trainer, module)
    assert calls == [(trainer, module)] and [metrics["parameters"] for metrics in seen] == [7.0, 7.0]


def test_the_memory_of_a_process(monkeypatch):
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=3.25e9))
    monkeypatch.setattr(callbacks.psutil, "Process", lambda: process)
    monkeypatch.setattr(callbacks.torch.cuda, "max_memory_reserved", lambda device: 12.3e9)
    assert callbacks._memory(FakeTrainer()) == "RAM 3.2 GB"
    on_gpu = FakeTrainer(strategy=SimpleNamespace(root_device=torch.device("cuda", 0)))
    assert callbacks._memory(on_gpu) == "RAM 3.2 GB, GPU 12.3 GB"


def test_an_epoch_that_was_not_validated_shows_no_map(module, capsys):
    progress, trainer = ProgressLine(), FakeTrainer(current_epoch=0, check_val_every_n_epoch=2)
    started(progress, trainer)
    progress.on_train_epoch_end(trainer, module)
    (line,) = capsys.readouterr().out.splitlines()
    assert "loss 1.750" in line and "mAP" not in line
    trainer.current_epoch = 1
    progress.on_train_epoch_end(trainer, module)
    trainer.callback_metrics = {}
    progress.on_train_epoch_end(trainer, module)
    first, second = capsys.readouterr().out.splitlines()
    assert "mAP 0.250  mAP50 0.750" in first and "mAP" not in second


def test_a_resumed_epoch_without_batches_has_no_line(module, capsys):
    progress, trainer = ProgressLine(), FakeTrainer(current_epoch=0)
    progress.on_train_epoch_start(trainer, None)
    progress.on_train_epoch_end(trainer, module)
    assert capsys.readouterr().out == ""


def test_time_left_counts_the_epochs_of_this_process(monkeypatch):
    clock = iter([100.0, 130.0, 130.0])
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(clock))
    progress = ProgressLine()
    progress._first_epoch, progress._start = 1, 100.0
    next(clock)
    # epoch 2 of 5 resumed here; now 1.5 of 4 epochs are done in 30 s
    assert progress._left_s(FakeTrainer(), 0.5) == pytest.approx(50.0)


def test_a_bar_replaces_the_lines_within_an_epoch(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(callbacks, "BAR_PAUSE_S", 0.0)
    path = tmp_path / "progress.json"
    started(ProgressLine(every_s=0, file=path), FakeTrainer(current_epoch=0))
    found = json.loads(path.read_text())
    assert (found["epoch"], found["epochs"], found["step"], found["done"], found["batches"]) == (1, 5, "training", 4, 8)
    assert found["text"].startswith("loss 0.125  ")
    assert capsys.readouterr().out == ""


def test_no_line_before_its_time(capsys):
    started(ProgressLine(every_s=1e6), FakeTrainer(current_epoch=0))
    assert capsys.readouterr().out == ""


def test_metrics_differ_from_the_values_of_the_progress_line():
    names = ("train_loss", "val_mean_ap", "test_mean_ap", "loss", "map", "epoch", "time_total_s")
    assert [name for name in names if is_metric(name)] == ["train_loss", "val_mean_ap", "test_mean_ap"]
