import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from waiting import wait_for

from detector.config import Config
from evforge import EvForgeError, last_line
from evforge.cluster.session import Resources
from evforge.search.pareto import Candidate
from evforge.search.trial import trial_config
from evforge.search.trial_log import StudyLog
from evforge.search.tune import _schedule_text, _Study, resolve, resume, tune
from evforge.space.space import load_space
from evforge.tracking.tracker import Tracker
from evforge.training.run_folder import CHECKPOINT_NAME
from evforge.training.train import check_config

SPACE = """
tune: {num_samples: 4, searcher: optuna, final_seeds: 2, final_top_k: 1, grace_epochs: 1, reduction_factor: 2}
space:
  optim.lr: {choice: [0.005, 0.01, 1.0e+30]}
  anchors.anchor_list: {choice: [PSEE_ANCHORS, [[0.5, 1], [1, 1]]]}
  anchors.fg_iou_threshold: {uniform: [0.4, 0.6]}
"""


METRIC = "val_ap/block"
"""A metric of a class: its slash must go through Ray, Optuna, MLflow and file names."""


def test_a_search_from_samples_to_best_yaml(tiny_config, space_file, ray_head, tmp_path, capsys, monkeypatch):
    """One search for everything that needs one: it takes a while to start its processes."""
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
    base = tiny_config.with_overrides({"optim.gradient_clip": 0})
    result = tune(base, space_file, {"tune.space_seed": 6, "tune.against": "latency_ms", "tune.metric": METRIC})
    tracker = Tracker(base.track.tracking_uri, base.track.experiment)
    runs = tracker.runs(result.run_id)
    trials = [run for run in runs if run.name.startswith("trial-")]
    assert len(trials) == 4
    assert tracker.run_info(result.run_id).status == "FINISHED"
    assert "system/cpu_utilization_percentage" in tracker.run_info(result.run_id).metrics

    # The samples reached the models, and different samples made different ones.
    finished = [run for run in runs if run.status == "FINISHED"]
    assert all(run.tags["model_fingerprint"] == run.tags["config_fingerprint"] for run in finished)
    assert len({run.tags["model_fingerprint"] for run in finished}) == len(finished)
    assert {run.params["anchors.anchor_list"] for run in trials} == {"PSEE_ANCHORS", "[[0.5, 1.0], [1.0, 1.0]]"}

    # A trial with an impossible learning rate fails with its reason; the study goes on.
    failed = [run for run in trials if run.status == "FAILED"]
    assert {run.run_id for run in failed} == {run.run_id for run in trials if float(run.params["optim.lr"]) > 1}
    assert failed
    assert all("NonFiniteLossError: the loss is" in run.tags["failure"] for run in failed)

    # Trials that were stopped early say so and are FINISHED all the same.
    assert {run.status for run in trials} == {"FINISHED", "FAILED"}
    epochs = {run.run_id: len(tracker.metric_history(run.run_id, METRIC)) for run in finished}
    assert all((epochs[run.run_id] < 2) == (run.tags["early_stopped"] == "true") for run in finished)
    assert max(epochs.values()) == 2

    # best.yaml is a whole configuration: that of the trial with the best metric, trained with two seeds.
    best = Config.load(result.best_config)
    assert best.train.seed == base.train.seed
    (final,) = [run for run in runs if run.name == "final-1"]
    assert final.params["train.seed"] == "1"
    assert result.score > 0
    values = [max(v for _, v in tracker.metric_history(run.run_id, METRIC)) for run in finished]
    winner = max((run for run in finished if run is not final), key=lambda run: values[finished.index(run)])
    assert winner.params["optim.lr"] == final.params["optim.lr"] == str(best.optim.lr)
    assert result.score == pytest.approx((values[finished.index(winner)] + values[finished.index(final)]) / 2)
    assert result.spread == pytest.approx(abs(values[finished.index(winner)] - values[finished.index(final)]) / 2**0.5)
    assert result.best_run_id in (winner.run_id, final.run_id)
    hparams = torch.load(result.best_checkpoint, weights_only=True)["hyper_parameters"]
    assert Config.from_hparams(hparams).with_overrides({"train.seed": base.train.seed}) == best

    # The front holds trials, cheapest first; each one more costs more and is better.
    found = yaml.safe_load(result.front.read_text())
    assert {row["trial"] for row in found} <= {run.name for run in trials if run.status == "FINISHED"}
    figures = [(row["latency_ms"], row[METRIC]) for row in found]
    assert figures == sorted(figures) and len({value for _, value in figures}) == len(figures)
    assert found[-1]["run_id"] == winner.run_id
    assert all((Path(row["checkpoint"]) / CHECKPOINT_NAME).is_file() for row in found)
    assert all(run.metrics["parameters"] > 0 for run in finished)

    output = capsys.readouterr().out
    assert "trial-4" in output and "failed" in output and f"{METRIC} against latency_ms, the front: " in output
    assert len(result.rows) == 5


