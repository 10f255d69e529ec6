"""TorchScript files beside the plain one: frozen, packed for CPUs, and with recurrent levels in bytes."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detector.export.backends.cpu_layers import fold_batch_norms, pack_convolutions, quantize_levels
from detector.export.form import METHODS, save_torchscript
from detector.export.ssd import SSD
from detector.utils.torch_compat import ignoring_torchscript_deprecation

__all__ = ["write_frozen", "write_packed", "write_quantized"]


def write_frozen(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    """Write with weights as constants of the graph; arguments as those of `ExportForm.write`."""
    with ignoring_torchscript_deprecation():
        scripted = torch.jit.script(copy.deepcopy(ssd).to(memory_format=torch.channels_last))
        save_torchscript(torch.jit.freeze(scripted, [*METHODS, "in_channels"]), path)
    return {}


def write_packed(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    """Write with every convolution as a `PackedConv`; arguments as those of `ExportForm.write`."""
    packed = copy.deepcopy(ssd)
    fold_batch_norms(packed)
    pack_convolutions(packed.to(memory_format=torch.channels_last))
    save_torchscript(packed, path)
    return {}


def write_quantized(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    """Write with the recurrent levels in bytes and the rest packed; arguments as those of `ExportForm.write`."""
    quantized = copy.deepcopy(ssd)
    assert isinstance(quantized, SSD)
    quantize_levels(quantized.feature_extractor.levels)
    return write_packed(quantized, path, height, width)
