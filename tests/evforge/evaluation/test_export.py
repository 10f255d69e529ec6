import json

import pytest
import torch
from pytorch_lightning import seed_everything

from detector.config.extensions import EXPORT_FORMS
from detector.lightning_model import LightningDetectionModel
from evforge.evaluation.checkpoint import find_checkpoint, load_model
from evforge.evaluation.export import _check_on_clip, export


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    """Of a detector that has learnt nothing, for frames of the tiny dataset."""
    seed_everything(0, verbose=False)
    model = LightningDetectionModel(tiny_config.to_hparams())
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.height, model.width = 64, 96
    model.on_save_checkpoint(content)
    torch.save(content, tmp_path / "x.ckpt")
    return tmp_path / "x.ckpt"


@pytest.mark.parametrize(
    ("form", "precision", "file"),
    [("torchscript-int8", "bf16", "model.ptjit"), ("torch-export", "float32", "model.pt2")],
)
def test_other_forms_are_checked_on_the_validation_split(checkpoint, tmp_path, monkeypatch, form, precision, file):
    if EXPORT_FORMS[form].missing(precision):
        pytest.skip(f"{form} in {precision} does not run on this processor")
    folder = export(checkpoint, tmp_path / "out", form=form, precision=precision)
    assert sorted(path.name for path in folder.iterdir()) == ["info_ssd_jit.json", file]
    info = json.loads((folder / "info_ssd_jit.json").read_text())
    assert (info["form"], info["precision"], info["file"]) == (form, precision, file)
    monkeypatch.setattr("detector.export.write.in_precision", lambda ssd, precision: _spoilt(ssd))
    with pytest.raises(ValueError, match=f"{file}: differs from the model by too much on batch 0 of the validation"):
        export(checkpoint, tmp_path / "spoilt", form=form)


def _spoilt(ssd):
    with torch.no_grad():
        ssd.rpn.cls_head[-1].bias[::3] -= 5
    return ssd


def test_without_its_dataset_a_file_is_checked_on_random_frames(checkpoint, tmp_path, capsys):
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["dataset_path"] = str(tmp_path / "gone")
    torch.save(content, checkpoint)
    export(checkpoint, tmp_path / "out")
    assert f"{tmp_path / 'gone' / 'val'}: no longer exists" in capsys.readouterr().out


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
