"""AOTInductor files: machine code of one time step, for the type of processor on which the file is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from detector.export.backends.stateless import StepRunner
from detector.export.backends.torch_export import trace
from detector.export.form import ExportForm
from detector.utils.torch_compat import NoCompilerError, compile_package, load_package

__all__ = ["AOTINDUCTOR"]


def _write(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    """Compile one time step of a detector with AOTInductor, and write it to a file.

    The arguments are those of `ExportForm.write`. The result contains the shapes of the recurrent state.

    Raises:
        ValueError: no C++ compiler is installed.
    """
    program, found = trace(ssd, height, width)
    try:
        compile_package(program, path)
    except NoCompilerError:
        raise ValueError("form: aotinductor needs a C++ compiler, allowed: install g++, or another form") from None
    return found


def _load(path: Path, info: Mapping[str, Any], device: str) -> StepRunner:
    """Load an AOTInductor file. The arguments and the result are those of `ExportForm.load`."""
    return StepRunner(load_package(path), info)


AOTINDUCTOR = ExportForm("model.pt2", ("float32", "bf16"), _write, _load)
"""Machine code of one time step of one stream. Writing needs a C++ compiler."""
