"""Description of a form of exported files, and the plain form: TorchScript."""

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
    "save_torchscript",
    "script",
]

INFO_NAME = "info_ssd_jit.json"
"""File beside an exported model that describes its inputs and outputs."""

MODEL_NAME = "model.ptjit"
"""File name of TorchScript forms."""

METHODS = ("detect", "forward_network_without_box_decoding", "reset", "reset_all")
"""Methods of an exported TorchScript model in addition to `forward`."""

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "half": torch.float16}
"""Precisions of an exported network. In every precision, frames of all types are accepted and boxes are float32."""


@dataclass(frozen=True)
class ExportForm:
    """A form of file to which a trained detector can be exported.

    Args:
        file: name of the file
        precisions: supported keys of `PRECISIONS`
        write: `f(ssd, path, height, width)` writes a `detector.export.ssd.SSD` for frames of a height and width, and
            returns further entries of `info_ssd_jit.json`; raises a ValueError for a detector that it does not support
        load: `f(path, info, device)` loads such a file, with the content of `info_ssd_jit.json`, as an object with the
            methods `forward`, `detect`, `reset` and `reset_all` of `SSD`
        rounds: whether it computes with fewer bits than its precision
        any_device: whether it also runs on GPUs; other forms only run on CPUs
        missing: `f(precision)` names the instructions that this processor lacks; "" if it can run the file
    """

    file: str
    precisions: tuple[str, ...]
    write: Callable[[nn.Module, Path, int, int], Mapping[str, Any]]
    load: Callable[[Path, Mapping[str, Any], str], Any]
    rounds: bool = False
    any_device: bool = False
    missing: Callable[[str], str] = lambda precision: ""

    def exact(self, precision: str) -> bool:
        """Whether the results of a file are those of the detector, apart from the order of sums."""
        return precision == "float32" and not self.rounds

    def check_processor(self, name: str, precision: str) -> None:
        """Raise a ValueError if this processor cannot run files of this form, which has the given name."""
        missing = self.missing(precision)
        allowed = f"on a processor with {missing}; here another form or precision"
        require(not missing, "form", f"{name} in {precision}", allowed)


def script(ssd: nn.Module) -> torch.jit.ScriptModule:
    """Script a module, unless it is scripted already.

    Raises:
        ValueError: a part of it, such as its backbone, cannot be scripted.
    """
    with ignoring_torchscript_deprecation():
        try:
            return torch.jit.script(ssd)
        except Exception as error:  # TorchScript raises errors of many types
            reason = " ".join(str(error).split())[:300]
            allowed = "a detector whose parts can be scripted, or the forms torch-export, aotinductor, onnx"
            raise ValueError(
                f"form: TorchScript does not support this detector ({reason}), allowed: {allowed}"
            ) from error


def save_torchscript(ssd: nn.Module, path: Path) -> None:
    """Script a module, unless it is scripted already, and write it; errors as in `script`."""
    script(ssd).save(str(path))


def load_torchscript(
    path: str | Path, info: Mapping[str, Any] | None = None, device: str | torch.device = "cpu"
) -> torch.jit.ScriptModule:
    """`ExportForm.load` of TorchScript files; `info` is not used."""
    with ignoring_torchscript_deprecation():
        return torch.jit.load(str(path), map_location=device)


def _write(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    save_torchscript(ssd, path)
    return {}


TORCHSCRIPT = ExportForm(MODEL_NAME, tuple(PRECISIONS), _write, load_torchscript, any_device=True)
"""The plain form: supports `to(device)`, `half()` and any T, B, H and W."""
