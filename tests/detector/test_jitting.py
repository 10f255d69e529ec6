import copy
import hashlib
import json

import pytest
import torch
from small_detector import PARAMS, small_net

from detector import jitting, jitting_test
from detector.config import Config
from detector.export.form import save_torchscript
from detector.jitting import INFO_NAME, SSD, export_ssd
from detector.utils.torch_compat import ignoring_torchscript_deprecation

SHAPE = (3, 2, 2, 64, 96)


@pytest.fixture(scope="module")
def detector():
    return small_net(variances=(0.2, 0.3))


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    return export_ssd(SSD(detector), PARAMS, tmp_path_factory.mktemp("export"), nms_thresh=0.5, score_thresh=0.3)


def clip(seed=0):
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))


def test_scripted_equals_eager_over_time_and_reset(detector, exported):
    model = torch.jit.load(exported)
    detector.reset_all()
    with torch.no_grad():
        for step in range(3):
            loc, logits = model.forward_network_without_box_decoding(clip(step))
            eager_loc, eager_logits = detector(clip(step))
            torch.testing.assert_close(loc, eager_loc)
            torch.testing.assert_close(logits, eager_logits)
            mask = torch.tensor([1.0, 0.0])
            model.reset(mask)
            detector.reset(mask)


def test_detect_equals_get_boxes(detector, exported):
    model = torch.jit.load(exported)
    detector.reset_all()
    expected = detector.get_boxes(clip(), score_thresh=0.2, nms_thresh=0.5)
    found = model.detect(clip(), 0.2, 0.5)
    assert sum(len(frame["boxes"]) for step in expected for frame in step) > 50
    for t in range(SHAPE[0]):
        for b in range(SHAPE[1]):
            rows, frame = found[t][b], expected[t][b]
            torch.testing.assert_close(rows[:, 4], frame["scores"])
            assert torch.equal(rows[:, 5].long(), frame["labels"])
            torch.testing.assert_close(rows[:, :2] + rows[:, 2:4], frame["boxes"][:, 2:], atol=1e-3, rtol=0)
            torch.testing.assert_close(rows[:, :2], frame["boxes"][:, :2], atol=1e-3, rtol=0)


def test_forward_gives_every_anchor_and_class_above_the_threshold(detector, exported):
    model = torch.jit.load(exported)
    detector.reset_all()
    with torch.no_grad():
        scores = detector(clip())[1].softmax(2)[..., 1:]
    rows = model(clip(), 0.25)
    counts = [[len(rows[t][b]) for b in range(2)] for t in range(3)]
    assert counts == (scores > 0.25).sum((1, 2)).view(3, 2).tolist()


def test_live_memory_is_not_baked_into_the_file(detector, tmp_path):
    detector(clip())
    params = vars(Config().to_hparams()) | {"label_map": {}, "classes": ["a", "b"], "height": 64, "width": 96}
    model = torch.jit.load(export_ssd(SSD(detector), params, tmp_path, 0.5, 0.3))
    detector.reset_all()
    with torch.no_grad():
        torch.testing.assert_close(model.forward_network_without_box_decoding(clip())[0], detector(clip())[0])


