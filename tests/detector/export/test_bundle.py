import hashlib
import json

import pytest
import torch
from small_detector import export_small

from detector import jitting
from detector.export import bundle
from detector.export.bundle import load_exported


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_small(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def copy(exported, tmp_path):
    for name in ("model.ptjit", "info_ssd_jit.json"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    return tmp_path


def test_the_name_is_that_of_the_export():
    assert bundle.INFO_NAME == jitting.INFO_NAME


def test_a_file_or_its_folder(exported):
    for path in (exported, str(exported / "model.ptjit")):
        model, info, device = load_exported(path, "cpu")
        assert info["classes"] == ["car", "walker"]
        assert device == torch.device("cpu")
        assert len(model.detect(torch.zeros(2, 1, 2, 48, 64), 0.5, 0.5, 10)) == 2


def test_nothing_there(tmp_path, copy):
    for path in (tmp_path / "a" / "b", tmp_path / "a" / "model.ptjit"):
        with pytest.raises(FileNotFoundError, match="no exported model, allowed: a model file with info_ssd_jit.json"):
            load_exported(path)
    (copy / "model.ptjit").unlink()
    for path in (copy, copy / "model.ptjit"):
        with pytest.raises(FileNotFoundError, match="model.ptjit: no such model file"):
            load_exported(path)


def test_a_missing_info_file(copy):
    (copy / "info_ssd_jit.json").unlink()
    with pytest.raises(FileNotFoundError, match="model.ptjit: no exported model, allowed: .* beside it"):
        load_exported(copy / "model.ptjit")


def test_files_that_do_not_belong_together(copy):
    with (copy / "model.ptjit").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"model.ptjit: sha256 is .*, allowed: .* as in .*; export the model again"):
        load_exported(copy)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "got list, allowed: a JSON object")])
def test_broken_info_files(copy, text, message):
    (copy / "info_ssd_jit.json").write_text(text)
    with pytest.raises(ValueError, match=f"info_ssd_jit.json: {message}"):
        load_exported(copy)


def test_a_file_that_is_no_model(copy):
    (copy / "model.ptjit").write_bytes(b"no model")
    (copy / "info_ssd_jit.json").write_text(json.dumps({"sha256": hashlib.sha256(b"no model").hexdigest()}))
    with pytest.raises(ValueError, match="model.ptjit: cannot be loaded: "):
        load_exported(copy)
