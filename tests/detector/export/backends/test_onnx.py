"""ONNX is an optional package, so its exporter and its runtime are replaced."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_detector import PARAMS, small_ssd

from detector.export.backends import onnx
from detector.export.backends.onnx import ONNX, ONNX_PACKAGES
from detector.jitting import export_ssd


def test_missing_packages_are_named_with_the_command_that_installs_them(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"form: onnx needs .*allowed: pip install {' '.join(ONNX_PACKAGES)}"):
        export_ssd(small_ssd(), PARAMS, tmp_path, 0.5, 0.3, form="onnx")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ValueError, match="^form: onnx needs onnxscript, allowed: pip install onnxscript$"):
        ONNX.write(None, tmp_path / "a.onnx", 48, 64)


def test_inputs_and_outputs_of_a_written_file_have_names(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(onnx, "find_spec", lambda name: name)
    monkeypatch.setattr(onnx, "trace", lambda ssd, *size: ((ssd, *size), {"state_shapes": [[1], [2, 3]]}))
    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **options: written.append((arguments, options)))
    assert ONNX.write("ssd", tmp_path / ONNX.file, 48, 64) == {"state_shapes": [[1], [2, 3]]}
    ((arguments, options),) = written
    assert arguments == (("ssd", 48, 64), (), str(tmp_path / "model.onnx"))
    assert options["input_names"] == ["frame", "state_0", "state_1"]
    assert options["output_names"] == ["boxes", "scores", "next_state_0", "next_state_1"]
    assert options["external_data"] is False


class Session:
    """A session of ONNX Runtime whose score is the sum of all frames; its inputs have any names."""

    def __init__(self, path, providers):
        assert providers == ["CPUExecutionProvider"]
        self.path = path

    def get_inputs(self):
        return [SimpleNamespace(name=name) for name in ("f", "s")]

    def run(self, names, values):
        assert names is None and values["f"].dtype == np.float32 and values["f"].shape == (1, 1, 1, 2)
        total = values["s"] + values["f"].sum()
        return np.array([[[1, 2, 3, 4]]], np.float32), total.reshape(1, 1, 1), total


def test_a_loaded_file_runs_step_by_step_with_a_state_for_each_stream(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    info = {"in_channels": 1, "height": 1, "width": 2, "state_shapes": [[1]]}
    model = ONNX.load(tmp_path / "a.onnx", info, "cpu")
    steps = model(torch.tensor([0.1, 0.2, 0, 0.4, 0.05, 0.05, 0.1, 0]).reshape(2, 2, 1, 1, 2), 0.0)
    # Rows of step, stream and column: 0.3 and 0.4, then 0.1 and 0.1 more.
    assert [[rows[0, 4].item() for rows in streams] for streams in steps] == [
        pytest.approx([0.3, 0.4]),
        pytest.approx([0.4, 0.5]),
    ]
    assert ONNX.precisions == ("float32",) and not ONNX.any_device
