import json

import pytest

from detector.config import Config
from evforge.evaluation.checkpoint import checkpoint_config, load_model
from evforge.evaluation.evaluate import _recorded_run, _run_name, evaluate
from evforge.training.run_folder import RECORD_FILE, write_text


def test_a_checkpoint_measures_as_it_did_in_training(trained):
    folder, figures, tracker, run_id = trained
    found = evaluate(folder, split="val")
    assert found.metrics["mean_ap"] == pytest.approx(figures["val_mean_ap"], abs=1e-6)
    assert found.metrics["mean_ap50"] > 0
    assert found.folder == folder / "evaluate-val"
    logged = tracker.run_info(run_id)
    assert logged.metrics["val_mean_ap"] == pytest.approx(figures["val_mean_ap"])
    assert logged.tags["val_data_fingerprint"] == found.data_fingerprint
    assert (
        "frames without a box count; score floor 0.001; detections answer the labels of their frame; NMS at IoU 0.5"
        in found.text()
    )
    assert found.state_leak.passed and found.state_leak.detections > 0
    assert logged.metrics["val_f1"] == pytest.approx(found.details.operating_point.f1)
    assert logged.metrics.get("val_reaction_ms") == found.details.reaction.median_ms
    assert "val_latency_ms" not in logged.metrics, "that is the time of computing"
    assert (found.metrics["mean_ap_big"], "val_mean_ap_big" in logged.metrics) == (None, False)
    assert "mean_ap_big              -\n" in found.text()
    low, high = found.details.intervals.bounds["mean_ap"]
    assert low < found.metrics["mean_ap"] < high
    assert f"mAP                      {found.metrics['mean_ap']:.4f}  ({low:.3f} to {high:.3f})\n" in found.text()
    written = {
        "detections.png",
        "confusion.png",
        "calibration.png",
        "slices.png",
        "pr_curve.png",
        "thresholds.png",
        "metrics.txt",
        "evaluation.json",
    }
    assert written <= {path.name for path in found.folder.iterdir()}
    assert written <= {path.path.removeprefix("val/") for path in tracker.client.list_artifacts(run_id, "val")}
    stored = json.loads((found.folder / "evaluation.json").read_text())
    assert stored["metrics"] == found.metrics
    assert stored["details"]["intervals"]["bounds"]["mean_ap"] == list(found.details.intervals.bounds["mean_ap"])
    best = stored["details"]["thresholds"]
    assert best.keys() == {"(all classes)", *found.classes}
    assert best["(all classes)"] == {"labels": 120, **stored["details"]["operating_point"]}
    assert stored["precision"] == found.precision and f"; computed in {found.precision}" in found.text()
    assert sum(part["boxes"] for part in stored["details"]["slices"]["event_rate"]) == 120, "60 frames of two boxes"


def test_figures_are_saved_before_anything_is_drawn(trained, monkeypatch, capsys):
    folder, _, tracker, run_id = trained

    def broken(*args, **kwargs):
        raise RuntimeError("no fonts\nhere")

    evaluate(folder, split="val")
    (folder / "evaluate-val" / "evaluation.json").unlink()
    for name in ("slices_figure", "pr_curve_figure", "thresholds_figure"):
        monkeypatch.setattr(f"evforge.evaluation.report.{name}", broken)
    monkeypatch.setattr("detector.visualization.drawing.draw_detections", broken)
    found = evaluate(folder, split="val")
    assert json.loads((found.folder / "evaluation.json").read_text())["metrics"] == found.metrics
    names = {path.name for path in found.folder.iterdir()}
    assert names == {"evaluation.json", "metrics.txt", "confusion.png", "calibration.png"}, "no old figure stays"
    warnings = capsys.readouterr().err
    assert warnings.count("was not drawn: RuntimeError: no fonts here") == 4
    assert "slices.png" in warnings and "thresholds.png" in warnings and "detections.png" in warnings


