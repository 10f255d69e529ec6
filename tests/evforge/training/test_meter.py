from types import SimpleNamespace

import pytest
import torch

from evforge.training import meter
from evforge.training.meter import NORM_EVERY, TrainingMeter, memory_mb
from evforge.training.train import check_config, fit


class Module(torch.nn.Module):
    """Two weights with gradients of norm 5, and what the callback uses of a model."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.ParameterList([torch.zeros(1), torch.zeros(1), torch.zeros(1)])
        self.scale(1.0)
        self.logged = {}

    def scale(self, factor):
        self.weights[0].grad, self.weights[1].grad = torch.tensor([3 * factor]), torch.tensor([4 * factor])

    def log_dict(self, values, **options):
        self.logged.update(values)


@pytest.fixture
def trainer():
    return SimpleNamespace(num_training_batches=2, world_size=3, sanity_checking=False)


def optimizer(rate):
    return SimpleNamespace(param_groups=[{"lr": rate}])


def test_the_values_of_an_epoch(trainer, monkeypatch):
    now = iter([100.0, 104.0])
    monkeypatch.setattr(meter.time, "monotonic", lambda: next(now))
    found, module, batch = TrainingMeter(), Module(), {"inputs": torch.zeros(5, 4, 2, 1, 1)}
    found.on_train_epoch_start(trainer, module)
    for index, rate in enumerate((0.5, 0.25)):
        found.on_before_optimizer_step(trainer, module, optimizer(rate))
        found.on_train_batch_end(trainer, module, None, batch, index)
    found.on_validation_epoch_end(trainer, module)
    memory = module.logged.pop("train_memory_mb")
    assert module.logged.pop("train_grad_norm") == 5.0
    # two batches of 5 x 4 frames on each of 3 ranks, in 4 seconds
    assert module.logged == {"train_lr": 0.25, "train_frames_per_s": 30.0, "train_epoch_s": 4.0}
    assert 10 < memory <= memory_mb(torch.device("cpu"))


def test_the_gradient_norm_is_the_mean_of_every_tenth_step(trainer):
    found, module, batch = TrainingMeter(), Module(), {"inputs": torch.zeros(5, 4, 2, 1, 1)}
    found.on_train_epoch_start(trainer, module)
    for step in range(NORM_EVERY + 1):
        module.scale(1.0 if step == 0 else 3.0)
        found.on_before_optimizer_step(trainer, module, optimizer(0.5))
    found.on_train_batch_end(trainer, module, None, batch, 1)
    found.on_validation_epoch_end(trainer, module)
    assert module.logged["train_grad_norm"] == pytest.approx((5.0 + 15.0) / 2)


def test_values_begin_anew_with_each_epoch(trainer, monkeypatch):
    now = iter([100.0, 104.0, 200.0, 201.0])
    monkeypatch.setattr(meter.time, "monotonic", lambda: next(now))
    found, module, batch = TrainingMeter(), Module(), {"inputs": torch.zeros(5, 4, 2, 1, 1)}
    for scale in (1.0, 2.0):
        found.on_train_epoch_start(trainer, module)
        module.scale(scale)
        found.on_before_optimizer_step(trainer, module, optimizer(0.5))
        found.on_train_batch_end(trainer, module, None, batch, 0)
        assert module.logged == {}
        found.on_train_batch_end(trainer, module, None, batch, 1)
    found.on_validation_epoch_end(trainer, module)
    values = module.logged
    # In the second epoch, two batches of 20 frames on each of 3 ranks in one second.
    assert (values["train_frames_per_s"], values["train_epoch_s"], values["train_grad_norm"]) == (120.0, 1.0, 10.0)


def test_nothing_is_logged_before_the_end_of_an_epoch(trainer):
    found, module = TrainingMeter(), Module()
    module.log_dict = None  # would fail
    found.on_train_epoch_start(trainer, module)
    found.on_train_batch_end(trainer, module, None, {"inputs": torch.zeros(5, 4, 2, 1, 1)}, 0)
    found.on_validation_epoch_end(trainer, module)


def test_an_epoch_without_steps_has_no_norm(trainer):
    found, module = TrainingMeter(), Module()
    found.on_train_epoch_start(trainer, module)
    found.on_train_batch_end(trainer, module, None, {"inputs": torch.zeros(5, 4, 2, 1, 1)}, 1)
    found.on_validation_epoch_end(trainer, module)
    assert "train_grad_norm" not in module.logged and module.logged["train_lr"] == 0


@pytest.mark.parametrize(("system", "megabytes"), [("linux", 5.12), ("darwin", 0.005)])
def test_the_unit_of_the_peak_depends_on_the_system(monkeypatch, system, megabytes):
    monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_maxrss=5000))
    monkeypatch.setattr(meter.sys, "platform", system)
    assert memory_mb(torch.device("cpu")) == pytest.approx(megabytes)
    monkeypatch.setattr(meter.torch.cuda, "max_memory_allocated", lambda device: 3e6)
    assert memory_mb(torch.device("cuda")) == 3


def test_the_sanity_check_logs_nothing(trainer):
    module = Module()
    trainer.sanity_checking = True
    TrainingMeter().on_validation_epoch_end(trainer, module)
    assert module.logged == {}


def test_a_training_has_the_values_and_the_parts_of_its_loss(tiny_config):
    config = check_config(tiny_config.with_overrides({"train.max_epochs": 1}))
    metrics = {key: float(value) for key, value in fit(config, [], threads=1).callback_metrics.items()}
    loss = metrics["train_cls_loss"] + config.loss.loc_weight * metrics["train_loc_loss"]
    assert metrics["train_loss"] == pytest.approx(loss, rel=1e-5) and metrics["train_loc_loss"] > 0
    for name in ("lr", "grad_norm", "frames_per_s", "epoch_s", "memory_mb"):
        assert metrics[f"train_{name}"] > 0
