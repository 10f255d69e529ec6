"""`torch.export` files: a graph of one time step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detector.export.backends.stateless import StepModule, StepRunner
from detector.export.form import PRECISIONS, ExportForm
from detector.export.ssd import SSD
from detector.utils.torch_compat import save_program

__all__ = ["TORCH_EXPORT", "trace"]


def trace(ssd: nn.Module, height: int, width: int) -> tuple[Any, dict[str, Any]]:
    """Convert one time step of a detector to a `torch.export` program.

    Args:
        ssd: the detector, a `detector.export.ssd.SSD`.
        height: height of the frames.
        width: width of the frames.

    Returns:
        The program, and a dict with the entry `state_shapes` of `info_ssd_jit.json`: the shapes of the state tensors.

    Raises:
        ValueError: torch.export does not support the detector.
    """
    assert isinstance(ssd, SSD)
    step = StepModule(ssd, height, width).eval().to(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            program = torch.export.export(step, step.example)
    except Exception as error:  # tracing raises errors of many types
        reason = " ".join(str(error).split())[:300]
        allowed = "a detector whose parts torch.export can trace, or the form torchscript"
        raise ValueError(f"form: torch.export does not support this detector ({reason}), allowed: {allowed}") from error
    return program, {"state_shapes": [list(s.shape) for s in step.example[1]]}


def _write(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    """Write one time step of a detector to a file for `torch.export.load`.

    The arguments are those of `ExportForm.write`. The result contains the shapes of the recurrent state.
    """
    program, found = trace(ssd, height, width)
    save_program(program, path)
    return found


def _load(path: Path, info: Mapping[str, Any], device: str) -> StepRunner:
    """Load a file with `torch.export.load`. The arguments and the result are those of `ExportForm.load`."""
    return StepRunner(torch.export.load(path).module(), info)


TORCH_EXPORT = ExportForm("model.pt2", tuple(PRECISIONS), _write, _load)
"""A graph of one time step of one stream, for `torch.export.load` and other tools that read such graphs."""
