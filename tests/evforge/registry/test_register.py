import json
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from mlflow.exceptions import MlflowException
from registered_model import NAME, PROTOCOL, TAGS, copy_export, register_version

from detector.export.check import check_export
from evforge.registry.register import (
    LONGEST_DESCRIPTION,
    _ensure_registered_model,
    _shortened,
    check_registered,
    describe_version,
    register,
)


def test_damaged_model_is_refused_and_nothing_registered(export, tmp_path, tracker):
    half = (export / "model.ptjit").read_bytes()[:5000]
    with pytest.raises(ValueError, match="model.ptjit: the check 'forward with and without box decoding, CPU' failed"):
        register_version(tracker, copy_export(export, tmp_path / "export", model=half))
    assert tracker.client.search_registered_models() == []


def test_model_whose_state_has_no_effect_is_refused(export, tmp_path, tracker):
    class Forgetful(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.in_channels = 2
            self.state = [torch.zeros(1)]

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
    with pytest.raises(ValueError, match="the check 'reset' failed: .*the state has no effect"):
        register_version(tracker, copy_export(export, tmp_path / "export", model=path.read_bytes()))


@pytest.mark.parametrize("section", [1000, 6000])
def test_a_long_card_is_cut_in_the_description_only(section):
    card = "# car\n\n" + "".join(f"## Section {n}\n\n{'x' * section}\n\n" for n in range(9))
    short = _shortened(card, "More: there.")
    assert len(short) <= 5000  # what PostgreSQL and MySQL accept
    assert short.endswith("\n\nMore: there.\n") and card.startswith(short.removesuffix("More: there.\n").rstrip())
    assert short.count("## Section") == (4 if section == 1000 else 0)
    assert _shortened("# car", "More: there.") == "# car"
    longest = "x" * LONGEST_DESCRIPTION
    assert _shortened(longest, "end") == longest
    assert _shortened(f"{longest}x", "end") == f"{longest[:-6]}\n\nend\n", "as long as a description may be"


def test_registered_version_links_everything(export, tracker):
    start = int(time.time() * 1000)
    version = register_version(tracker, export, seed=3)
    end = time.time() * 1000
    found = tracker.client.get_model_version_by_alias(NAME, "candidate")
    (logged,) = tracker.client.search_logged_models([tracker.experiment_id])
    assert version == int(found.version) == 1
    assert found.description == "# card"
    info, files = check_export(export), json.loads(found.tags.pop("files"))
    assert files["artifacts/model.ptjit"] == info["sha256"]
    assert files.keys() >= {"MLmodel", "pyfunc_model.py", "requirements.txt", "artifacts/info_ssd_jit.json"}
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
        "sha256": info["sha256"],
    }
    assert logged.status == "READY" and logged.source_run_id == found.run_id
    assert logged.params == {"model.feature_base": "2"}
    (output,) = tracker.client.get_run(found.run_id).outputs.model_outputs
    assert output.model_id == logged.model_id
    for key, value in {"test_mean_ap": 0.5, "test_mean_ap50": 0.75}.items():
        (point,) = tracker.client.get_metric_history(found.run_id, key)
        assert point.value == value and start <= point.timestamp <= end
    assert logged.tags["mlflow.modelVersions"] == f'[{{"name": "{NAME}", "version": 1}}]'


def test_a_card_can_be_replaced(export, tracker, checks_pass):
    version = register_version(tracker, export)
    describe_version(tracker, NAME, version, "# new card")
    (logged,) = tracker.client.search_logged_models([tracker.experiment_id])
    assert tracker.client.get_model_version(NAME, str(version)).description == "# new card"
    assert logged.tags["mlflow.note.content"] == "# new card"
    assert f"models:/{NAME}@champion" in tracker.client.get_registered_model(NAME).description


def test_kept_files_are_the_export_and_the_code_and_no_pickle(export, tracker, checks_pass, tmp_path):
    register_version(tracker, export)
    kept = {path.name: path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()}
    assert {"model.ptjit", "info_ssd_jit.json", "pyfunc_model.py", "MLmodel"} <= kept.keys()
    assert not any(name.endswith((".pkl", ".pickle", ".lock")) for name in kept)
    requirements = kept["requirements.txt"].read_text().split()
    assert sorted(line.partition("==")[0] for line in requirements) == ["mlflow", "numpy", "torch"]
    assert "+" not in " ".join(requirements)


def test_registered_files_are_checked_where_they_lie(export, tracker, checks_pass, tmp_path):
    version = tracker.client.get_model_version(NAME, str(register_version(tracker, export)))
    assert check_registered(tracker, version, tmp_path / "a")["classes"] == ["car"]
    kept = Path(version.source.removeprefix("file://"))
    (kept / "pyfunc_model.py").write_text("import os")
    with pytest.raises(ValueError, match="pyfunc_model.py: is not the file that was registered"):
        check_registered(tracker, version, tmp_path / "b")
    (kept / "artifacts" / "info_ssd_jit.json").unlink()
    with pytest.raises(FileNotFoundError, match="info_ssd_jit.json: no such file any longer"):
        check_registered(tracker, version, tmp_path / "c")


@pytest.mark.parametrize("key", ["config_fingerprint", "data_fingerprint"])
def test_missing_tag_is_refused(export, tracker, key):
    with pytest.raises(ValueError, match=f"tags: {key} is missing"):
        register_version(tracker, export, **{key: ""})


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
        register_version(tracker, export)
    (logged,) = tracker.client.search_logged_models([tracker.experiment_id])
    assert logged.status == "FAILED"
    assert tracker.client.search_registered_models() == []


@pytest.mark.parametrize("name", ["a/b", "a:1", " "])
def test_name_that_mlflow_refuses_is_named(export, tracker, name):
    with pytest.raises(ValueError, match=f"track.registered_model_name: got '{name}', allowed: text without / and :"):
        register(tracker, tracker.start_run("t", {}), export, name, {"mean_ap": 0.5, "mean_ap50": 0.5}, {}, "", TAGS)


@pytest.mark.parametrize("code", ["RESOURCE_ALREADY_EXISTS", "INTERNAL_ERROR"])
def test_only_a_model_that_exists_already_is_no_error(code):
    error = MlflowException("no")
    error.error_code = code

    class Client:
        def create_registered_model(self, name, description):
            raise error

    with pytest.raises(MlflowException) if code == "INTERNAL_ERROR" else nullcontext():
        _ensure_registered_model(Client(), "street")
