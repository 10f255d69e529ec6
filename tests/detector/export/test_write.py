import hashlib
import json

import pytest
import torch
from small_detector import PARAMS, clip, small_ssd

from detector import jitting_test
from detector.config.extensions import EXPORT_FORMS
from detector.export.bundle import load_exported
from detector.export.form import PRECISIONS, ExportForm
from detector.export.parity import compare_rows
from detector.export.write import in_precision
from detector.jitting import INFO_NAME, export_ssd

CASES = [(name, precision) for name, form in EXPORT_FORMS.items() for precision in form.precisions]
SCRIPTED = [case for case in CASES if case[0].startswith("torchscript")]
# Compiling takes ten seconds and more; the forms of the same graph stand for it.
QUICK = [case for case in SCRIPTED if not EXPORT_FORMS[case[0]].missing(case[1])]
QUICK += [("torch-export", "float32"), ("torch-export", "bf16")]


@pytest.fixture(scope="module")
def ssd():
    return small_ssd()


@pytest.fixture(scope="module")
def exported(ssd, tmp_path_factory):
    made = {}

    def export(name, precision):
        if (name, precision) not in made:
            folder = tmp_path_factory.mktemp("form")
            export_ssd(ssd, PARAMS, folder, 0.5, 0.3, form=name, precision=precision)
            made[name, precision] = folder
        return made[name, precision]

    return export


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize(("name", "precision"), QUICK)
def test_every_form_answers_as_the_detector_before_and_after_reset(ssd, exported, name, precision, streams):
    model, info, _ = load_exported(exported(name, precision), "cpu")
    assert (info["form"], info["precision"], info["file"]) == (name, precision, EXPORT_FORMS[name].file)
    ssd.reset_all()
    keep = torch.arange(streams) % 2
    with torch.no_grad():
        for seed in range(4):
            found = compare_rows(ssd(clip(2, streams, seed), -1.0), model.forward(clip(2, streams, seed), -1.0))
            assert found.detections > 50 and found.fault(EXPORT_FORMS[name].exact(precision)) == ""
            for each in (ssd, model):
                each.reset(keep) if seed < 2 else each.reset_all()


def _touch(ssd, path, height, width):
    path.write_text(path.suffix)
    return {}


OWN = ExportForm("model.own", ("float32",), _touch, None)


def test_a_form_writes_to_a_path_with_the_suffix_of_its_file(ssd, tmp_path):
    assert export_ssd(ssd, PARAMS, tmp_path, 0.5, 0.3, form=f"{__name__}:OWN").read_text() == ".own"


@pytest.mark.parametrize(("name", "precision"), [case for case in QUICK if case[1] == "float32"])
def test_an_export_leaves_the_detector_as_it_was(ssd, tmp_path, name, precision):
    weights = [weight.stride() for weight in ssd.parameters()]
    export_ssd(ssd, PARAMS, tmp_path, 0.5, 0.3, form=name)
    assert [weight.stride() for weight in ssd.parameters()] == weights
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in ssd.modules())


@pytest.mark.parametrize(("name", "precision"), [case for case in QUICK if EXPORT_FORMS[case[0]].exact(case[1])])
def test_every_form_suppresses(ssd, exported, name, precision):
    model = load_exported(exported(name, precision), "cpu")[0]
    ssd.reset_all()
    with torch.no_grad():
        expected = ssd.detect(clip(2, 2), 0.3)
    found = model.detect(clip(2, 2), 0.3)
    assert 0 < len(expected[0][0]) < len(ssd(clip(2, 2), 0.3)[0][0])
    for rows, others in zip(*(sum(boxes, []) for boxes in (found, expected)), strict=True):
        assert len(rows) == len(others)
        apart = (rows[:, None] - others[None]).abs().amax(dim=2)  # rows of nearly equal scores may change places
        assert max(apart.amin(dim=0).max(), apart.amin(dim=1).max()) < 1e-3


@pytest.mark.parametrize(("name", "precision"), [case for case in QUICK if case[0] in dict(SCRIPTED)])
@pytest.mark.parametrize("testcase", jitting_test.TESTCASES.values())
def test_reference_test_cases(exported, name, precision, testcase):
    testcase(str(exported(name, precision) / "model.ptjit"), 40, 56)


@pytest.mark.parametrize("dtype", PRECISIONS.values())
def test_frames_come_in_any_precision(exported, dtype):
    model = load_exported(exported("torchscript", "bf16"), "cpu")[0]
    rows = model(clip(2, 1).to(dtype), 0.3)[0][0]
    assert rows.dtype == torch.float32 and len(rows) > 0
    assert model.forward_network_without_box_decoding(clip(2, 1).to(dtype))[1].dtype == torch.float32


def test_frames_of_another_size(exported):
    model = load_exported(exported("torch-export", "float32"), "cpu")[0]
    with pytest.raises(
        ValueError, match=r"x: frame shape: got \(2, 32, 96\), allowed: the exported one, \(2, 64, 96\)"
    ):
        model(clip(2, 1)[:, :, :, :32])


@pytest.mark.parametrize(
    ("form", "precision", "message"),
    [
        ("tensorrt", "float32", "form: got 'tensorrt', allowed: torchscript, torchscript-frozen"),
        ("onnx", "half", "precision: got 'half', allowed: with form onnx: float32"),
    ],
)
def test_what_cannot_be_exported(ssd, tmp_path, form, precision, message):
    with pytest.raises(ValueError, match=message):
        export_ssd(ssd, PARAMS, tmp_path / "x", 0.5, 0.3, form=form, precision=precision)
    assert not (tmp_path / "x").exists()


def test_a_file_of_an_unknown_form(tmp_path):
    (tmp_path / "model.ptjit").write_bytes(b"x")
    info = {"form": "x", "sha256": hashlib.sha256(b"x").hexdigest()}
    (tmp_path / INFO_NAME).write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"info_ssd_jit.json: form: got 'x', allowed: torchscript, "):
        load_exported(tmp_path)


@pytest.mark.parametrize(
    ("precision", "network", "head"),
    [("bf16", torch.bfloat16, torch.float32), ("half", torch.float16, torch.float16)],
)
def test_only_in_bf16_the_head_stays_in_float32(ssd, precision, network, head):
    found = in_precision(ssd, precision)
    assert {weight.dtype for weight in found.feature_extractor.parameters()} == {found.precision.dtype} == {network}
    assert {weight.dtype for weight in found.rpn.parameters()} == {found.head_precision.dtype} == {head}
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in found.modules())
    assert {weight.dtype for weight in ssd.parameters()} == {torch.float32} and in_precision(ssd, "float32") is ssd


def test_the_description_of_an_export(ssd, tmp_path):
    export_ssd(ssd, {**PARAMS, "max_boxes_per_input": 70, "base_size": 20}, tmp_path, 0.6, 0.3)
    info = json.loads((tmp_path / INFO_NAME).read_text())
    assert (info["nms_thresh"], info["score_thresh"], info["max_boxes_per_input"]) == (0.6, 0.3, 70)
    assert (info["height"], info["width"], info["in_channels"], info["delta_t"]) == (64, 96, 2, 50_000)
    assert (info["label_map"], info["classes"]) == ({"0": "a", "3": "b"}, ["a", "b"])
    assert (info["strides"], info["variances"], info["base_size"]) == ([8, 16], [0.1, 0.2], 20)
    assert info["normalisation"] == {"divisor_of_counts": 5} and info["num_tbins"] == 12
    assert info["sha256"] == hashlib.sha256((tmp_path / "model.ptjit").read_bytes()).hexdigest()