SLOW_SPACE = """
tune: {num_samples: 4, max_concurrent: 1, final_top_k: 1, final_seeds: 1, grace_epochs: 1, reduction_factor: 2,
       scheduler: "ray.tune.schedulers:AsyncHyperBandScheduler"}
train: {max_epochs: 3}
space:
  optim.lr: {loguniform: [0.001, 0.02]}
  anchors.fg_iou_threshold: {uniform: [0.4, 0.6]}
"""


@pytest.mark.soak
def test_a_killed_search_goes_on_as_if_nothing_had_happened(tiny_config, tmp_path, ray_head):
    space = tmp_path / "space.yaml"
    space.write_text(SLOW_SPACE)
    whole = tune(tiny_config, space)
    storage = tmp_path / "killed"
    config = tmp_path / "config.yaml"
    config.write_text(tiny_config.with_overrides({"train.storage": str(storage)}).to_yaml())
    code = "import sys; from evforge.cli.main import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", code, "tune", str(space), "--config", str(config)])
    try:
        wait_while_alive(process, lambda: len(list(storage.glob("study-*/search/trial_*"))) > 1)
        family = psutil.Process(process.pid).children(recursive=True)
        # Ray's agents try for a minute to tell a dead head of their end.
        family = [child for child in family if not is_agent(child)]
    finally:
        process.kill()
    (folder,) = storage.glob("study-*")
    resumed = resume(folder)

    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    runs = [run for run in tracker.runs(resumed.run_id) if run.status != "KILLED"]
    assert {run.status for run in [*runs, tracker.run_info(resumed.run_id)]} == {"FINISHED"}
    assert outcome(runs, tracker) == outcome(tracker.runs(whole.run_id), tracker)
    assert len(runs) == 4
    assert resumed.score == whole.score
    assert len(family) > 2 and psutil.wait_procs(family, timeout=300)[1] == []


def is_agent(process):
    with suppress(psutil.NoSuchProcess):
        return "Agent" in process.name()
    return False


def outcome(runs, tracker):
    """What each trial drew and measured."""
    curves = [tracker.metric_history(run.run_id, "val_mean_ap") for run in runs]
    keys = ("optim.lr", "anchors.fg_iou_threshold", "train.seed")
    return sorted(
        (run.name, *(run.params[key] for key in keys), curve) for run, curve in zip(runs, curves, strict=True)
    )


