from pathlib import Path

import pytest
import torch
from torch import nn

from detector.export.form import PRECISIONS, TORCHSCRIPT, ExportForm, load_torchscript, save_torchscript, script


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([factor]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x


class Unscriptable(nn.Module):
    def forward(self, x):
        return x + len([*locals()])


def form_of(**options):
    return ExportForm("a.bin", ("float32", "half"), lambda *_: {}, lambda *_: None, **options)


@pytest.mark.parametrize(
    ("rounds", "precision", "exact"),
    [(False, "float32", True), (True, "float32", False), (False, "half", False), (True, "bf16", False)],
)
def test_only_float32_without_rounded_parts_is_exact(rounds, precision, exact):
    assert form_of(rounds=rounds).exact(precision) is exact


def test_a_processor_without_the_instructions_is_refused():
    form_of().check_processor("mine", "half")
    lacking = form_of(missing=lambda precision: "AVX" if precision == "half" else "")
    lacking.check_processor("mine", "float32")
    with pytest.raises(
        ValueError,
        match="^form: got 'mine in half', allowed: on a processor with AVX; here another form or precision$",
    ):
        lacking.check_processor("mine", "half")


def test_a_saved_module_computes_the_same_after_loading(tmp_path):
    save_torchscript(Scale(2.5), tmp_path / "a.pt")
    assert load_torchscript(tmp_path / "a.pt")(torch.tensor([2.0, -4.0])).tolist() == [5, -10]
    (parameter,) = load_torchscript(str(tmp_path / "a.pt"), {}, "meta").parameters()
    assert parameter.device.type == "meta"


def test_a_compiled_module_is_not_compiled_again(tmp_path):
    compiled = script(Scale(3.0))
    assert script(compiled) is compiled
    save_torchscript(compiled, tmp_path / "a.pt")
    assert torch.jit.load(tmp_path / "a.pt")(torch.ones(1)).item() == 3


def test_a_module_that_cannot_be_compiled_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="^form: TorchScript does not support this detector .*torch-export") as error:
        save_torchscript(Unscriptable(), tmp_path / "a.pt")
    assert "\n" not in str(error.value) and not (tmp_path / "a.pt").exists()


def test_the_default_form_runs_everywhere_in_every_precision(tmp_path):
    assert TORCHSCRIPT.any_device and TORCHSCRIPT.precisions == tuple(PRECISIONS) == ("float32", "bf16", "half")
    path = tmp_path / TORCHSCRIPT.file
    assert TORCHSCRIPT.write(Scale(2.0), path, 3, 4) == {}
    assert TORCHSCRIPT.load(Path(path), {}, "cpu")(torch.ones(2)).tolist() == [2, 2]
