from types import SimpleNamespace

import torch

from detector.data.label_map import class_names
from detector.layers.recurrent import stateful_modules
from detector.lightning_model import LightningDetectionModel
from evforge.training import profiling
from evforge.training.profiling import measure_rate, measure_speed, median_seconds, model_costs
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


def test_the_median_of_the_calls_after_the_warm_up(monkeypatch):
    durations, calls, now = [50.0, 60.0, 3.0, 1.0, 7.0], [], [0.0]

    def call():
        now[0] += durations[len(calls)]
        calls.append(now[0])

    monkeypatch.setattr(profiling, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert median_seconds(call, torch.device("cpu"), warm_up=2, rounds=3) == 3.0
    assert len(calls) == 5


def test_the_number_of_threads_is_restored(tiny_config, monkeypatch):
    seen, before = [], torch.get_num_threads()
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.setattr(profiling, "median_seconds", lambda *args, **kwargs: 2.0)
    config = tiny_config.with_overrides({"data.classes": class_names(tiny_config.data)})
    assert measure_rate(config, threads=before + 3, use_gpu=False) == config.data.batch_size * config.data.num_tbins / 2
    assert seen == [before + 3, before]


def test_the_state_of_the_measured_frames_is_cleared(tiny_config):
    model = LightningDetectionModel(check_config(tiny_config).to_hparams())
    model.height, model.width = 64, 96
    precision = SimpleNamespace(forward_context=lambda: torch.autocast("cpu", enabled=False))
    model(torch.ones(1, 1, 2, 64, 96))
    cells = stateful_modules(model)
    assert len(cells) == 2 and all(cell.state for cell in cells)
    model_costs(SimpleNamespace(precision_plugin=precision), model)
    assert [cell.state for cell in cells] == [[], []]


def test_speed_as_text(export, monkeypatch):
    asked = []
    monkeypatch.setattr(profiling, "median_seconds", lambda *args: asked.append(args[2:]) or 0.0125)
    speed = measure_speed(export)
    assert speed["median time"] == "12.5 ms, of 15 frames" and asked == [(3, 15)]
    assert speed["real-time factor"] == "4.0 at 50 ms per frame"
    assert speed["where"].startswith("CPU, ") and f"threads: {torch.get_num_threads()}, torch " in speed["where"]


def test_costs_are_in_milliseconds(tiny_config, monkeypatch):
    asked = []
    monkeypatch.setattr(profiling, "median_seconds", lambda *args: asked.append(args[2:]) or 0.0125)
    model = LightningDetectionModel(check_config(tiny_config).to_hparams())
    model.height, model.width = 64, 96
    precision = SimpleNamespace(forward_context=lambda: torch.autocast("cpu", enabled=False))
    assert model_costs(SimpleNamespace(precision_plugin=precision), model)["latency_ms"] == 12.5
    assert asked == [(3, 9)]


def test_speed(export):
    speed = measure_speed(export)
    assert speed["frame"] == "160 x 120, one stream, boxes included"
    assert float(speed["median time"].partition(" ms")[0]) > 0
