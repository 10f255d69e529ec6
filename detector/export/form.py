"""What a form of exported file is, and the plain one: TorchScript."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detector.config.checks import require
from detector.utils.torch_compat import ignoring_torchscript_deprecation

__all__ = [
    "INFO_NAME",
    "METHODS",
    "MODEL_NAME",
    "PRECISIONS",
    "TORCHSCRIPT",
    "ExportForm",
    "load_torchscript",
    "open_torchscript",
    "save_torchscript",
]

INFO_NAME = "info_ssd_jit.json"
"""The file beside an exported model that states how to feed it."""

MODEL_NAME = "model.ptjit"
"""File of the forms that are TorchScript."""

METHODS = ("detect", "forward_network_without_box_decoding", "reset", "reset_all")
"""Methods of an exported TorchScript model beside `forward`."""

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "half": torch.float16}
"""Precisions of an exported network. Frames are accepted in any of them, and boxes are float32, in every precision."""


@dataclass(frozen=True)
class ExportForm:
    """A kind of file that a trained detector can be exported to.

    Args:
        file: name of the file
        precisions: keys of `PRECISIONS` that it takes
        write: `f(ssd, path, height, width)` writes a `detector.export.ssd.SSD` for frames of a height and width, and
            returns further entries of `info_ssd_jit.json`; ValueError where it cannot hold the detector
        load: `f(path, info, device)` opens such a file, with the content of `info_ssd_jit.json`, as an object with the
            methods `forward`, `detect`, `reset` and `reset_all` of `SSD`
        rounds: whether it computes with fewer bits than its precision has
        any_device: whether it also runs on GPUs; the others are made for CPUs
        missing: instructions for a precision that this processor lacks, as text; empty if it can run the file
    """

    file: str
    precisions: tuple[str, ...]
    write: Callable[[nn.Module, Path, int, int], Mapping[str, Any]]
    load: Callable[[Path, Mapping[str, Any], str], Any]
    rounds: bool = False
    any_device: bool = False
    missing: Callable[[str], str] = lambda precision: ""

    def exact(self, precision: str) -> bool:
        """Whether a file of this precision answers as the detector does, apart from the order of sums."""
        return precision == "float32" and not self.rounds

    def check_processor(self, name: str, precision: str) -> None:
        """Raise a ValueError if this processor cannot run files of the form, which goes by this name."""
        missing = self.missing(precision)
        allowed = f"on a processor with {missing}; here another form or precision"
        require(not missing, "form", f"{name} in {precision}", allowed)


def save_torchscript(ssd: nn.Module, path: Path) -> None:
    """Script a module, or take a scripted one, and write it.

    Raises:
        ValueError: a part of it, such as its backbone, cannot be scripted.
    """
    with ignoring_torchscript_deprecation():
        try:
            scripted = torch.jit.script(ssd)
        except Exception as error:  # TorchScript raises errors of many types
            reason = " ".join(str(error).split())[:300]
            allowed = "a detector whose parts can be scripted, or the forms torch-export, aotinductor, onnx"
            raise ValueError(f"form: TorchScript cannot hold this detector ({reason}), allowed: {allowed}") from error
        scripted.save(str(path))


def load_torchscript(path: str | Path, device: str | torch.device = "cpu") -> torch.jit.ScriptModule:
    """Open an exported TorchScript file."""
    with ignoring_torchscript_deprecation():
        return torch.jit.load(str(path), map_location=device)


def open_torchscript(path: Path, info: Mapping[str, Any], device: str) -> torch.jit.ScriptModule:
    """`ExportForm.load` of the forms that are TorchScript."""
    return load_torchscript(path, device)


def _write(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    save_torchscript(ssd, path)
    return {}


TORCHSCRIPT = ExportForm(MODEL_NAME, tuple(PRECISIONS), _write, open_torchscript, any_device=True)
"""The plain form: weights that `to(device)` and `half()` still move, any T, B, H and W."""
