import math
from pathlib import Path

import pytest
import torch
import yaml
from optuna.samplers import TPESampler

from detector.lightning_model import LightningDetectionModel
from evforge.search.pareto import Candidate, front, front_table, front_yaml
from evforge.search.policies.samplers import UnseenSearch
from evforge.search.trial_log import StudyLog
from evforge.tracking.tracker import Tracker
from evforge.training.profiling import model_costs
from evforge.training.train import check_config


def candidate(name, value, cost):
    return Candidate(
        name, value, cost, 2, f"run-{name}", Path("study") / name, {"model.feature_base": 4, "optim.lr": 0.1}
    )


def names(points, mode="max"):
    return [one.name for one in front([candidate(*point) for point in points], mode)]


def test_the_front_holds_what_no_other_beats():
    #  0.5 |        d  e      b costs less than c and is as good, d is better than both, e costs more than d
    #  0.4 |     b  c         and is as good, f costs as much as b and is worse
    #  0.3 |  a  f
    points = [("c", 0.4, 3), ("a", 0.3, 1), ("f", 0.3, 2), ("b", 0.4, 2), ("e", 0.5, 4), ("d", 0.5, 3)]
    assert names(points) == ["a", "b", "d"]
    assert names([(name, -value, cost) for name, value, cost in points], "min") == ["a", "b", "d"]
    assert names([("a", 0.3, 1), ("b", 0.3, 1)]) == ["a"]
    assert names([]) == []


def test_the_front_as_table_and_as_yaml():
    found = [candidate("trial-1", 0.25, 3.5), candidate("trial-2", 0.5, 22_800_000.0)]
    table = front_table(found, "val_mean_ap", "parameters").splitlines()
    assert table[0].split() == ["trial", "val_mean_ap", "parameters", "epoch", "settings"]
    assert table[2].split() == ["trial-1", "0.2500", "3.50", "2", "model.feature_base", "4,", "optim.lr", "0.1"]
    costs = [
        line.split()[2]
        for line in front_table([candidate("a", 0, 999.994), candidate("b", 1, 1000)], "m", "c").splitlines()
    ]
    assert costs[2:] == ["999.99", "1,000"]
    assert table[2].index("0.2500") + 6 == table[0].index("val_mean_ap") + 11, "numbers are on the right"
    assert table[3].split()[:4] == ["trial-2", "0.5000", "22,800,000", "2"]
    first, _ = yaml.safe_load(front_yaml(found, "val_mean_ap", "latency_ms"))
    assert first == {
        "trial": "trial-1",
        "val_mean_ap": 0.25,
        "latency_ms": 3.5,
        "epoch": 2,
        "run_id": "run-trial-1",
        "checkpoint": "study/trial-1",
        "settings": {"model.feature_base": 4, "optim.lr": 0.1},
    }


class FakeTrainer:
    """Says how often the network ran."""

    def __init__(self):
        self.precision_plugin = self

    def forward_context(self):
        return torch.autocast("cpu", enabled=False)


def test_costs_of_a_model(tiny_config):
    model = LightningDetectionModel(check_config(tiny_config).to_hparams())
    model.height, model.width = 64, 96
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    costs = model_costs(FakeTrainer(), model)
    assert costs["parameters"] == sum(value.numel() for value in model.parameters())
    assert 0 < costs["latency_ms"] < 60_000
    # Nothing of the training has changed: mode, weights and statistics are as before, the memory is clear.
    assert model.training and all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def suggest(trial):
    return {"a": trial.suggest_float("a", 0, 1)}


def draw(search, number, results):
    sample = search.suggest(str(number))
    search.on_trial_result(str(number), {"training_iteration": 1})
    search.on_trial_complete(str(number), results(sample["a"]))
    return sample["a"]


def test_two_metrics_search_a_front_and_survive_a_restart(tmp_path):
    def search():
        return UnseenSearch(TPESampler(seed=0), suggest, ["map", "ms"], ["max", "min"], seed=0)

    def results(a):  # what lies above 0.5 costs more and is no better
        return {"map": min(a, 0.5), "ms": a}

    whole, first = search(), search()
    values = [draw(whole, number, results) for number in range(40)]
    assert sum(value <= 0.55 for value in values[20:]) > 15
    assert [draw(first, number, results) for number in range(5)] == values[:5]
    first.save(str(tmp_path / "state"))
    again = search()
    again.restore(str(tmp_path / "state"))
    assert [draw(again, number, results) for number in range(5, 15)] == values[5:15]


def test_a_trial_without_its_metrics_teaches_nothing():
    search = UnseenSearch(TPESampler(seed=0), suggest, ["map", "ms"], ["max", "min"], seed=0)
    for number, result in enumerate([None, {"map": 0.5}, {"map": math.nan, "ms": 1.0}, {"map": 0.5, "ms": 1.0}]):
        search.suggest(str(number))
        search.on_trial_complete(str(number), result)
    assert [trial.state.name for trial in search._ot_study.trials] == ["FAIL", "FAIL", "FAIL", "COMPLETE"]


class FakeTrial:
    error_file = None

    def __init__(self, folder, trial_id, **sample):
        self.trial_id, self.config, self.path = trial_id, sample, str(folder / f"trial_{trial_id}")


@pytest.mark.parametrize(("against", "found"), [("parameters", ["trial-2", "trial-1"]), ("none", [])])
def test_the_log_knows_the_front_and_keeps_its_checkpoints(tiny_config, tmp_path, against, found):
    config = check_config(tiny_config).with_overrides({"tune.against": against, "tune.final_top_k": 1})
    tracker = Tracker(config.track.tracking_uri, config.track.experiment)
    log = StudyLog(tracker, tracker.start_run("study", {}), tmp_path, config, config.with_overrides)
    for name, value, cost in (("a", 0.5, 300.0), ("b", 0.4, 100.0), ("c", 0.3, 200.0)):
        trial = FakeTrial(tmp_path, name, **{"model.feature_base": 3})
        (Path(trial.path) / "checkpoint_000000").mkdir(parents=True)
        log.on_trial_start(0, [], trial)
        metrics = {"val_mean_ap": value, "parameters": cost, "latency_ms": 1.0, "epoch": 2, "fingerprint": "x"}
        log.on_trial_result(0, [], trial, {**metrics, "checkpoint_dir_name": "checkpoint_000000"})
        log.on_trial_complete(0, [], trial)
    assert [one.name for one in log.front()] == found
    kept = {path.parent.name[-1] for path in tmp_path.glob("trial_*/checkpoint_*")}
    assert kept == ({"a", "b"} if found else {"a"})
    assert tracker.runs(log.parent)[1].metrics["parameters"] == 100
    for one in log.front():
        assert (one.checkpoint / "..").resolve() == tmp_path / f"trial_{'ba'[found.index(one.name)]}"
