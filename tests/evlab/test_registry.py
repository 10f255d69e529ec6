import hashlib
import json
from pathlib import Path

import h5py
import mlflow
import numpy as np
import pytest
import torch

from detector.config import Config
from detector.jitting import SSD, export_ssd
from detector.single_stage_detector import SingleStageDetector
from evlab import registry
from evlab.registry import PromotionResult, check_export, data_fingerprint, model_card, promote, register
from evlab.tracking import Tracker

NAME = "evlab-detector"
PROTOCOL = {"skip_us": 500_000, "time_tol_us": 50_000, "min_box_diag": 30.0, "min_box_side": 10.0}
TAGS = {"config_fingerprint": "c0ffee", "data_fingerprint": "da7a"}


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    """A detector that has learnt nothing, as exported."""
    torch.manual_seed(0)
    net = SingleStageDetector("Vanilla", 2, 1, 2, 8, "PSEE_ANCHORS", num_levels=2)
    params = {**vars(Config().to_hparams()), "classes": ["car"], "label_map": {0: "car"}, "height": 120, "width": 160}
    folder = tmp_path_factory.mktemp("export")
    export_ssd(SSD(net), params, folder, nms_thresh=0.5, score_thresh=0.0)
    return folder


@pytest.fixture
def checks_pass(monkeypatch):
    """Leaves the export checks out where a test is about something else."""
    monkeypatch.setattr(registry, "_run_cases", lambda model: None)


@pytest.fixture
def tracker(tracking_uri: str) -> Tracker:
    return Tracker(tracking_uri, "exp")


def _register(tracker, export, mean_ap=0.5, protocol=PROTOCOL, **tags):
    run_id = tracker.start_run("trial", {"model.feature_base": 2})
    metrics = {"mean_ap": mean_ap, "mean_ap50": 0.75}
    return register(tracker, run_id, export, NAME, metrics, protocol, "# card", {**TAGS, **tags})


def _champion(tracker) -> int:
    return int(tracker.client.get_model_version_by_alias(NAME, "champion").version)


def _copy(export: Path, folder: Path, model: bytes | None = None, **info) -> Path:
    """The export with another model file (its hash goes along) or other settings."""
    folder.mkdir()
    model = (export / "model.ptjit").read_bytes() if model is None else model
    (folder / "model.ptjit").write_bytes(model)
    settings = json.loads((export / "info_ssd_jit.json").read_text())
    settings = {**settings, "sha256": hashlib.sha256(model).hexdigest(), **info}
    (folder / "info_ssd_jit.json").write_text(json.dumps(settings))
    return folder


def test_good_export_passes(export):
    assert check_export(export)["classes"] == ["car"]


@pytest.mark.parametrize("missing", ["model.ptjit", "info_ssd_jit.json"])
def test_export_without_one_of_its_files_is_refused(export, tmp_path, missing):
    folder = _copy(export, tmp_path / "export")
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"{missing}: no such file"):
        check_export(folder)


def test_settings_of_another_model_are_refused(export, tmp_path):
    with pytest.raises(ValueError, match="sha256 is 'beef', but model.ptjit has '[0-9a-f]{64}': export again"):
        check_export(_copy(export, tmp_path / "export", sha256="beef"))


def test_settings_that_are_no_json_are_refused(export, tmp_path):
    folder = _copy(export, tmp_path / "export")
    (folder / "info_ssd_jit.json").write_text("{")
    with pytest.raises(ValueError, match="info_ssd_jit.json: not JSON"):
        check_export(folder)


def test_damaged_model_is_refused_and_nothing_registered(export, tmp_path, tracker):
    half = (export / "model.ptjit").read_bytes()[:5000]
    with pytest.raises(ValueError, match="model.ptjit: the check 'forward with and without box decoding, CPU' failed"):
        _register(tracker, _copy(export, tmp_path / "export", model=half))
    assert tracker.client.search_registered_models() == []


