"""`ExportForm`: a kind of exported file, with the functions that write and load it. `TORCHSCRIPT` is the default."""

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
    """A kind of file to which a trained detector can be exported, such as TorchScript or ONNX.

    Args:
        file: name of the model file
        precisions: supported precisions, which are keys of `PRECISIONS`
        write: function `f(ssd, path, height, width)` that writes the detector `ssd` (a `detector.export.ssd.SSD`) to
            `path`, for frames of this size. The function returns a dict of additional entries for
            `info_ssd_jit.json`. It raises a ValueError if the detector cannot be written to this kind of file
        load: function `f(path, info, device)` that loads such a file; `info` is the content of `info_ssd_jit.json`. The
            function returns an object with the methods `forward`, `detect`, `reset` and `reset_all` of `SSD`
        rounds: whether parts of the network compute with fewer bits than the selected precision, such as int8
        any_device: True if files run on CPUs and GPUs, False if they run only on CPUs
        missing: function `f(precision)` that returns a text with the processor instructions that the file needs and
            this processor lacks; "" if none is lacking
    """

    file: str
    precisions: tuple[str, ...]
    write: Callable[[nn.Module, Path, int, int], Mapping[str, Any]]
    load: Callable[[Path, Mapping[str, Any], str], Any]
    rounds: bool = False
    any_device: bool = False
    missing: Callable[[str], str] = lambda precision: ""

    def exact(self, precision: str) -> bool:
        """Return whether everything is computed in float32, so that results differ only by the rounding of sums."""
        return precision == "float32" and not self.rounds

    def check_processor(self, name: str, precision: str) -> None:
        """Raise a ValueError if this processor cannot run files of this kind.

        Args:
            name: name of the kind of file (key of `EXPORT_FORMS`), for the error message.
            precision: key of `PRECISIONS`.
        """
        missing = self.missing(precision)
        allowed = f"on a processor with {missing}; here another form or precision"
        require(not missing, "form", f"{name} in {precision}", allowed)


def script(ssd: nn.Module) -> torch.jit.ScriptModule:
    """Compile a module with `torch.jit.script`. A module that is already compiled is returned unchanged.

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
    """Compile a module with `torch.jit.script`, if it is not compiled yet, and write it to a file.

    Raises:
        ValueError: a part of the module, such as the backbone, cannot be scripted.
    """
    script(ssd).save(str(path))


def load_torchscript(
    path: str | Path, info: Mapping[str, Any] | None = None, device: str | torch.device = "cpu"
) -> torch.jit.ScriptModule:
    """Load a TorchScript file to a device. `info` is not used; it is part of the signature of `ExportForm.load`."""
    with ignoring_torchscript_deprecation():
        return torch.jit.load(str(path), map_location=device)


def _write(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    save_torchscript(ssd, path)
    return {}


TORCHSCRIPT = ExportForm(MODEL_NAME, tuple(PRECISIONS), _write, load_torchscript, any_device=True)
"""The default: plain TorchScript. Its files support `to(device)`, `half()` and any T, B, H and W of the frames."""
