"""What a kind of exported file is, and the plain one: TorchScript."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
]

INFO_NAME = "info_ssd_jit.json"
"""The file beside an exported model that says how to feed it."""

METHODS = ("detect", "forward_network_without_box_decoding", "reset", "reset_all")
"""What an exported model offers beside `forward`."""

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "half": torch.float16}
"""Precisions of an exported network. Frames come in any of them, and boxes are float32, whatever it is."""


@dataclass(frozen=True)
class ExportForm:
    """A kind of file that a trained detector can be exported to.

    Args:
        name: what `evforge export --form` calls it
        file: name of the file
        precisions: keys of `PRECISIONS` that it takes
        write: writes a detector, for frames of a height and width; gives what else `info_ssd_jit.json` should say
        load: opens such a file, with the content of `info_ssd_jit.json`, as an object with `forward` and, of
            `METHODS`, at least `detect`, `reset` and `reset_all`
        rounds: whether it computes with fewer bits than its precision has
    """

    name: str
    file: str
    precisions: tuple[str, ...]
    write: Callable[[nn.Module, Path, int, int], Mapping[str, Any]]
    load: Callable[[Path, Mapping[str, Any]], Any]
    rounds: bool = False

    def exact(self, precision: str) -> bool:
        """Whether a file of this precision answers as the detector does but for the order of sums."""
        return precision == "float32" and not self.rounds


def save_torchscript(ssd: nn.Module, path: Path) -> None:
    """Script a module, or take a scripted one, and write it."""
    with ignoring_torchscript_deprecation():
        torch.jit.script(ssd).save(str(path))


def load_torchscript(path: str | Path, device: str | torch.device = "cpu") -> torch.jit.ScriptModule:
    """Open an exported TorchScript file."""
    with ignoring_torchscript_deprecation():
        return torch.jit.load(str(path), map_location=device)


def _write_torchscript(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    save_torchscript(ssd, path)
    return {}


TORCHSCRIPT = ExportForm(
    "torchscript", "model.ptjit", tuple(PRECISIONS), _write_torchscript, lambda path, info: load_torchscript(path)
)
"""The plain form: weights that `to(device)` and `half()` still move, any T, B, H and W."""

MODEL_NAME = TORCHSCRIPT.file
"""File of the forms that are TorchScript."""