@pytest.mark.parametrize("every", [20, 100])
def test_sparse_labels_and_one_stream(trained, tmp_path, every):
    """Labels in one of many frames only, one recording at a time: figures and a contact sheet all the same."""
    import shutil

    from detector.labels import load_labels, save_labels

    folder, *_ = trained
    config = checkpoint_config(folder / "best.ckpt")
    sparse = shutil.copytree(config.data.dataset_path, tmp_path / "sparse")
    for path in (sparse / "test").glob("*_bbox.npy"):
        labels = load_labels(path)
        times = sorted(set(labels["t"].tolist()))[-1::-every]
        save_labels(path, labels[[t in times for t in labels["t"].tolist()]])
    found = evaluate(folder, config.with_overrides({"data.dataset_path": str(sparse), "data.batch_size": 1}))
    assert found.metrics["mean_ap"] is not None
    assert (found.folder / "detections.png").is_file()


def test_comparison_with_an_earlier_evaluation(trained, capsys):
    folder, *_ = trained
    evaluate(folder)
    evaluate(folder, compare_with=folder)
    assert "mean_ap50" in capsys.readouterr().out
    config = checkpoint_config(folder / "best.ckpt").with_overrides({"data.min_box_side": 15, "data.skip_us": 7})
    with pytest.raises(ValueError, match=r"protocol.skip_us is 0 there and 7 here; protocol.min_box_side is 0.* there"):
        evaluate(folder, config, compare_with=folder)
    with pytest.raises(FileNotFoundError, match="no evaluation on val; `evforge evaluate"):
        evaluate(folder, split="val", compare_with=folder)


def test_settings_replace_those_of_the_checkpoint(trained):
    folder, *_ = trained
    config = checkpoint_config(folder / "best.ckpt").with_overrides({"data.min_box_side": 15, "eval.score_thresh": 0.2})
    found = evaluate(folder, config)
    assert (found.protocol["min_box_side"], found.protocol["score_thresh"]) == (15, 0.2)
    assert "score floor 0.2" in found.text()


def test_settings_that_do_not_fit_the_weights(trained):
    folder, *_ = trained
    config = checkpoint_config(folder / "best.ckpt").with_overrides({"model.feature_base": 3})
    with pytest.raises(ValueError, match=r"best.ckpt: its weights do not fit the settings: size mismatch for detector"):
        load_model(folder / "best.ckpt", config)


def test_a_run_of_its_own_where_the_training_is_not_known(trained, tmp_path):
    folder, _, tracker, run_id = trained
    lonely = tmp_path / "lonely.ckpt"
    lonely.write_bytes((folder / "best.ckpt").read_bytes())
    uri = {"track.tracking_uri": tracker.uri, "track.experiment": tracker.experiment}
    found = evaluate(lonely, checkpoint_config(lonely).with_overrides(uri))
    runs = tracker.client.search_runs([tracker.experiment_id])
    (own,) = [run for run in runs if run.info.run_id != run_id]
    assert (own.info.run_name, own.info.status) == ("evaluate-lonely", "FINISHED")
    assert own.data.metrics["test_mean_ap"] == pytest.approx(found.metrics["mean_ap"])


def test_figures_name_the_run_or_study(tmp_path):
    assert _run_name(tmp_path / "train-1" / "best.ckpt") == "train-1"
    assert _run_name(tmp_path / "study-1" / "best" / "best.ckpt") == "study-1"


def test_a_store_that_is_gone_is_named_and_not_created(tmp_path, capsys):
    run, gone = tmp_path / "runs" / "train-1", tmp_path / "gone"
    record = {"run_id": "0123", "tracking_uri": f"sqlite:///{gone}/mlflow.db", "experiment": "exp"}
    write_text(run / RECORD_FILE, json.dumps(record))
    assert _recorded_run(run / "best.ckpt", Config()) is None
    printed = capsys.readouterr().out
    assert f"is written to files, but not to MLflow: track.tracking_uri: {gone}/mlflow.db does not exist" in printed
    assert not gone.exists()
