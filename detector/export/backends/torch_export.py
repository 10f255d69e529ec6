"""`torch.export` files: a graph of one time step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detector.export.backends.stateless import StepModule, StepRunner
from detector.export.ssd import SSD
from detector.utils.torch_compat import save_program

__all__ = ["load_program", "trace", "write_program"]


def trace(ssd: nn.Module, height: int, width: int) -> tuple[Any, dict[str, Any]]:
    """The exported program of a time step, and what its callers must know."""
    assert isinstance(ssd, SSD)
    step = StepModule(ssd, height, width).eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        program = torch.export.export(step, step.example)
    return program, {"state_shapes": [list(s.shape) for s in step.example[1]]}


def write_program(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    """Write a file for `torch.export.load`; arguments as those of `ExportForm.write`."""
    program, found = trace(ssd, height, width)
    save_program(program, path)
    return found


def load_program(path: Path, info: Mapping[str, Any]) -> StepRunner:
    """Open such a file."""
    return StepRunner(torch.export.load(path).module(), info)
