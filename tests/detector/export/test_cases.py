from functools import partial

import pytest
import torch
from small_detector import small_net

from detector.export import cases
from detector.export.form import save_torchscript
from detector.export.ssd import SSD


@pytest.fixture(scope="module")
def detector():
    return small_net(variances=(0.2, 0.3))


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.ptjit"
    save_torchscript(SSD(detector), path)
    return path


@pytest.mark.parametrize("testcase", cases.TESTCASES.values())
def test_a_sound_export_passes(exported, testcase):
    testcase(str(exported), 64, 96)


def test_every_row_of_boxes_is_checked_against_the_frame_and_the_classes(exported, monkeypatch):
    seen = []
    monkeypatch.setattr(cases, "_check_rows", lambda *arguments: seen.append(arguments[1:]))
    cases.testcase_forward_network_with_and_without_box_decoding_cpu(str(exported), 64, 96)
    assert seen == [(64, 96, 2)] * (2 * 3 * 2)  # with and without gradients, 3 frames of 2 streams, 2 classes


def test_they_catch_a_model_without_memory(detector, tmp_path):
    class Forgetful(SSD):
        def forward_network_without_box_decoding(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            self.feature_extractor.reset_all()
            loc, logits = self.rpn(self.feature_extractor(x))
            return loc, logits

    Forgetful.forward_network_without_box_decoding = torch.jit.export(Forgetful.forward_network_without_box_decoding)
    torch.jit.script(Forgetful(detector)).save(str(tmp_path / "m.ptjit"))
    with pytest.raises(AssertionError, match="the state has no effect"):
        cases.testcase_torch_jit_reset(str(tmp_path / "m.ptjit"))


def test_they_catch_a_mask_that_is_not_heeded(detector, tmp_path):
    class Careless(SSD):
        def reset(self, mask: torch.Tensor) -> None:
            self.reset_all()

    Careless.reset = torch.jit.export(Careless.reset)
    save_torchscript(Careless(detector), tmp_path / "m.ptjit")
    with pytest.raises(AssertionError, match=r"reset\(mask\) changes a stream that it should keep"):
        cases.testcase_torch_jit_reset(str(tmp_path / "m.ptjit"))


def test_they_catch_a_state_that_survives_reset_all(detector, tmp_path):
    class Stubborn(SSD):
        def reset_all(self) -> None:
            pass

    Stubborn.reset_all = torch.jit.export(Stubborn.reset_all)
    save_torchscript(Stubborn(detector), tmp_path / "m.ptjit")
    with pytest.raises(AssertionError, match="reset_all does not clear the state"):
        cases.testcase_torch_jit_reset(str(tmp_path / "m.ptjit"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((-1, 2, 30, 40, 0.5, 1), "boxes"),
        ((1, 2, 30, 63, 0.5, 1), "boxes"),
        ((1, 2, 96, 40, 0.5, 1), "boxes"),
        ((1, 2, 30, 40, 1.5, 1), "scores are outside 0..1"),
        ((1, 2, 30, 40, 0.0, 1), "scores are outside 0..1"),
        ((1, 2, 30, 40, 0.5, 3), "labels are outside 1..K"),
        ((1, 2, 30, 40, 0.5, 0), "labels are outside 1..K"),
    ],
)
def test_rows_of_boxes_are_inside_the_frame_with_a_score_and_a_label(row, message):
    check = partial(cases._check_rows, height=64, width=96, num_classes=2)
    check(torch.tensor([(1.0, 2, 95, 62, 1.0, 2)]))
    with pytest.raises(AssertionError, match=message):
        check(torch.tensor([row]))