def test_info_says_how_to_feed_the_model(exported):
    info = json.loads((exported.parent / INFO_NAME).read_text())
    assert info["sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert (info["in_channels"], info["height"], info["width"], info["delta_t"]) == (2, 64, 96, 50_000)
    assert info["strides"] == [8, 16] and info["variances"] == [0.2, 0.3] and info["classes"] == ["a", "b"]
    assert info["label_map"] == {"0": "a", "3": "b"} and len(info["anchor_list"]) == 6
    assert not list(exported.parent.glob("*.part"))


def test_other_anchors_are_refused(detector):
    with pytest.raises(ValueError, match="anchor_list: got .* allowed: the list of the detector"):
        SSD(detector, [(1.0, 1.0)])


@pytest.mark.parametrize("testcase", jitting_test.TESTCASES.values())
def test_reference_test_cases(exported, testcase):
    testcase(str(exported))


def test_reference_test_cases_catch_a_model_without_memory(detector, tmp_path, monkeypatch):
    class Forgetful(SSD):
        def forward_network_without_box_decoding(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            self.feature_extractor.reset_all()
            loc, logits = self.rpn(self.feature_extractor(x))
            return loc, logits

    Forgetful.forward_network_without_box_decoding = torch.jit.export(Forgetful.forward_network_without_box_decoding)
    torch.jit.script(Forgetful(detector)).save(str(tmp_path / "m.ptjit"))
    with pytest.raises(AssertionError, match="the state has no effect"):
        jitting_test.testcase_torch_jit_reset(str(tmp_path / "m.ptjit"))


def test_reference_test_cases_catch_a_mask_that_is_not_heeded(detector, tmp_path):
    class Careless(SSD):
        def reset(self, mask: torch.Tensor) -> None:
            self.reset_all()

    Careless.reset = torch.jit.export(Careless.reset)
    save_torchscript(Careless(detector), tmp_path / "m.ptjit")
    with pytest.raises(AssertionError, match=r"reset\(mask\) changes a stream that it should keep"):
        jitting_test.testcase_torch_jit_reset(str(tmp_path / "m.ptjit"))


def test_counts_are_no_frames(exported):
    with pytest.raises(torch.jit.Error, match="x: got whole numbers, allowed: floating point frames"):
        torch.jit.load(exported)(clip().to(torch.uint8))


def test_command_line(exported, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["jitting_test", str(exported), "--height", "40", "--width", "56"])
    assert jitting_test._main() == 0 and capsys.readouterr().out.count("ok  ") == 3
    monkeypatch.setattr("sys.argv", ["jitting_test", str(exported.parent / INFO_NAME)])
    assert jitting_test._main() == 1
    assert capsys.readouterr().out.splitlines()[0].startswith(f"FAILED  {next(iter(jitting_test.TESTCASES))}: ")


def test_names():
    assert jitting.MODEL_NAME == "model.ptjit" and INFO_NAME == "info_ssd_jit.json"


@pytest.mark.parametrize("max_decode", [False, True])
def test_empty_and_nan_boxes_are_dropped_as_get_boxes_drops_them(detector, max_decode):
    net = copy.deepcopy(detector)
    net.box_coder.max_decode = max_decode
    with torch.no_grad():  # many boxes far outside of the frame, huge ones, and one shape without numbers
        net.rpn.box_head[-1].weight.mul_(20)
        net.rpn.box_head[-1].bias[2 * 4] = float("nan")
        net.rpn.cls_head[-1].bias[3 * 3 + 1] = float("nan")
    ssd = SSD(net)
    with ignoring_torchscript_deprecation():
        models = {"eager": ssd, "scripted": torch.jit.script(ssd)}
    for limit in (5, 40, 500):
        net.reset_all()
        expected = sum(net.get_boxes(clip(), 0.1, 0.5, limit), [])
        assert sum(len(frame["scores"]) for frame in expected) > 20
        for model in models.values():
            model.reset_all()
            for rows, frame in zip(sum(model.detect(clip(), 0.1, 0.5, limit), []), expected, strict=True):
                assert torch.equal(rows[:, 5].long(), frame["labels"])
                torch.testing.assert_close(rows[:, 4], frame["scores"])
                torch.testing.assert_close(rows[:, :2], frame["boxes"][:, :2], atol=1e-3, rtol=0)
                torch.testing.assert_close(rows[:, :2] + rows[:, 2:4], frame["boxes"][:, 2:], atol=1e-3, rtol=0)
            model.reset_all()
            rows = torch.cat(sum(model(clip(), 0.1), []))
            assert (rows[:, 2:4] > 0).all() and not rows.isnan().any()


def test_an_exported_detector_stays_in_evaluation_mode(detector):
    ssd = SSD(detector)
    parent = torch.nn.Sequential(ssd).train()
    assert not any(module.training for module in ssd.modules()) and parent.training
    assert not detector.training
    SSD(copy.deepcopy(detector).train())
