"""Compiling takes ten seconds and more, so the compiler is replaced; `test_write` runs the form of the same graph."""

import pytest
import torch

from detector.export.backends import aotinductor
from detector.export.backends.aotinductor import AOTINDUCTOR
from detector.utils.torch_compat import NoCompilerError


@pytest.fixture
def compiled(monkeypatch):
    """The programs that were compiled, and their paths."""
    found = []
    monkeypatch.setattr(aotinductor, "trace", lambda ssd, *size: (f"{ssd} of {size}", {"state_shapes": [[1, 2]]}))
    monkeypatch.setattr(aotinductor, "compile_package", lambda *arguments: found.append(arguments))
    return found


def test_the_traced_step_is_compiled_and_the_shapes_of_its_state_are_returned(compiled, tmp_path):
    path = tmp_path / AOTINDUCTOR.file
    assert AOTINDUCTOR.write("ssd", path, 48, 64) == {"state_shapes": [[1, 2]]}
    assert compiled == [("ssd of (48, 64)", path)] and path.name == "model.pt2"


def test_a_machine_without_a_compiler_is_told_what_to_install(compiled, tmp_path, monkeypatch):
    def fail(*_):
        raise NoCompilerError

    monkeypatch.setattr(aotinductor, "compile_package", fail)
    with pytest.raises(ValueError, match=r"^form: aotinductor needs a C\+\+ compiler, allowed: install g\+\+, or"):
        AOTINDUCTOR.write("ssd", tmp_path / "a.pt2", 48, 64)


def test_a_loaded_file_runs_step_by_step_with_a_state_for_each_stream(tmp_path, monkeypatch):
    def step(frame, state):
        total = state[0] + frame.sum()
        return torch.tensor([[[1.0, 2, 3, 4]]]), total.reshape(1, 1, 1) / 10, [total]

    monkeypatch.setattr(aotinductor, "load_package", {tmp_path / "a.pt2": step}.__getitem__)
    info = {"in_channels": 1, "height": 1, "width": 1, "state_shapes": [[1]]}
    model = AOTINDUCTOR.load(tmp_path / "a.pt2", info, "cpu")
    steps = model(torch.tensor([1.0, 4, 2, 5]).reshape(2, 2, 1, 1, 1), 0.0)
    assert [[rows[0, 4].item() for rows in streams] for streams in steps] == [
        pytest.approx([0.1, 0.4]),
        pytest.approx([0.3, 0.9]),
    ]


def test_half_precision_is_not_offered():
    assert AOTINDUCTOR.precisions == ("float32", "bf16") and not AOTINDUCTOR.any_device
