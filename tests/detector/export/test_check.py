import pytest
from registered_model import copy_export

from detector.export import check
from detector.export.check import check_export


def test_good_export_passes(export, monkeypatch):
    assert check_export(export)["classes"] == ["car"]
    seen = []
    monkeypatch.setattr(check, "TESTCASES", {"any": lambda *arguments: seen.append(arguments)})
    check_export(export)
    assert seen == [(str(export / "model.ptjit"), 120, 160)]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model.ptjit", "model.ptjit: no such model file"),
        ("info_ssd_jit.json", "model.ptjit: no exported model, allowed: a model file with info_ssd_jit.json beside it"),
    ],
)
def test_export_without_one_of_its_files_is_refused(export, tmp_path, missing, message):
    folder = copy_export(export, tmp_path / "export")
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        check_export(folder)


def test_settings_of_another_model_are_refused(export, tmp_path):
    with pytest.raises(
        ValueError, match="model.ptjit: sha256 is [0-9a-f]{64}, allowed: beef as in .*; export the model again"
    ):
        check_export(copy_export(export, tmp_path / "export", sha256="beef"))


def test_settings_that_are_no_json_are_refused(export, tmp_path):
    folder = copy_export(export, tmp_path / "export")
    (folder / "info_ssd_jit.json").write_text("{")
    with pytest.raises(ValueError, match="info_ssd_jit.json: not JSON"):
        check_export(folder)
