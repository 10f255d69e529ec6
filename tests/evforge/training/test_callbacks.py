from types import SimpleNamespace

import pytest
import torch

from detector.config import Config
from evforge.training.callbacks import ProgressLine, ReportMetrics
from evforge.training.run_folder import CHECKPOINT_NAME, is_metric


class FakeTrainer:
    """What the callbacks use of a trainer."""

    def __init__(self, **changes):
        self.sanity_checking = False
        self.current_epoch, self.max_epochs, self.global_step = 2, 5, 30
        self.num_training_batches, self.world_size = 8, 2
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
    return SimpleNamespace(hparams=vars(Config.load().to_hparams()))


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
    ProgressLine().on_validation_end(trainer, module)
    assert capsys.readouterr().out == ""


def test_progress_lines(capsys):
    progress = ProgressLine(every_s=0)
    trainer, batch = FakeTrainer(), {"inputs": torch.zeros(10, 4, 2, 1, 1)}
    progress.on_train_epoch_start(trainer, None)
    progress.on_train_batch_end(trainer, None, None, batch, 3)
    progress.on_validation_end(trainer, None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 3/5  batch 4/8  loss 0.125  ")
    assert " frames/s  " in lines[0]
    assert lines[1].startswith("epoch 3/5  train_loss 0.500  val_mean_ap 0.250  val_mean_ap50 0.750  ")


def test_no_line_before_its_time(capsys):
    progress = ProgressLine(every_s=1e6)
    progress.on_train_epoch_start(FakeTrainer(), None)
    progress.on_train_batch_end(FakeTrainer(), None, None, {"inputs": torch.zeros(1, 1, 2, 1, 1)}, 0)
    assert capsys.readouterr().out == ""


def test_metrics_differ_from_the_values_of_the_progress_line():
    names = ("train_loss", "val_mean_ap", "test_mean_ap", "loss", "map", "epoch", "time_total_s")
    assert [name for name in names if is_metric(name)] == ["train_loss", "val_mean_ap", "test_mean_ap"]
