"""ONNX files of one time step."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.export.backends.stateless import StepRunner
from detector.export.backends.torch_export import trace
from detector.export.form import ExportForm

__all__ = ["ONNX", "ONNX_PACKAGES"]

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""Packages that are needed to write ONNX files, and to run the files for a check."""


def _write(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    """Write one time step of a detector to an ONNX file.

    The arguments are those of `ExportForm.write`. The result contains the shapes of the recurrent state.

    Raises:
        ValueError: a required package is not installed.
    """
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(f"form: onnx needs {', '.join(missing)}, allowed: pip install {' '.join(missing)}")
    program, found = trace(ssd, height, width)
    states = range(len(found["state_shapes"]))
    torch.onnx.export(
        program,
        (),
        str(path),
        input_names=["frame", *(f"state_{i}" for i in states)],
        output_names=["boxes", "scores", *(f"next_state_{i}" for i in states)],
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return found


def _load(path: Path, info: Mapping[str, Any], device: str) -> StepRunner:
    """Load an ONNX file for ONNX Runtime on the CPU. The arguments and the result are those of `ExportForm.load`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        values = dict(zip(names, (each.numpy() for each in (x, *state)), strict=True))
        boxes, scores, *after = (torch.from_numpy(each) for each in session.run(None, values))
        return boxes, scores, after

    return StepRunner(step, info)


ONNX = ExportForm("model.onnx", ("float32",), _write, _load)
"""One time step of one stream. Writing needs the packages in `ONNX_PACKAGES`."""
