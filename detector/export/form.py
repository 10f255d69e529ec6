"""`ExportForm`, the description of a form of exported files, and `TORCHSCRIPT`, the plain form."""

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
"""Name of the file that describes the inputs and outputs of an exported model in the same folder."""

MODEL_NAME = "model.ptjit"
"""Name of the model file in all TorchScript forms."""

METHODS = ("detect", "forward_network_without_box_decoding", "reset", "reset_all")
"""Methods of an exported TorchScript model in addition to `forward`."""

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "half": torch.float16}
"""Precisions of an exported network. In all of them, frames may have any floating point type, and boxes are float32."""


@dataclass(frozen=True)
class ExportForm:
    """A form of file to which a trained detector can be exported.

    Args:
        file: name of the model file
        precisions: keys of `PRECISIONS` that the form supports
        write: function `f(ssd, path, height, width)` that writes a `detector.export.ssd.SSD` for frames of this size
            to `path`. It returns additional entries for `info_ssd_jit.json`, and raises a ValueError if the form does
            not support the detector
        load: function `f(path, info, device)` that loads such a file; `info` is the content of `info_ssd_jit.json`. It
            returns an object with the methods `forward`, `detect`, `reset` and `reset_all` of `SSD`
        rounds: whether files compute with fewer bits than their precision has
        any_device: whether files run on CPUs and GPUs; otherwise only on CPUs
        missing: function `f(precision)` that returns the names of the required instructions that this processor lacks;
            "" if it lacks no instructions
    """

    file: str
    precisions: tuple[str, ...]
    write: Callable[[nn.Module, Path, int, int], Mapping[str, Any]]
    load: Callable[[Path, Mapping[str, Any], str], Any]
    rounds: bool = False
    any_device: bool = False
    missing: Callable[[str], str] = lambda precision: ""

    def exact(self, precision: str) -> bool:
        """Return whether files give the same results as the detector, except for the rounding of sums."""
        return precision == "float32" and not self.rounds

    def check_processor(self, name: str, precision: str) -> None:
        """Raise a ValueError if this processor cannot run files of this form.

        Args:
            name: name of the form, for the error message.
            precision: key of `PRECISIONS`.
        """
        missing = self.missing(precision)
        allowed = f"on a processor with {missing}; here another form or precision"
        require(not missing, "form", f"{name} in {precision}", allowed)


def script(ssd: nn.Module) -> torch.jit.ScriptModule:
    """Script a module, unless it is scripted already.

    Raises:
        ValueError: a part of the module, such as the backbone, cannot be scripted.
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
    """Script a module, unless it is scripted already, and write it to a file. Errors are the same as in `script`."""
    script(ssd).save(str(path))


def load_torchscript(
    path: str | Path, info: Mapping[str, Any] | None = None, device: str | torch.device = "cpu"
) -> torch.jit.ScriptModule:
    """Load a TorchScript file; `ExportForm.load` of the TorchScript forms. `info` is not used."""
    with ignoring_torchscript_deprecation():
        return torch.jit.load(str(path), map_location=device)


def _write(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    save_torchscript(ssd, path)
    return {}


TORCHSCRIPT = ExportForm(MODEL_NAME, tuple(PRECISIONS), _write, load_torchscript, any_device=True)
"""The plain form. Its files support `to(device)`, `half()` and any T, B, H and W of the frames."""
