import numpy as np
import pytest
import torch
from registered_model import NAME, export_cars, register_version
from small_detector import export_small, spread
from streams import SENSOR, blob_events

from detector.data_factory import get_classes_from_json
from detector.events import open_events, write_dat
from detector.inference.predictor import Predictor
from detector.jitting import export_lightning_model
from detector.labels import load_labels
from detector.lightning_model import LightningDetectionModel
from evforge.cli.main import main
from evforge.evaluation.predict import exported_model
from evforge.tracking.tracker import Tracker


@pytest.fixture
def recording(tmp_path):
    write_dat(tmp_path / "street_td.dat", blob_events(), *SENSOR)
    return str(tmp_path / "street_td.dat")


@pytest.fixture
def run_folder(tiny_config, tmp_path):
    """A run whose model has learnt nothing."""
    classes = get_classes_from_json(tiny_config.data.dataset_path)
    model = LightningDetectionModel(tiny_config.with_overrides({"data.classes": classes}).to_hparams())
    spread(model.detector)
    model.height, model.width = SENSOR[0] // 2, SENSOR[1] // 2
    checkpoint = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    folder = tmp_path / "run"
    folder.mkdir()
    torch.save(checkpoint, folder / "best.ckpt")
    return folder, model.eval()


def boxes_of(recording, model, score_thresh):
    with open_events(recording) as events:
        return np.concatenate(list(Predictor(model, score_thresh=score_thresh)(events)))


def test_an_exported_model(tmp_path, recording, capsys):
    model = export_small(tmp_path / "model")
    assert (
        main(
            ["predict", recording, "--model", str(model), "--output", str(tmp_path / "a.npy"), str(tmp_path / "a.csv")]
        )
        == 0
    )
    assert f"x real time\nwritten: {tmp_path}/a.npy {tmp_path}/a.csv\n" in capsys.readouterr().out
    np.testing.assert_array_equal(load_labels(tmp_path / "a.npy"), boxes_of(recording, model, None))


def test_a_run_is_exported_for_the_time_being(tmp_path, recording, run_folder, tiny_config):
    folder, model = run_folder
    export_lightning_model(model, tmp_path / "model", 0.5, 0.4)
    expected = boxes_of(recording, tmp_path / "model", 0.45)
    assert expected.size > 100
    for path in (folder, folder / "best.ckpt"):
        arguments = ["--model", str(path), "--output", str(tmp_path / "a.npy"), "--score_thresh", "0.45"]
        assert main(["predict", recording, *arguments]) == 0
        found = load_labels(tmp_path / "a.npy")
        assert found.size == expected.size
        np.testing.assert_allclose(found["class_confidence"], expected["class_confidence"], atol=1e-4)
    with exported_model(str(folder), tiny_config.track) as path:
        assert path.is_file()
    assert not path.exists()


def test_registered_models(tmp_path, recording, tracking_uri, tiny_config, monkeypatch, capsys):
    monkeypatch.setattr("detector.export.check._run_cases", lambda model: None)
    tracker = Tracker(tracking_uri, tiny_config.track.experiment)
    exported = export_cars(tmp_path / "model")
    version = register_version(tracker, exported)
    tracker.client.set_registered_model_alias(NAME, "champion", str(version))
    for address in (f"models:/{NAME}@champion", f"models:/{NAME}/{version}"):
        with exported_model(address, tiny_config.track) as path:
            for name in ("model.ptjit", "info_ssd_jit.json"):
                assert (path / name).read_bytes() == (exported / name).read_bytes()
        assert not path.exists()
    for address, message in (
        (f"models:/{NAME}@nobody", "nobody"),
        (f"models:/{NAME}/9", "9"),
        ("models:/nobody@champion", "nobody"),
        (f"models:/{NAME}", "allowed: models:/NAME@ALIAS or models:/NAME/VERSION"),
    ):
        arguments = ["--model", address, "--output", "a.npy", "--track.tracking_uri", tracking_uri]
        assert main(["predict", recording, *arguments, "--track.experiment", tiny_config.track.experiment]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("make", [None, "folder", "file"])
def test_things_that_are_no_model(tmp_path, recording, make, capsys):
    path = tmp_path / "thing"
    if make == "folder":
        path.mkdir()
    elif make == "file":
        path.write_text("no model")
    assert main(["predict", recording, "--model", str(path), "--output", str(tmp_path / "a.npy")]) == 2
    message = {None: "no such model", "folder": "contains no finished run or study", "file": "no exported model"}[make]
    assert f"{path}: {message}, allowed: " in capsys.readouterr().err
