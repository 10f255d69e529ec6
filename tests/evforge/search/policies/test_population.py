import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from ray.tune.experiment import Trial

from detector.config import Config
from evforge.search.policies import population as module
from evforge.search.policies.population import MUTABLE, Population
from evforge.search.policies.schedulers import load_scheduler_state, save_scheduler_state
from evforge.search.trial_log import StudyLog
from evforge.search.tune import tune
from evforge.space.space import load_space
from evforge.tracking.tracker import Tracker
from evforge.training.callbacks import ReportMetrics
from evforge.training.run_folder import CHECKPOINT_NAME
from evforge.training.train import check_config, fit

SPACE = """
tune: {num_samples: 3, searcher: random, scheduler: pbt, grace_epochs: 1, reduction_factor: 3, final_seeds: 1}
space:
  optim.lr: {loguniform: [1e-7, 1e-2]}
  anchors.fg_iou_threshold: {uniform: [0.4, 0.6]}
"""


@pytest.mark.soak
def test_a_population_from_draws_to_a_schedule(tiny_config, space_file, ray_head):
    result = tune(tiny_config.with_overrides({"train.max_epochs": 6}), space_file, {"tune.space_seed": 1})
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    runs = tracker.runs(result.run_id)
    assert {run.status for run in runs} == {"FINISHED"} and len(runs) == 3
    assert {run.tags["early_stopped"] for run in runs} == {"false"}

    # A weak trial loaded the weights of another with similar settings. Its run has a tag about it.
    taken = [(run, key, yaml.safe_load(run.tags[key])) for run in runs for key in run.tags if "from_epoch" in key]
    assert taken
    for run, _, settings in taken:
        assert settings.pop("weights") in {other.name for other in runs} - {run.name}
        assert set(settings) == {"optim.lr", "anchors.fg_iou_threshold"}

    # Checkpoints that can neither win nor be loaded by other trials are removed.
    assert len([path for path in result.path.glob("search/*/checkpoint_*") if path.is_dir()]) == 2  # tune.final_top_k

    best = Config.load(result.best_config)
    checkpoint = torch.load(result.best_checkpoint, weights_only=True)
    assert checkpoint["hyper_parameters"]["lr"] == best.optim.lr
    (group,) = checkpoint["optimizer_states"][0]["param_groups"]
    assert group["initial_lr"] == best.optim.lr
    values = [max(value for _, value in tracker.metric_history(run.run_id, "val_mean_ap")) for run in runs]
    assert result.score == max(values) > 0


def run_fit(config, folder, ckpt_path=None):
    def report(metrics, source):
        (folder / f"{metrics['epoch']}.ckpt").write_bytes((source / CHECKPOINT_NAME).read_bytes())

    folder.mkdir()
    fit(config, [ReportMetrics(report)], ckpt_path, threads=1)


def test_weights_go_on_with_the_new_settings_not_with_those_of_their_checkpoint(tiny_config, tmp_path):
    config = check_config(tiny_config).with_overrides({"optim.lr_scheduler_step_gamma": 0.5})
    run_fit(config.with_overrides({"train.max_epochs": 1}), tmp_path / "a")
    changes = {"optim.lr": 0.25, "optim.weight_decay": 0.125, "anchors.fg_iou_threshold": 0.7}
    run_fit(config.with_overrides(changes), tmp_path / "b", str(tmp_path / "a" / "1.ckpt"))
    before, after = (torch.load(tmp_path / name, weights_only=True) for name in ("a/1.ckpt", "b/2.ckpt"))
    (group,) = after["optimizer_states"][0]["param_groups"]
    assert (group["initial_lr"], group["weight_decay"]) == (0.25, 0.125)
    assert group["lr"] == 0.25 * 0.5**2  # two epochs are over
    assert after["lr_schedulers"][0]["base_lrs"] == [0.25]
    assert after["global_step"] == 2 * before["global_step"]
    assert after["hyper_parameters"]["fg_iou_threshold"] == 0.7


@pytest.mark.parametrize(
    ("space", "changes", "message"),
    [
        ("{model.feature_base: {choice: [2, 3]}}", {}, r"space.model.feature_base: cannot be searched with .* pbt"),
        ("{anchors.anchor_list: {choice: [PSEE_ANCHORS]}}", {}, r"allowed: anchors.fg_iou_threshold, .* optim.lr"),
        ("", {"tune.searcher": "optuna"}, "tune.searcher: got 'optuna', allowed with tune.scheduler pbt: random"),
        ("", {"tune.num_samples": 1}, "tune.num_samples: got 1, allowed with .* at least 2"),
        ("", {"tune.final_seeds": 2}, "tune.final_seeds: got 2, allowed with .* 1$"),
        ("", {"train.workers": 2}, "train.workers: got 2, allowed with .* 1$"),
        ("", {"tune.grace_epochs": 2}, "tune.grace_epochs: got 2, allowed with .* below 2"),
    ],
)
def test_what_a_population_cannot_do_is_refused_before_anything_starts(tiny_config, tmp_path, space, changes, message):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE if not space else SPACE.partition("space:")[0] + f"space: {space}")
    with pytest.raises(ValueError, match=message):
        tune(tiny_config, path, changes)
    assert not (tmp_path / "runs").exists()