@pytest.mark.soak
@pytest.mark.parametrize(
    ("verb", "name", "checkpoints", "killed"),
    [("tune", "SIGTERM", "runs/*/search/*/checkpoint_*", 2), ("train", "SIGINT", "runs/*/checkpoint_*", 1)],
)
def test_an_interrupt_ends_everything(tiny_config, tmp_path, verb, name, checkpoints, killed):
    config = tmp_path / "config.yaml"
    config.write_text(tiny_config.with_overrides({"train.max_epochs": 100_000, "tune.max_concurrent": 1}).to_yaml())
    space = tmp_path / "space.yaml"
    space.write_text("tune: {num_samples: 2}\nspace: {anchors.fg_iou_threshold: {uniform: [0.4, 0.6]}}")
    code = "import sys; from evforge.cli.main import main; sys.exit(main())"
    arguments = [verb, *([str(space)] if verb == "tune" else []), "--config", str(config)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_while_alive(process, lambda: list(tmp_path.glob(checkpoints)))
        family = psutil.Process(process.pid).children(recursive=True)
        addresses = {address for child in family for address in listening(child)}
        process.send_signal(getattr(signal, name))
        output = process.communicate(timeout=500)[0].decode()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, output
    assert output.splitlines()[-1] == "evforge: interrupted"
    assert family
    outside = {(name, ip) for name, ip in addresses if ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")}
    assert {name for name, _ in outside} <= {"ray::RayTrainWorker"}  # torch's TCPStore knows no other way
    assert psutil.wait_procs(family, timeout=300)[1] == []
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    runs = tracker.client.search_runs([tracker.experiment_id])
    assert [run.info.status for run in runs] == ["KILLED"] * killed


def listening(process):
    """Its name and the addresses that a process listens on."""
    try:
        return [(process.name(), c.laddr.ip) for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    except psutil.NoSuchProcess:
        return []


def wait_while_alive(process, condition):
    def check():
        assert process.poll() is None, process.stdout and process.stdout.read().decode()
        return condition()

    wait_for(check, timeout_s=500)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tune.metric": "val_map"}, "tune.metric: got 'val_map', allowed: train_loss, val_mean_ap"),
        (
            {"tune.metric": "val_mean_ap_big"},
            "'val_mean_ap_big', which no label of the validation split can measure, all",
        ),
        ({"tune.metric": "val_ap/bus"}, "tune.metric: got 'val_ap/bus', allowed: .*val_ap/block, val_ap/tower"),
        ({"data.skip_us": 10**9}, "val: no labelled frame counts"),
        ({"tune.grace_epochs": 3}, "tune.grace_epochs: got 3, allowed: at most the 2 validations"),
        ({"anchors.bg_iou_threshold": 0.45}, r"a sample .*bg_iou_threshold: got 0.45, allowed: at most .* \(0.4\)"),
        ({"data.dataset_path": ""}, "data.dataset_path"),
    ],
)
def test_a_search_is_checked_before_anything_starts(tiny_config, space_file, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        tune(tiny_config, space_file, changes)
    assert not (tmp_path / "runs").exists()


def test_what_is_no_study_cannot_be_resumed(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not the folder of a run, which contains run.json"):
        resume(tmp_path)
    (tmp_path / "run.json").write_text('{"run_id": "a", "tracking_uri": "sqlite:///x.db", "experiment": "evforge"}')
    with pytest.raises(FileNotFoundError, match=r"not the folder of a study, which contains space.yaml"):
        resume(tmp_path)


def test_overrides_beat_the_space_file_which_beats_the_configuration(tiny_config, space_file):
    space = load_space(space_file)
    config = resolve(tiny_config.with_overrides({"tune.final_seeds": 7}), space, {"tune.num_samples": "9"})
    assert (config.tune.num_samples, config.tune.final_seeds) == (9, 2)


def test_a_sample_with_a_seed(tiny_config, space_file):
    space = load_space(space_file)
    sample = {"optim.lr": 0.01, "anchors.anchor_list": "[[0.5, 1], [1, 1]]", "anchors.fg_iou_threshold": 0.5}
    config = trial_config(tiny_config, space, {**sample, "train.seed": 3})
    assert (config.train.seed, config.optim.lr) == (3, 0.01)
    assert config.anchors.anchor_list == [(0.5, 1.0), (1.0, 1.0)]
    assert trial_config(tiny_config, space, sample).train.seed == tiny_config.train.seed


class FakeTrial:
    """What the log uses of one of Ray's trials."""

    path = error_file = None

    def __init__(self, trial_id, **sample):
        self.trial_id, self.config = trial_id, sample


@pytest.fixture
def log(tiny_config, tmp_path):
    config = check_config(tiny_config)
    tracker = Tracker(config.track.tracking_uri, config.track.experiment)
    return StudyLog(tracker, tracker.start_run("study", {}), tmp_path, config, config.with_overrides)


def test_a_search_without_a_single_measured_trial(log, tmp_path):
    for name in ("a", "b"):
        trial = FakeTrial(name, **{"model.feature_base": 3})
        trial.error_file = tmp_path / "error.txt"
        trial.error_file.write_text("Traceback ...\nValueError: no memory")
        log.on_trial_start(0, [], trial)
        log.on_trial_error(0, [], trial)
    study = _Study(log.base, None, log.tracker, log.parent, tmp_path, Resources(((2, 0),)))
    with pytest.raises(EvForgeError, match=r"every trial failed: ValueError: no memory$"):
        study._measured(log)


def test_the_winner_has_the_best_mean_over_seeds(log, tmp_path):
    study = _Study(log.base, None, log.tracker, log.parent, tmp_path, Resources(((2, 0),)))
    narrow, wide = ({"model.feature_base": base} for base in (3, 4))

    def candidate(sample, value):
        return Candidate("trial", value, 0.0, 2, "run", tmp_path, sample)

    candidates = [candidate(narrow, 0.5), candidate(wide, 0.4)]
    finals = [candidate({**sample, "train.seed": 1}, value) for sample, value in ((narrow, 0.1), (wide, 0.45))]
    winner = study._winner(candidates, finals)
    assert [(one.sample, one.value) for one in winner] == [({**wide, "train.seed": 1}, 0.45), (wide, 0.4)]
    assert study._winner(candidates, [])[0].value == 0.5


def test_last_line():
    assert last_line("a\n b: c \n\n") == "b: c"
    assert last_line("") == "no reason was given"


@pytest.mark.parametrize(("workers", "reused", "concurrent"), [(1, True, 4), (2, False, 2)])
def test_the_processes_of_trials_without_own_workers_are_used_again(tiny_config, workers, reused, concurrent):
    config = tiny_config.with_overrides({"train.workers": workers, "train.use_gpu": "false"})
    study = _Study(config, None, None, "run", Path(), Resources(((4, 0),)))
    found = study._tune_config(None, {}, 5)
    assert (found.reuse_actors, found.max_concurrent_trials) == (reused, concurrent)


def test_only_a_schedule_that_changed_is_described():
    first, second = (1, {"optim.lr": 0.1, "train.seed": 3}), (4, {"optim.lr": 0.2, "train.seed": 3})
    best = Candidate("a", 0.5, 0.0, 4, "run", Path(), {}, (first,))
    assert _schedule_text(best) == ""
    assert _schedule_text(replace(best, schedule=(first, second))) == (
        "# schedule of the population, which ends with the settings below:\n"
        "# from epoch 1: optim.lr 0.1, train.seed 3\n"
        "# from epoch 4: optim.lr 0.2, train.seed 3\n"
    )