def test_model_whose_memory_does_nothing_is_refused(export, tmp_path, tracker):
    class Forgetful(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1, 2, 1, 1))

        @torch.jit.export
        def reset_all(self) -> None:
            pass

        @torch.jit.export
        def forward_network_without_box_decoding(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(x.size(0) * x.size(1), 1, 4), torch.zeros(x.size(0) * x.size(1), 1, 2)

        def forward(self, x: torch.Tensor, score_thresh: float = 0.4) -> list[list[torch.Tensor]]:
            return [[torch.zeros(0, 6) for b in range(x.size(1))] for t in range(x.size(0))]

    path = tmp_path / "forgetful.ptjit"
    torch.jit.script(Forgetful()).save(str(path))
    with pytest.raises(ValueError, match="the check 'reset' failed: the network keeps no memory"):
        _register(tracker, _copy(export, tmp_path / "export", model=path.read_bytes()))


def test_registered_version_links_everything(export, tracker):
    version = _register(tracker, export, seed=3)
    found = tracker.client.get_model_version_by_alias(NAME, "candidate")
    (logged,) = tracker.client.search_logged_models([tracker.experiment_id])
    assert version == int(found.version) == 1
    assert found.description == "# card"
    assert found.tags == {
        **TAGS,
        "seed": "3",
        "mean_ap": "0.5",
        "mean_ap50": "0.75",
        "protocol": json.dumps(PROTOCOL, sort_keys=True),
        "classes": '["car"]',
        "run_id": found.run_id,
        "model_id": logged.model_id,
        "export_checks": "passed",
        "sha256": check_export(export)["sha256"],
    }
    assert logged.status == "READY" and logged.source_run_id == found.run_id
    assert logged.params == {"model.feature_base": "2"}
    (output,) = tracker.client.get_run(found.run_id).outputs.model_outputs
    assert output.model_id == logged.model_id
    assert logged.tags["mlflow.modelVersions"] == f'[{{"name": "{NAME}", "version": 1}}]'


def test_registered_model_detects_what_the_export_detects(export, tracker, checks_pass, monkeypatch):
    _register(tracker, export)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@candidate")
    frames = torch.rand(2, 3, 2, 64, 96, generator=torch.Generator().manual_seed(1))
    rows = model.predict(frames.numpy())

    scripted = torch.jit.load(str(export / "model.ptjit"))
    with torch.no_grad():
        boxes = scripted.detect(frames, 0.0, 0.5, 500)
    expected = [[t, b, *row.tolist()] for t in range(2) for b in range(3) for row in boxes[t][b]]
    assert rows.dtype == np.float32 and len(rows) > 0
    np.testing.assert_array_equal(rows, np.array(expected, np.float32))
    # Calls do not depend on each other, and tensors are taken as well.
    np.testing.assert_array_equal(rows, model.unwrap_python_model().predict(None, frames))


def test_signature_refuses_other_channels_and_types(export, tracker, checks_pass, monkeypatch):
    _register(tracker, export)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@candidate")
    for wrong in (np.zeros((2, 1, 3, 64, 64), np.float32), np.zeros((2, 1, 2, 64, 64), np.float64)):
        with pytest.raises(mlflow.MlflowException, match="schema"):
            model.predict(wrong)


def test_kept_files_are_the_export_and_the_code_and_no_pickle(export, tracker, checks_pass, tmp_path):
    _register(tracker, export)
    kept = {path.name: path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()}
    assert {"model.ptjit", "info_ssd_jit.json", "pyfunc_model.py", "MLmodel"} <= kept.keys()
    assert not any(name.endswith((".pkl", ".pickle", ".lock")) for name in kept)
    requirements = kept["requirements.txt"].read_text().split()
    assert sorted(line.partition("==")[0] for line in requirements) == ["mlflow", "numpy", "torch"]
    assert "+" not in " ".join(requirements)


@pytest.mark.parametrize("key", ["config_fingerprint", "data_fingerprint"])
def test_missing_tag_is_refused(export, tracker, key):
    with pytest.raises(ValueError, match=f"tags: {key} is missing"):
        _register(tracker, export, **{key: ""})


@pytest.mark.parametrize("value", [None, float("nan")])
def test_missing_metric_is_refused(export, tracker, value):
    metrics = {"mean_ap50": 0.5} if value is None else {"mean_ap": value, "mean_ap50": 0.5}
    with pytest.raises(ValueError, match=f"metrics: got mean_ap = {value}, allowed: a finite number"):
        register(tracker, tracker.start_run("trial", {}), export, NAME, metrics, PROTOCOL, "", TAGS)


def test_failed_upload_registers_nothing(export, tracker, checks_pass, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(tracker.client, "log_model_artifacts", fail)
    with pytest.raises(OSError, match="disk full"):
        _register(tracker, export)
    (logged,) = tracker.client.search_logged_models([tracker.experiment_id])
    assert logged.status == "FAILED"
    assert tracker.client.search_registered_models() == []


@pytest.mark.parametrize("name", ["a/b", "a:1", " "])
def test_name_that_mlflow_refuses_is_named(export, tracker, name):
    with pytest.raises(ValueError, match=f"track.registered_model_name: got '{name}', allowed: text without / and :"):
        register(tracker, tracker.start_run("t", {}), export, name, {"mean_ap": 0.5, "mean_ap50": 0.5}, {}, "", TAGS)


def test_champion_moves_only_to_a_better_version(export, tracker, checks_pass):
    assert promote(tracker, NAME, _register(tracker, export, 0.5)) == PromotionResult(True, "it is the first champion")
    assert promote(tracker, NAME, 1) == PromotionResult(False, "version 1 is the champion already")
    same = promote(tracker, NAME, _register(tracker, export, 0.5))
    assert same == PromotionResult(False, "mAP 0.5000 is not above the 0.5000 of champion 1")
    assert _champion(tracker) == 1
    better = promote(tracker, NAME, str(_register(tracker, export, 0.625)))
    assert better == PromotionResult(True, "mAP 0.6250 is above the 0.5000 of version 1")
    assert _champion(tracker) == 3


def test_better_numbers_under_another_protocol_do_not_count(export, tracker, checks_pass):
    promote(tracker, NAME, _register(tracker, export, 0.5))
    easier = _register(tracker, export, 0.75, protocol={**PROTOCOL, "min_box_diag": 60.0})
    assert promote(tracker, NAME, easier) == PromotionResult(
        False, "its protocol is not that of champion 1: min_box_diag 60.0 against 30.0"
    )
    assert _champion(tracker) == 1


def test_better_numbers_on_another_test_set_do_not_count(export, tracker, checks_pass):
    promote(tracker, NAME, _register(tracker, export, 0.5))
    other = _register(tracker, export, 0.75, data_fingerprint="0ther")
    assert promote(tracker, NAME, other) == PromotionResult(False, "it was tested on another test set than champion 1")


def test_better_numbers_for_other_classes_do_not_count(export, tracker, checks_pass, tmp_path):
    promote(tracker, NAME, _register(tracker, export, 0.5))
    other = _register(tracker, _copy(export, tmp_path / "export", classes=["bus"]), 0.75)
    assert promote(tracker, NAME, other) == PromotionResult(False, 'it detects ["bus"], champion 1 ["car"]')


def test_version_registered_without_checks_is_not_promoted(tracker):
    tracker.client.create_registered_model(NAME)
    tracker.client.create_model_version(NAME, "file:///elsewhere", tags={"mean_ap": "0.9"})
    assert promote(tracker, NAME, 1) == PromotionResult(False, "version 1 was registered without the export checks")


def test_unknown_version_is_refused(tracker):
    with pytest.raises(ValueError, match=f"version: got 7 of model '{NAME}'"):
        promote(tracker, NAME, 7)


def _split(folder: Path, label: int = 0, **attributes) -> Path:
    folder.mkdir()
    with h5py.File(folder / "a.h5", "w") as file:
        file["data"] = np.arange(16, dtype=np.uint8).reshape(2, 2, 2, 2)
        file["data"].attrs.update(attributes)
    np.save(folder / "a_bbox.npy", np.array([label]))
    return folder


def test_data_fingerprint_follows_labels_source_and_preprocessing(tmp_path):
    same = {data_fingerprint(_split(tmp_path / name, sha256="x", delta_t=50_000)) for name in ("a", "b")}
    others = {
        data_fingerprint(_split(tmp_path / "labels", label=1, sha256="x", delta_t=50_000)),
        data_fingerprint(_split(tmp_path / "source", sha256="y", delta_t=50_000)),
        data_fingerprint(_split(tmp_path / "frames", sha256="x", delta_t=10_000)),
    }
    assert len(same) == 1 and len(others) == 3 and not same & others


def test_data_fingerprint_reads_files_that_do_not_name_their_source(tmp_path):
    first, second = _split(tmp_path / "a"), _split(tmp_path / "b")
    assert data_fingerprint(first) == data_fingerprint(second)
    with h5py.File(second / "a.h5", "a") as file:
        file["data"][1, 1, 1, 1] = 99
    assert data_fingerprint(first) != data_fingerprint(second)


def test_data_fingerprint_of_no_dataset_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tensor file"):
        data_fingerprint(tmp_path)


def test_model_card_tells_data_protocol_classes_and_configuration():
    config = Config().with_overrides({"data.dataset_path": "datasets/street", "model.feature_base": 24})
    metrics = {"mean_ap": 0.41666, "mean_ap50": 0.9, "mean_ap_small": 0.25, "mean_ap_two wheeler": 0.5}
    card = model_card(NAME, config, metrics, PROTOCOL, "da7a", "0123abc")
    for line in (
        f"# {NAME}",
        "| dataset | datasets/street |",
        "| test set fingerprint | da7a |",
        "| MLflow run | 0123abc |",
        "| mean_ap | 0.4167 |",
        "| mean_ap_small | 0.2500 |",
        "| two wheeler | 0.5000 |",
        "| min_box_diag | 30.0 |",
        "  feature_base: 24",
        f'model = mlflow.pyfunc.load_model("models:/{NAME}@champion")',
    ):
        assert line in card.splitlines()
    by_class = card.partition("## AP by class")[2].partition("##")[0]
    assert "small" not in by_class