def test_a_population_has_the_settings_of_the_study(tiny_config, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    changes = {"tune.searcher": "random", "tune.num_samples": 2, "tune.final_seeds": 1, "tune.reduction_factor": 4}
    epochs = {"train.max_epochs": 11, "train.val_every": 3, "tune.grace_epochs": 2}  # 3 validations, the last after 9
    config = tiny_config.with_overrides({**changes, **epochs})
    found = module.population(config, load_space(path))
    assert (found._time_attr, found._metric, found._perturbation_interval) == ("epoch", config.tune.metric, 6)
    assert (found._quantile_fraction, found._last_epoch, found._log_config) == (0.25, 9, False)
    sample = {"optim.lr": 1e-4, "anchors.fg_iou_threshold": 0.5}
    drawn = [found._custom_explore_fn({"sample": sample, "other": 1}) for _ in range(100)]
    assert {one["other"] for one in drawn} == {1}
    near = sum(min(abs(one["sample"]["optim.lr"] - lr) for lr in (0.8e-4, 1.2e-4)) < 1e-9 for one in drawn)
    assert 60 <= near <= 90  # a quarter is drawn from the whole range


def test_what_may_change_is_no_shape():
    known = Config().to_flat()
    assert set(MUTABLE) <= set(known)
    assert not any(key.startswith(("model.", "data.")) or "anchor_list" in key for key in MUTABLE)


def test_what_is_near_meets_the_constraints(tmp_path):
    path = tmp_path / "space.yaml"
    keys = ("anchors.bg_iou_threshold", "anchors.fg_iou_threshold")
    domains = "\n".join(f"  {key}: {{uniform: [0.2, 0.6]}}" for key in keys)
    path.write_text(f"space:\n{domains}\n  constraints: [{keys[0]} <= {keys[1]}]")
    space, generator = load_space(path), random.Random(0)
    sample = dict.fromkeys(keys, 0.5)
    for _ in range(50):
        sample = space.draw_near(Config(), sample, generator, redrawn=0.2)
        assert 0.2 <= sample[keys[0]] <= sample[keys[1]] <= 0.6


class FakeTrial:
    """What scheduler and log use of one of Ray's trials."""

    def __init__(self, folder, trial_id, checkpoint=None, epoch=0):
        self.trial_id, self.config, self.error_file = trial_id, {"sample": {"optim.lr": 0.1}}, None
        self.path = str(folder / f"trial_{trial_id}")
        self.checkpoint = checkpoint and SimpleNamespace(path=str(folder / checkpoint))
        self.latest_checkpoint_result = checkpoint and SimpleNamespace(
            checkpoint=self.checkpoint, metrics={"epoch": epoch}
        )
        self.last_result = {"checkpoint_dir_name": "checkpoint_000001"}
        self.experiment_tag = ""
        self.run_metadata = SimpleNamespace(
            checkpoint_manager=SimpleNamespace(checkpoint_config=SimpleNamespace(num_to_keep=None))
        )


@pytest.fixture
def population(tiny_config, space_file):
    config = tiny_config.with_overrides({"tune.scheduler": "pbt", "train.max_epochs": 8})
    return Population(config, load_space(space_file))


def add(population, *trials):
    for trial in trials:
        population.on_trial_add(SimpleNamespace(search_alg=None), trial)


def test_a_population_remembers_its_scores(population, tiny_config, space_file):
    (before,), (trial, new) = ([Trial("x", trial_id=name, stub=True) for name in names] for names in ("a", "an"))
    add(population, before)
    state = population._trial_state[before]
    state.last_score, state.last_perturbation_time, state.last_train_time = 0.5, 2, 3
    later = Population(tiny_config, load_space(space_file))
    add(later, trial)
    load_scheduler_state(later, save_scheduler_state(population), [trial])
    add(later, new)
    state = later._trial_state[trial]
    assert (state.last_score, state.last_perturbation_time, state.last_train_time) == (0.5, 2, 3)
    assert [state.last_score for state in later._trial_state.values()] == [0.5, None]


def test_nobody_goes_back_from_the_last_epoch(population):
    assert population.on_trial_result(None, None, {"epoch": 8}) == Population.CONTINUE


def test_checkpoints_that_another_may_take_over_stay(population, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("evforge.search.trial_log.SETTLED_S", 0.0)
    config = check_config(tiny_config.with_overrides({"train.max_epochs": 8, "tune.scheduler": "pbt"}))
    tracker = Tracker(config.track.tracking_uri, config.track.experiment)
    parent = tracker.start_run("study", {})
    log = StudyLog(tracker, parent, tmp_path, config, config.with_overrides, population)
    strong = FakeTrial(tmp_path, "a", "trial_a/checkpoint_000005", epoch=5)
    weak = FakeTrial(tmp_path, "b", "trial_a/checkpoint_000003", epoch=3)  # still to be loaded
    trials = [strong, weak]
    for number in range(6):
        (Path(strong.path) / f"checkpoint_{number:06}").mkdir(parents=True)
    add(population, *trials)
    population._trial_state[strong].last_result = {"checkpoint_dir_name": "checkpoint_000004"}  # others may take it
    for trial in trials:
        log.on_trial_start(0, trials, trial)
    for epoch, value in ((2, 0.9), (5, 0.5)):
        result = {"epoch": epoch, "val_mean_ap": value, "fingerprint": "x", "trial_id": "a"}
        log.on_trial_result(0, trials, strong, {**result, "checkpoint_dir_name": f"checkpoint_{epoch:06}"})
    assert sorted(path.name[-1] for path in Path(strong.path).iterdir()) == ["2", "3", "4", "5"]

    weak.config = {"sample": {"optim.lr": 0.12}}
    log.on_trial_start(0, trials, weak)
    log.on_trial_start(0, trials, weak)  # interrupted before its first checkpoint
    assert log.trials["b"].schedule == ((1, {"optim.lr": 0.1}), (4, {"optim.lr": 0.12}))
    assert log.trials["b"].config.optim.lr == 0.12
    (run,) = [run for run in tracker.runs(parent) if run.name == "trial-2"]
    assert run.tags["from_epoch_4"] == '{"weights": "trial-1", "optim.lr": 0.12}'
