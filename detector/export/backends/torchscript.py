"""Faster TorchScript files: with a frozen graph, with weights in the layout of oneDNN, with recurrent cells in int8."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detector.export.backends.cpu_layers import fold_batch_norms, pack_convolutions, quantize_levels
from detector.export.form import (
    METHODS,
    MODEL_NAME,
    PRECISIONS,
    ExportForm,
    load_torchscript,
    save_torchscript,
    script,
)
from detector.export.ssd import SSD
from detector.utils.torch_compat import cpu_has_bf16_convolutions, cpu_has_vnni, ignoring_torchscript_deprecation

__all__ = ["FROZEN", "PACKED", "QUANTIZED"]


def _write_frozen(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    """Write a TorchScript file in which the weights are constants of the graph (`torch.jit.freeze`).

    The arguments and the result are those of `ExportForm.write`.
    """
    scripted = script(copy.deepcopy(ssd).to(memory_format=torch.channels_last))
    with ignoring_torchscript_deprecation():
        save_torchscript(torch.jit.freeze(scripted, [*METHODS, "in_channels"]), path)
    return {}


def _write_packed(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    """Write a TorchScript file for CPUs whose convolutions reorder their weights for oneDNN once (`PackedConv`).

    Convolutions with groups or dilation are not changed. The arguments and the result are those of `ExportForm.write`.
    """
    packed = copy.deepcopy(ssd)
    fold_batch_norms(packed)
    pack_convolutions(packed.to(memory_format=torch.channels_last))
    save_torchscript(packed, path)
    return {}


def _write_quantized(ssd: nn.Module, path: Path, height: int, width: int) -> dict[str, Any]:
    """Write a TorchScript file for CPUs with int8 weights in the recurrent cells.

    The other convolutions are changed as in `_write_packed`. The arguments and the result are those of
    `ExportForm.write`.
    """
    quantized = copy.deepcopy(ssd)
    assert isinstance(quantized, SSD)
    quantize_levels(quantized.feature_extractor)
    return _write_packed(quantized, path, height, width)


def _missing(precision: str) -> str:
    return "" if precision != "bf16" or cpu_has_bf16_convolutions() else "bf16 instructions (AVX-512 BF16, AMX)"


def _missing_bytes(precision: str) -> str:
    return _missing(precision) if cpu_has_vnni() else "AVX-512 VNNI"


FROZEN = ExportForm(MODEL_NAME, tuple(PRECISIONS), _write_frozen, load_torchscript, any_device=True)
"""The weights are constants of the optimised graph. `half()` is not supported, and the device is set at loading."""

PACKED = ExportForm(MODEL_NAME, ("float32", "bf16"), _write_packed, load_torchscript, missing=_missing)
"""The weights are reordered for oneDNN in the first call."""

QUANTIZED = ExportForm(
    MODEL_NAME, ("float32", "bf16"), _write_quantized, load_torchscript, rounds=True, missing=_missing_bytes
)
"""Like `PACKED`, with the convolutions of the recurrent levels in int8. The fastest form on x86 with AVX-512 VNNI."""
