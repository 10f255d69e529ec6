import json

import pytest
import torch
from small_detector import HEIGHT, PARAMS, WIDTH, clip, small_ssd

from detector.export.backends import torchscript
from detector.export.backends.torchscript import FROZEN, PACKED, QUANTIZED
from detector.export.bundle import load_exported
from detector.export.form import METHODS, TORCHSCRIPT, load_torchscript
from detector.jitting import INFO_NAME, export_ssd


@pytest.fixture(scope="module")
def ssd():
    return small_ssd()


@pytest.mark.parametrize(("name", "precision"), [("torchscript-cpu", "bf16"), ("torchscript-int8", "float32")])
def test_a_processor_without_the_instructions_is_told(ssd, tmp_path, monkeypatch, name, precision):
    monkeypatch.setattr("detector.export.backends.torchscript.cpu_has_bf16_convolutions", lambda: False)
    monkeypatch.setattr("detector.export.backends.torchscript.cpu_has_vnni", lambda: False)
    message = f"form: got '{name} in {precision}', allowed: on a processor with .*; here another form or precision"
    with pytest.raises(ValueError, match=message):
        export_ssd(ssd, PARAMS, tmp_path, 0.5, 0.3, form=name, precision=precision)
    folder = tmp_path / "made elsewhere"
    export_ssd(ssd, PARAMS, folder, 0.5, 0.3)
    info = json.loads((folder / INFO_NAME).read_text()) | {"form": name, "precision": precision}
    (folder / INFO_NAME).write_text(json.dumps(info))
    with pytest.raises(ValueError, match=message):
        load_exported(folder, "cpu")


@pytest.mark.parametrize("form", [FROZEN, PACKED], ids=["frozen", "packed"])
def test_a_file_computes_what_the_detector_does(ssd, tmp_path, form):
    ssd.reset_all()
    assert form.write(ssd, tmp_path / form.file, HEIGHT, WIDTH) == {}
    model = form.load(tmp_path / form.file, {}, "cpu")
    with torch.no_grad():
        for seed in range(2):
            found, expected = model(clip(1, 2, seed), -1.0), ssd(clip(1, 2, seed), -1.0)
            for rows, others in zip(sum(found, []), sum(expected, []), strict=True):
                torch.testing.assert_close(rows, others, atol=2e-3, rtol=1e-4)


def test_weights_of_a_frozen_file_are_constants(ssd, tmp_path):
    FROZEN.write(ssd, tmp_path / "a.pt", HEIGHT, WIDTH)
    TORCHSCRIPT.write(ssd, tmp_path / "b.pt", HEIGHT, WIDTH)
    frozen, plain = (load_torchscript(tmp_path / name) for name in ("a.pt", "b.pt"))
    assert not list(frozen.parameters()) and list(plain.parameters())
    assert frozen.in_channels == 2 and all(hasattr(frozen, method) for method in METHODS)


def test_convolutions_of_a_packed_file_reorder_their_weights(ssd, tmp_path):
    PACKED.write(ssd, tmp_path / "a.pt", HEIGHT, WIDTH)
    kinds = {module.original_name for module in load_torchscript(tmp_path / "a.pt").modules()}
    assert "PackedConv" in kinds and "BatchNorm2d" not in kinds
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in ssd.modules())  # the detector is not changed


def test_a_quantized_file_has_levels_of_bytes(ssd, tmp_path, monkeypatch):
    changed = []
    monkeypatch.setattr(torchscript, "quantize_levels", changed.append)
    QUANTIZED.write(ssd, tmp_path / "a.pt", HEIGHT, WIDTH)
    (extractor,) = changed
    assert type(extractor) is type(ssd.feature_extractor) and extractor is not ssd.feature_extractor
    assert QUANTIZED.rounds and not PACKED.rounds and not FROZEN.rounds
    assert "PackedConv" in {module.original_name for module in load_torchscript(tmp_path / "a.pt").modules()}


@pytest.mark.parametrize(
    ("vnni", "bf16", "lacking"),
    [
        (True, True, ("", "", "", "")),
        (True, False, ("", "bf16", "", "bf16")),
        (False, True, ("", "", "VNNI", "VNNI")),
        (False, False, ("", "bf16", "VNNI", "VNNI")),
    ],
)
def test_the_instructions_that_a_form_needs(monkeypatch, vnni, bf16, lacking):
    monkeypatch.setattr(torchscript, "cpu_has_vnni", lambda: vnni)
    monkeypatch.setattr(torchscript, "cpu_has_bf16_convolutions", lambda: bf16)
    found = [form.missing(precision) for form in (PACKED, QUANTIZED) for precision in ("float32", "bf16")]
    for text, answer in zip(lacking, found, strict=True):
        assert text in answer and bool(text) == bool(answer)
    assert FROZEN.missing("bf16") == ""
