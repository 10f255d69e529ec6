from pathlib import Path
from types import SimpleNamespace

import pytest
from study_trials import study_of, trial

from detector.config import Config
from evforge.reports import study_data
from evforge.reports.study_data import measure_coverages, read_study, value_text


def test_what_runs_tell(study):
    found = read_study(study[0])
    best, value = found.ranked[0]
    assert (best.values["model.feature_base"], value, best.epochs) == (4, pytest.approx(0.42), 2)
    assert best.history == [(1, pytest.approx(0.41)), (2, pytest.approx(0.42))]
    assert best.config.anchors.anchor_list == "PSEE_ANCHORS"
    assert found.trials[0].config.anchors.anchor_list == [(1.0, 1.0), (2.5, 1.0)]
    assert (len(found.trials), len(found.measured)) == (8, 7)
    assert found.front("latency_ms") == ["trial-1", "trial-2"]
    assert found.started > 0 and found.best_run is None and found.winner.name == "trial-2"


def test_times_tags_and_finite_values_of_trials(study):
    folder, tracker, parent = study
    runs = {run.name: run.run_id for run in tracker.runs(parent)}
    start = {name: tracker.client.get_run(run_id).info.start_time for name, run_id in runs.items()}
    for name, duration_ms in (("trial-1", 2500), ("trial-2", -500)):  # the clocks of two machines can differ
        tracker.client.set_terminated(runs[name], "FINISHED", start[name] + duration_ms)
    tracker.set_tag(runs["trial-1"], "early_stopped", "true")
    tracker.log_metrics(runs["trial-1"], {"val_mean_ap": float("nan")}, 3)
    first, second, *_, last = read_study(folder).trials
    assert (first.seconds, second.seconds) == (2.5, 0.0)
    assert (first.state, second.state, last.state, last.is_failed) == ("stopped early", "finished", "failed", True)
    assert (first.failure, last.failure) == ("", "NonFiniteLossError: the loss is <nan> & more")
    assert first.epochs == 2 and first.run_id == runs["trial-1"]
    assert second.costs == {"parameters": 4e6, "latency_ms": 5.0} and last.costs == {}


def test_the_state_of_a_trial_is_that_of_its_run_or_stopped_early():
    assert trial(status="FAILED").state == "failed"
    assert trial(stopped_early=True).state == "stopped early"


def test_the_best_value_and_the_last_epoch_of_a_trial():
    assert trial(measured=[0.2, 0.5, 0.3]).best("max") == 0.5 and trial(measured=[0.2, 0.5, 0.3]).best("min") == 0.2
    assert trial(measured=[0.2, 0.5, 0.3]).epochs == 3
    assert trial().best("max") is None and trial().epochs == 0


@pytest.mark.parametrize(("mode", "order"), [("max", ["c", "a", "d"]), ("min", ["d", "a", "c"])])
def test_trials_are_ranked_by_their_best_value_and_those_without_one_are_left_out(mode, order):
    trials = [trial("a", [0.4]), trial("b"), trial("c", [0.6, 0.5]), trial("d", [0.3, 0.35])]
    study = study_of(*trials, mode=mode)
    assert [one.name for one, _ in study.ranked] == order
    assert [one.name for one, _ in study.measured] == ["a", "c", "d"]


def test_complete_trials_have_all_keys():
    sampled = {"a": {"x": 1}, "b": {"x": 1, "y": 2}}
    study = study_of(*(trial(name, [0.1], values=values) for name, values in sampled.items()), trial("c"))
    assert [one.name for one, _ in study.complete(["x", "y"])] == ["b"]
    assert [one.name for one, _ in study.complete([])] == ["a", "b"]


