from types import SimpleNamespace

import torch

from detector.data.label_map import class_names
from detector.layers.recurrent import stateful_modules
from detector.lightning_model import LightningDetectionModel
from evforge.training import profiling
from evforge.training.profiling import measure_rate, measure_speed, model_costs
from evforge.training.train import check_config


def test_the_second_step_is_measured(tiny_config, monkeypatch):
    times = iter([0.0, 100.0, 100.0, 100.5])  # the first step takes 100 s, the second one 0.5 s
    monkeypatch.setattr(profiling, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    config = tiny_config.with_overrides({"data.classes": class_names(tiny_config.data)})
    frames = config.data.batch_size * config.data.num_tbins
    assert measure_rate(config, threads=1, use_gpu=False) == frames / 0.5


def test_a_measured_step_contains_the_backward_pass(tiny_config, monkeypatch):
    with_gradients = []

    def optimizer(parameters, config):
        found = list(parameters)
        step = lambda: with_gradients.append(sum(value.grad is not None for value in found) / len(found))  # noqa: E731
        return SimpleNamespace(zero_grad=lambda: None, step=step)

    monkeypatch.setattr("detector.optim.optimizers.build_optimizer", optimizer)
    config = tiny_config.with_overrides({"data.classes": class_names(tiny_config.data)})
    measure_rate(config, threads=1, use_gpu=False)
    assert with_gradients == [1.0, 1.0]


def test_the_state_of_the_measured_frames_is_cleared(tiny_config):
    model = LightningDetectionModel(check_config(tiny_config).to_hparams())
    model.height, model.width = 64, 96
    precision = SimpleNamespace(forward_context=lambda: torch.autocast("cpu", enabled=False))
    model(torch.ones(1, 1, 2, 64, 96))
    cells = stateful_modules(model)
    assert len(cells) == 2 and all(cell.state for cell in cells)
    model_costs(SimpleNamespace(precision_plugin=precision), model)
    assert [cell.state for cell in cells] == [[], []]


def test_speed(export):
    speed = measure_speed(export)
    assert speed["frame"] == "160 x 120, one stream, boxes included"
    assert float(speed["median time"].partition(" ms")[0]) > 0
