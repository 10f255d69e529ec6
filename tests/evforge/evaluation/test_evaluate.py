import json

import pytest
import torch
from conftest import TINY

from detector.config import Config
from evforge.callbacks import ReportMetrics
from evforge.evaluate import checkpoint_config, evaluate, find_checkpoint, load_model
from evforge.export import _check_on_clip, export
from evforge.runs import CHECKPOINT_NAME, write_record
from evforge.tracking import Tracker
from evforge.train import check_config, fit


@pytest.fixture(scope="module")
def checkpoint(tiny_dataset, tmp_path_factory):
    """A trained checkpoint and the figures of its validation."""
    folder = tmp_path_factory.mktemp("trained")
    storage = {"data.dataset_path": str(tiny_dataset), "track.tracking_uri": f"sqlite:///{folder}/unused.db"}
    reports = []

    def report(metrics, source):
        reports.append(metrics)
        (folder / "best.ckpt").write_bytes((source / CHECKPOINT_NAME).read_bytes())

    fit(check_config(Config().with_overrides({**TINY, **storage})), [ReportMetrics(report)], threads=1)
    return folder / "best.ckpt", reports[-1]


@pytest.fixture
def trained(checkpoint, tiny_config, tmp_path):
    """A run's folder with its best checkpoint and record, and the figures of its validation."""
    folder = tmp_path / "runs" / "train-1"
    folder.mkdir(parents=True)
    (folder / "best.ckpt").write_bytes(checkpoint[0].read_bytes())
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    run_id = tracker.start_run("train-1", {})
    write_record(folder, tiny_config, tracker, run_id)
    return folder, checkpoint[1], tracker, run_id


def test_a_checkpoint_measures_as_it_did_in_training(trained):
    folder, figures, tracker, run_id = trained
    found = evaluate(folder, split="val")
    assert found.metrics["mean_ap"] == pytest.approx(figures["val_mean_ap"], abs=1e-6)
    assert found.metrics["mean_ap50"] > 0
    assert found.pictures == folder / "evaluate-val" / "detections.png"
    assert found.pictures.is_file()
    logged = tracker.run_info(run_id)
    assert logged.metrics["val_mean_ap"] == pytest.approx(figures["val_mean_ap"])
    assert logged.tags["val_data_fingerprint"] == found.data_fingerprint
    assert "tolerance 50 ms; score floor 0.001; NMS at IoU 0.5" in found.text()
    assert found.state_leak.passed and found.state_leak.detections > 0
    assert logged.metrics["val_f1"] == pytest.approx(found.details.operating_point.f1)
    written = {"confusion.png", "calibration.png", "slices.png", "pr_curve.png", "metrics.txt", "evaluation.json"}
    assert written <= {path.name for path in found.folder.iterdir()}
    assert written <= {path.path.removeprefix("val/") for path in tracker.client.list_artifacts(run_id, "val")}
    stored = json.loads((found.folder / "evaluation.json").read_text())
    assert stored["metrics"] == found.metrics
    assert sum(part["boxes"] for part in stored["details"]["slices"]["event_rate"]) == 120, "60 frames of two boxes"


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


def test_find_checkpoint(tmp_path):
    study = tmp_path / "study" / "best"
    study.mkdir(parents=True)
    (study / "best.ckpt").write_text("")
    assert find_checkpoint(tmp_path / "study") == find_checkpoint(study) == find_checkpoint(study / "best.ckpt")
    with pytest.raises(FileNotFoundError, match="no checkpoint, allowed: a .ckpt file, or the folder"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", {"state_dict": {}}])
def test_files_that_are_no_checkpoints(tmp_path, content):
    path = tmp_path / "x.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"x.ckpt: not a checkpoint of a detector"):
        checkpoint_config(path)


def test_export(trained, tmp_path):
    folder, *_ = trained
    exported = export(folder, tmp_path / "exported", score_thresh=0.3)
    assert sorted(file.name for file in exported.iterdir()) == ["info_ssd_jit.json", "model.ptjit"]
    with pytest.raises(ValueError, match=r"score_thresh: got 3, allowed: a number from 0 to 1"):
        export(folder, tmp_path / "other", score_thresh=3)
    assert not (tmp_path / "other").exists()


def test_a_file_of_other_weights_is_refused(trained, tmp_path):
    folder, *_ = trained
    exported = export(folder, tmp_path / "exported")
    model = load_model(find_checkpoint(folder)).eval()
    _check_on_clip(model, exported / "model.ptjit")
    with torch.no_grad():
        next(model.detector.rpn.parameters()).add_(0.5)
    with pytest.raises(ValueError, match="model.ptjit: differs from the model by .* on batch 0 of the validation"):
        _check_on_clip(model, exported / "model.ptjit")
