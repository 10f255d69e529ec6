from detector.config import Config
from evforge.search.trial_page import CHECKPOINT, CURVES, curves_figure, describe_trial, trial_note

REPORTS = [
    {"epoch": 1, "train_loss": 2.0, "val_mean_ap": 0.25},
    {"epoch": 2, "train_loss": 1.5},
    {"epoch": 4, "train_loss": 1.0, "val_mean_ap": 0.5},
]


def test_the_note_has_the_sample_and_the_command():
    note = trial_note("study-1", {"model.feature_base": 24, "optim.lr": 0.01})
    assert note.startswith("Trial of study-1.\n\n- model.feature_base: 24\n- optim.lr: 0.01\n\n")
    assert "evforge train --config config.yaml" in note


def test_the_curves_are_drawn_by_epoch_and_leave_out_missing_values():
    figure = curves_figure("trial-1", "val_mean_ap", REPORTS)
    loss, metric = figure.axes
    assert figure.get_suptitle() == "trial-1" and figure.get_size_inches().tolist() == [8.4, 3.4]
    assert loss.get_lines()[0].get_color() != metric.get_lines()[0].get_color()
    assert (loss.get_xlabel(), loss.get_lines()[0].get_marker()) == ("epoch", "o")
    assert [axes.xaxis.get_major_locator()._integer for axes in figure.axes] == [True, True]
    assert loss.get_lines()[0].get_xydata().tolist() == [[1, 2.0], [2, 1.5], [4, 1.0]]
    assert metric.get_lines()[0].get_xydata().tolist() == [[1, 0.25], [4, 0.5]]
    assert (loss.get_ylabel(), metric.get_ylabel()) == ("train_loss", "val_mean_ap")
    (only,) = curves_figure("trial-1", "train_loss", [{"epoch": 1}]).axes
    assert only.get_lines()[0].get_xydata().size == 0


def test_an_ended_trial_has_its_result_checkpoint_and_figure(tracker, tmp_path):
    run_id = tracker.start_run("trial-1", Config().to_flat(), {"mlflow.note.content": trial_note("study-1", {})})
    describe_trial(tracker, run_id, "trial-1", "val_mean_ap", REPORTS[2], REPORTS, tmp_path / "checkpoint", tmp_path)
    tags = tracker.run_info(run_id).tags
    assert tags["mlflow.note.content"].startswith("**Result:** val_mean_ap 0.5000 in epoch 4.\n\nTrial of study-1.")
    assert tags[CHECKPOINT] == str(tmp_path / "checkpoint")
    assert [file.path for file in tracker.client.list_artifacts(run_id)] == [CURVES]


def test_a_figure_that_cannot_be_drawn_costs_nothing(tracker, tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("evforge.search.trial_page.curves_figure", broken)
    run_id = tracker.start_run("trial-1", {})
    describe_trial(tracker, run_id, "trial-1", "val_mean_ap", REPORTS[0], REPORTS, tmp_path / "checkpoint", tmp_path)
    other = tracker.start_run("trial-2", {})
    describe_trial(tracker, other, "trial-2", "val_mean_ap", REPORTS[0], REPORTS, tmp_path / "checkpoint", None)
    assert tracker.client.list_artifacts(other) == []
    assert "no fonts" in capsys.readouterr().err and tracker.client.list_artifacts(run_id) == []
    assert tracker.run_info(run_id).tags[CHECKPOINT] == str(tmp_path / "checkpoint")