def test_the_front_is_cheapest_first_and_leaves_out_what_was_not_measured():
    costs = {"a": 3, "b": 1, "c": 2, "d": None, "e": 9}
    values = {"a": 0.5, "b": 0.2, "c": 0.1, "d": 0.9, "e": 0.5}
    costs = {name: {} if cost is None else {"parameters": cost} for name, cost in costs.items()}
    trials = [trial(name, [value], costs=costs[name]) for name, value in values.items()]
    assert study_of(*trials).front("parameters") == ["b", "a"]
    assert study_of(*trials).front("latency_ms") == []


def test_the_winner_is_the_trial_of_the_best_checkpoint():
    rows = {"a": (0.5, {"x": 1}), "b": (0.4, {"x": 2}), "final-1": (0.7, {"x": 2}), "c": (0.6, {"x": 1, "y": 3})}
    trials = [trial(name, [value], values=values) for name, (value, values) in rows.items()]
    domains = {"x": {"uniform": [0, 9]}}
    study = study_of(*trials, domains=domains, best_run="b")
    assert study.winner.name == "b" and [one.name for one, _ in study.seeds(study.winner)] == ["b", "final-1"]
    assert study_of(*trials, domains=domains).winner.name == "final-1"
    assert study_of(trial("a")).winner is None
    # Trials without recorded values may differ in more than their seeds.
    study = study_of(trial("a", [0.1]), trial("b", [0.3]), domains=domains)
    assert study.seeds(study.winner) == [(study.winner, 0.3)]


def test_a_text_without_the_folders_of_this_machine():
    study = study_of()
    assert study.shown(f"{study.folder}/failures: no space") == "study/failures: no space"
    assert study.shown(f"{study.folder.parent}/x.h5, {Path.home()}/y") == "RUNS/x.h5, ~/y"


@pytest.mark.parametrize(("place", "shown"), [("/d", "DATASET/a: no space"), ("/", "/d/a: no space")])
def test_a_text_without_the_folder_of_the_dataset(place, shown):
    study = study_of()
    object.__setattr__(study, "config", study.config.with_overrides({"data.dataset_path": place}))
    assert study.shown("/d/a: no space") == shown


def test_the_coverage_of_each_trial_that_has_a_configuration(monkeypatch):
    asked = []

    def coverage_of(labels, config, anchors):
        asked.append((labels, config, anchors))
        return SimpleNamespace(covered=len(asked) / 4)

    monkeypatch.setattr(study_data, "training_boxes", lambda config: ("boxes", config))
    monkeypatch.setattr(study_data, "coverage_of", coverage_of)
    first, last = (Config().with_overrides({"train.seed": seed}) for seed in (1, 2))
    trials = [
        trial("a", [0.1], config=first),
        trial("b", [0.2]),
        trial("c", config=first),
        trial("d", [0.3], config=last),
    ]
    study = study_of(*trials)
    assert measure_coverages(study) == {"a": 0.25, "d": 0.5}
    boxes = "boxes", study.config
    assert asked == [(boxes, config, config.anchors.anchor_list) for config in (first, last)]


@pytest.mark.parametrize("alone", [{}, {"x": 1}])
def test_trials_without_all_values_are_compared_with_no_other(alone):
    domains = {"x": {"uniform": [0, 9]}, "y": {"uniform": [0, 9]}}
    study = study_of(*(trial(name, [0.1], values=alone) for name in "ab"), domains=domains)
    assert [one.name for one, _ in study.seeds(study.trials[1])] == ["b"]


def test_a_folder_that_is_no_study(study):
    (study[0] / "space.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=f"{study[0]}: not a study, allowed: a folder with a space.yaml"):
        read_study(study[0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (2e-7, "2e-07"),
        (12, "12"),
        (True, "True"),
        ("car", "car"),
        ("[[1, 0.5], [2, 3]]", "1:0.5 2:3"),
        ([(1, 0.5)], "1:0.5"),
        (["car", "bus", "van"], "car, bus, van"),
        ([0.1, 0.2], "0.1, 0.2"),
    ],
)
def test_values_as_short_text(value, text):
    assert value_text(value) == text
