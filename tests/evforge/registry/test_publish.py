import pytest

from detector.config import Config
from evforge.cli.main import main
from evforge.registry.publish import register_checkpoint, search_text
from evforge.training.callbacks import ReportMetrics
from evforge.training.run_folder import CHECKPOINT_NAME, write_record
from evforge.training.train import check_config, fit

METRICS = ("mean_ap", "ap/tower")


@pytest.fixture
def trained(tiny_config, tracker, tmp_path):
    """A run's folder with its best checkpoint and record."""
    config = check_config(tiny_config.with_overrides({"train.max_epochs": 1}))
    folder = tmp_path / "runs" / "train-1"
    folder.mkdir(parents=True)

    def report(metrics, source):
        (folder / "best.ckpt").write_bytes((source / CHECKPOINT_NAME).read_bytes())

    fit(config, [ReportMetrics(report)], threads=1)
    write_record(folder, config, tracker, tracker.start_run("train-1", {}))
    return folder


def test_a_checkpoint_becomes_a_champion_with_its_card(trained, tracker):
    version, result = register_checkpoint(trained, tracker, "tiny")
    assert (version, result.moved, result.reason) == (1, True, "it is the first champion")
    found = tracker.client.get_model_version("tiny", "1")
    (logged,) = tracker.client.search_logged_models([tracker.experiment_id])
    whole = logged.tags["mlflow.note.content"]
    card, metrics = whole.replace("&emsp;", ""), {key: float(found.tags[key]) for key in METRICS}
    for line in (
        f"| mAP, IoU 0.50:0.95 | {metrics['mean_ap']:.4f} |",
        f"| tower | {metrics['ap/tower']:.4f} |",
        "| frame | 96 x 64, one stream, boxes included |",
        "None: the model was trained with the settings below.",
    ):
        assert line in card.splitlines()
    figure = f"![Detections and labels](get-artifact?path=test/detections_small.png&run_uuid={found.run_id})"
    video = f"(#/experiments/{tracker.experiment_id}/runs/{found.run_id}/artifacts/test/detections.gif)"
    assert all(figure in text and video in text for text in (whole, found.description))
    assert str(trained.parent) not in whole and str(tracker.uri) not in whole
    assert "test/detections.gif" in {file.path for file in tracker.client.list_artifacts(found.run_id, "test")}
    assert len(found.description) <= 5000 < len(whole) and whole.startswith(found.description.rpartition("\n\n")[0])
    assert {metric.key: metric.value for metric in logged.metrics}["test_mean_ap"] == metrics["mean_ap"]
    (trained / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        register_checkpoint(trained, tracker, "tiny")


def test_the_verb_uses_the_store_and_the_experiment_of_the_run(trained, tracker, monkeypatch):
    used = []
    monkeypatch.setattr("evforge.registry.publish.register_checkpoint", lambda path, store, name: used.append(store))
    assert tracker.experiment != Config().track.experiment
    with pytest.raises(TypeError):  # nothing is returned
        main(["registry", "register", "--checkpoint", str(trained)])
    assert [(one.uri, one.experiment_id) for one in used] == [(tracker.uri, tracker.experiment_id)]


def test_a_video_that_cannot_be_drawn_costs_nothing(trained, tracker, monkeypatch, capsys):
    def broken(*args):
        raise OSError("no space left")

    monkeypatch.setattr("detector.visualization.drawing.save_gif", broken)
    version, result = register_checkpoint(trained, tracker, "tiny")
    assert (version, result.moved) == (1, True)
    assert "warning: the video of detections was not drawn: OSError: no space left" in capsys.readouterr().err
    description = tracker.client.get_model_version("tiny", "1").description
    assert "detections_small.png" in description and "detections.gif" not in description


def test_search_text(tracker):
    study = tracker.start_run("study-1", {})
    tracker.log_text(study, "space:\n  optim.lr: {loguniform: [1e-4, 1e-2]}\n", "space.yaml")
    trials = [tracker.start_run(f"trial-{number}", {}, parent=study) for number in (1, 2, 3)]
    for trial, end in zip(trials, ("FINISHED", "FINISHED", "FAILED"), strict=True):
        tracker.end_run(trial, end)
    assert search_text(tracker, trials[0]) == (
        f"3 trials (2 finished, 1 failed) of `study-1`, MLflow run {study}.\n\n"
        "```yaml\nspace:\n  optim.lr: {loguniform: [1e-4, 1e-2]}\n```"
    )
    assert search_text(tracker, study) is None
