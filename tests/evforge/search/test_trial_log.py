import io
import pickle
from types import SimpleNamespace

import pytest
from rich.console import Console

from evforge import EvForgeError
from evforge.search import trial_log
from evforge.search.trial_log import StudyLog
from evforge.tracking.tracker import Tracker
from evforge.training.train import check_config


class FakeTrial:
    """What the log uses of one of Ray's trials."""

    path = error_file = None

    def __init__(self, trial_id, **sample):
        self.trial_id, self.config = trial_id, sample


@pytest.fixture
def log(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(trial_log, "TABLE_PAUSE_S", float("inf"))  # on a busy machine, tables would be printed
    config = check_config(tiny_config)
    tracker = Tracker(config.track.tracking_uri, config.track.experiment)
    return StudyLog(tracker, tracker.start_run("study", {}), tmp_path, config, config.with_overrides)


def report(log, trial, epoch, value, fingerprint=None):
    config = log.trials[trial.trial_id].config
    result = {"epoch": epoch, "val_mean_ap": value, "val_mean_ap50": 2 * value, "time_total_s": 1.0}
    log.on_trial_result(0, [], trial, {**result, "fingerprint": fingerprint or config.fingerprint()})


def test_the_log_of_trials(log, tmp_path, capsys):
    first, second = FakeTrial("a", **{"model.feature_base": 3}), FakeTrial("b", **{"model.feature_base": 4})
    second.error_file = tmp_path / "error.txt"
    second.error_file.write_text("Traceback ...\nValueError: no memory\n\n")
    for trial in (first, second):
        log.on_trial_start(0, [], trial)
    report(log, first, 1, 0.2)
    report(log, first, 2, 0.1)
    log.on_trial_complete(0, [], first)
    log.on_trial_error(0, [], second)
    log.check_samples_reached_models()
    rows = log.rows()
    assert [(row.name, row.sample, row.metrics, row.epoch, row.status) for row in rows] == [
        ("trial-1", {"model.feature_base": 3}, {"val_mean_ap": 0.2}, "2/2", "finished"),
        ("trial-2", {"model.feature_base": 4}, {"val_mean_ap": None}, "0/2", "failed"),
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["trial-1 starts: feature_base 3", "trial-2 starts: feature_base 4"]
    assert lines[2].startswith("trial-1 finished, epoch 2/2  val_mean_ap 0.2000  ")
    assert lines[3:] == ["trial-2 failed: ValueError: no memory"]
    runs = log.tracker.runs(log.parent)
    assert [run.status for run in runs] == ["FINISHED", "FAILED"]
    assert log.tracker.metric_history(runs[0].run_id, "val_mean_ap") == [(1, 0.2), (2, 0.1)]


def run_to_its_end(log, name, value, folder):
    """A trial with one checkpoint, which has this value of the metric after its only epoch."""
    trial = FakeTrial(name, **{"model.feature_base": 3})
    trial.path = str(folder / name)
    (folder / name / "checkpoint_000000").mkdir(parents=True)
    log.on_trial_start(0, [], trial)
    report(log, trial, 1, value)
    log.on_trial_complete(0, [], trial)


def test_checkpoints_of_trials_that_cannot_win_are_removed(log, tmp_path):
    log.base = log.base.with_overrides({"tune.final_top_k": 1})
    for name, value in (("a", 0.2), ("b", 0.3), ("c", 0.1)):
        run_to_its_end(log, name, value, tmp_path)
    assert [path.parent.name for path in tmp_path.glob("*/checkpoint_*")] == ["b"]


def test_the_run_of_a_trial_shows_its_data_result_checkpoint_and_figure(log, tmp_path):
    log.base = log.base.with_overrides({"tune.final_top_k": 1})
    for name, value in (("a", 0.2), ("b", 0.3)):
        run_to_its_end(log, name, value, tmp_path)
    worse, better = log.tracker.runs(log.parent)
    assert (worse.tags["checkpoint"], better.tags["checkpoint"]) == (
        "removed, because other trials are better",
        str(tmp_path / "b"),  # the report of this test names no checkpoint
    )
    note = better.tags["mlflow.note.content"]
    assert note.startswith(f"**Result:** val_mean_ap 0.3000 in epoch 1.\n\nTrial of {tmp_path.name}.")
    assert "- model.feature_base: 3" in note
    assert {file.path for file in log.tracker.client.list_artifacts(better.run_id)} == {"config.yaml", "curves.png"}
    inputs = log.tracker.client.get_run(better.run_id).inputs.dataset_inputs
    assert sorted(tag.value for one in inputs for tag in one.tags) == ["train", "val"]


def test_the_costs_of_a_trial_are_logged_once(log):
    trial = FakeTrial("a", **{"model.feature_base": 3})
    log.on_trial_start(0, [], trial)
    record = log.trials["a"]
    for epoch in (1, 2):
        result = {"epoch": epoch, "val_mean_ap": 0.5, "parameters": 100.0, "fingerprint": record.config.fingerprint()}
        log.on_trial_result(0, [], trial, result)
    history = log.tracker.metric_history
    assert history(record.run_id, "parameters") == [(1, 100.0)]
    assert history(record.run_id, "val_mean_ap") == [(1, 0.5), (2, 0.5)]
    assert [one["parameters"] for one in record.reports] == [100.0, 100.0]


def test_a_trial_that_left_word_of_its_failure(log, tmp_path):
    trial = FakeTrial("a", **{"model.feature_base": 3})
    log.on_trial_start(0, [], trial)
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "a.txt").write_text("Traceback ...\nValueError: no memory\n")
    log.on_trial_complete(0, [], trial)
    (run,) = log.tracker.runs(log.parent)
    assert (run.status, run.tags["failure"]) == ("FAILED", "ValueError: no memory")


def test_a_trial_keeps_away_from_every_node_that_failed_it(log, monkeypatch):
    asked = []
    monkeypatch.setattr(trial_log, "avoid", lambda request, nodes: asked.append((request, list(nodes))) or "new")
    failed = iter(["bb", None, "cc"])
    monkeypatch.setattr(trial_log, "failed_node", lambda trial: next(failed))
    log.left_out = ("aa",)
    trial = SimpleNamespace(trial_id="7", placement_group_factory="old", update_resources=asked.append)
    for _ in range(3):
        log.avoid_node(trial)
    assert asked == [("old", ["aa", "bb"]), "new", ("old", ["aa", "bb", "cc"]), "new"]


def test_a_moved_study_finds_its_checkpoints(log, tmp_path):
    trial = FakeTrial("a", **{"model.feature_base": 3})
    trial.path = str(tmp_path / "search" / "trial_a")
    log.on_trial_start(0, [], trial)
    log.move(log.tracker, tmp_path / "moved")
    assert log.trials["a"].folder == tmp_path / "moved" / "search" / "trial_a" and log.folder == tmp_path / "moved"


def test_a_log_goes_on_with_what_it_was(log):
    done, open_, lost = (
        FakeTrial(name, **{"model.feature_base": base}) for name, base in (("a", 3), ("b", 4), ("c", 5))
    )
    for trial in (done, open_):
        log.on_trial_start(0, [], trial)
        report(log, trial, 1, 0.2)
    log.on_trial_complete(0, [], done)
    state = pickle.loads(pickle.dumps(log.get_state()))
    log.on_trial_start(0, [], lost)  # after the last state that was kept
    log.end_open()
    log.tracker.resume_run(log.trials["c"].run_id)  # as a process that dies leaves it

    log.trials = {}
    log.set_state(state)
    log.on_trial_start(0, [], open_)
    report(log, open_, 1, 0.4)
    log.on_trial_complete(0, [], open_)
    assert [(run.name, run.status) for run in log.tracker.runs(log.parent)] == [
        ("trial-1", "FINISHED"),
        ("trial-2", "FINISHED"),
        ("trial-3", "KILLED"),
    ]
    assert [row.metrics["val_mean_ap"] for row in log.rows()] == [0.2, 0.4]


def test_trials_that_were_cut_off_are_killed(log):
    log.on_trial_start(0, [], FakeTrial("a"))
    log.end_open()
    assert [run.status for run in log.tracker.runs(log.parent)] == ["KILLED"]


def test_a_sample_that_did_not_reach_its_model_is_found(log):
    trial = FakeTrial("a", **{"model.feature_base": 3})
    log.on_trial_start(0, [], trial)
    report(log, trial, 1, 0.2, fingerprint=log.base.fingerprint())
    with pytest.raises(EvForgeError, match=r"trial-1: its model was made with other values than were drawn"):
        log.check_samples_reached_models()


def test_different_samples_of_one_model_are_found(log):
    for name, sample in (("a", {"data.classes": ["block", "tower"]}), ("b", {})):
        trial = FakeTrial(name, **sample)
        log.on_trial_start(0, [], trial)
        report(log, trial, 1, 0.2)
    with pytest.raises(EvForgeError, match=r"trial-2 and trial-1 drew different values but trained the same model"):
        log.check_samples_reached_models()


def test_a_sample_that_makes_no_configuration_has_a_run_all_the_same(log):
    trial = FakeTrial("a", **{"model.feature_base": 0})
    log.on_trial_start(0, [], trial)
    log.on_trial_error(0, [], trial)
    (run,) = log.tracker.runs(log.parent)
    assert (run.status, run.params) == ("FAILED", {"model.feature_base": "0"})
    assert log.rows() == []


def measured(log, name, values, **sample):
    """A trial whose validations gave these values."""
    trial = FakeTrial(name, **{"model.feature_base": 3, **sample})
    log.on_trial_start(0, [], trial)
    for epoch, value in enumerate(values, 1):
        report(log, trial, epoch, value)
    return trial


@pytest.mark.parametrize(("mode", "best"), [("max", (0.4, 3)), ("min", (0.1, 2))])
def test_a_candidate_has_the_values_of_its_best_validation_the_last_of_equal_ones(log, mode, best):
    log.base = log.base.with_overrides({"tune.mode": mode})
    trial = measured(log, "a", [0.4, 0.1, 0.4, float("nan")])
    assert log.candidates() == []  # it still runs
    log.on_trial_complete(0, [], trial)
    (found,) = log.candidates()
    assert (found.value, found.epoch) == best
    assert (found.name, found.sample, found.run_id) == ("trial-1", trial.config, log.trials["a"].run_id)


@pytest.mark.parametrize(
    ("epochs", "every", "reported", "early"), [(2, 1, 2, False), (2, 1, 1, True), (5, 2, 4, False)]
)
def test_a_trial_was_stopped_early_if_its_last_validation_is_missing(log, epochs, every, reported, early):
    log.base = log.base.with_overrides({"train.max_epochs": epochs, "train.val_every": every})
    trial = FakeTrial("a", **{"model.feature_base": 3})
    log.on_trial_start(0, [], trial)
    report(log, trial, reported, 0.2)
    log.on_trial_complete(0, [], trial)
    assert log.trials["a"].status == ("stopped early" if early else "finished")
    (run,) = log.tracker.runs(log.parent)
    assert (run.status, run.tags["early_stopped"]) == ("FINISHED", str(early).lower())


def test_epochs_that_are_trained_again_replace_their_reports(log):
    trial = measured(log, "a", [0.1, 0.2, 0.3])
    report(log, trial, 2, 0.25)  # from the checkpoint of the first epoch
    assert [(one["epoch"], one["val_mean_ap"]) for one in log.trials["a"].reports] == [(1, 0.1), (2, 0.25)]


def test_a_table_counts_the_trials_by_their_state(log, capsys):
    log.on_trial_complete(0, [], measured(log, "a", [0.2, 0.3]))
    measured(log, "b", [0.1])
    log.on_trial_complete(0, [], measured(log, "c", [0.5, 0.4]))
    capsys.readouterr()
    log.print_table()
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].partition(" s: ")[2] == "2 finished, 1 running"
    assert {line.split()[0] for line in lines[-3:]} == {"trial-1", "trial-2", "trial-3"}


def test_a_retried_trial_says_why(log, tmp_path, capsys):
    trial = measured(log, "a", [])
    trial.error_file = tmp_path / "error.txt"
    trial.error_file.write_text("Traceback ...\nray.exceptions.NodeError: the node has died. More.\n")
    capsys.readouterr()
    log.on_trial_recover(0, [], trial)
    assert capsys.readouterr().out == "trial-1 is retried: the node has died\n"


def test_a_terminal_shows_the_settings_and_metrics_of_the_search(log, capsys):
    log.base = log.base.with_overrides({"tune.against": "latency_ms"})
    log.expect(2, 0)
    log.progress.live = True
    measured(log, "a", [0.2])
    console = Console(file=io.StringIO(), width=120, height=24)
    console.print(log.render(console))
    text = console.file.getvalue()
    assert "1 running, 2 planned" in text and "0.2000" in text
    assert [name in text for name in ("val_mean_ap", "latency_ms", "1/2")] == [True] * 3
    assert capsys.readouterr().out == ""
