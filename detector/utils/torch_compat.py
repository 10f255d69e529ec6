"""All uses of private or undocumented parts of torch. Each has a test that fails if torch changes it."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "NoCompilerError",
    "compile_package",
    "convolve_bytes",
    "convolve_reordered",
    "cpu_has_amx",
    "cpu_has_avx512_bf16",
    "cpu_has_bf16_convolutions",
    "cpu_has_vnni",
    "ignoring_torchscript_deprecation",
    "load_package",
    "reorder_byte_weight",
    "reorder_weight",
    "save_program",
]


class NoCompilerError(RuntimeError):
    """No C++ compiler was found."""


def cpu_has_avx512_bf16() -> bool:
    """Whether the processor has AVX-512 instructions for bf16."""
    return torch.cpu._is_avx512_bf16_supported()


def cpu_has_amx() -> bool:
    """Whether the processor has AMX tiles."""
    return torch.cpu._is_amx_tile_supported()


def cpu_has_bf16_convolutions() -> bool:
    """Whether oneDNN has convolutions in bf16 for the processor."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def cpu_has_vnni() -> bool:
    """Whether the processor sums products of bytes without overflow (AVX-512 VNNI)."""
    return torch.cpu._is_vnni_supported()


def reorder_weight(weight: Tensor, padding: list[int], stride: list[int], input_shape: list[int]) -> Tensor:
    """Weights of a convolution (cout, cin, h, w) in the layout of oneDNN, for about this input shape. Scriptable."""
    return torch.ops.mkldnn._reorder_convolution_weight(weight, padding, stride, [1, 1], 1, input_shape)


def convolve_reordered(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int], stride: list[int], after: str
) -> Tensor:
    """Convolution with weights of `reorder_weight`, then "relu" or "none". Scriptable."""
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, padding, stride, [1, 1], 1, after, [], "")


def reorder_byte_weight(
    weight: Tensor, scales: Tensor, zero: int, padding: list[int], stride: list[int], input_shape: list[int]
) -> Tensor:
    """int8 weights (cout, cin, h, w) in the layout of oneDNN. Scriptable.

    Args:
        weight: the weights.
        scales: (cout,) scale of each output channel.
        zero: byte value that represents 0 in the inputs.
        padding: padding of the convolution.
        stride: stride of the convolution.
        input_shape: approximate shape of the inputs.
    """
    return torch.ops.onednn.qconv_prepack(weight, scales, 1.0, zero, stride, padding, [1, 1], 1, input_shape)


def convolve_bytes(
    x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor, zero: int, padding: list[int], stride: list[int]
) -> Tensor:
    """Convolution of uint8 inputs with weights of `reorder_byte_weight`, as float32. Scriptable.

    Args:
        x: (N, cin, H, W) bytes.
        weight: the reordered weights.
        scales: (cout,) scale of each output channel.
        zeros: (cout,) int32 zeros.
        zero: byte value that represents 0 in the inputs.
        padding: padding of the convolution.
        stride: stride of the convolution.
    """
    return torch.ops.onednn.qconv2d_pointwise(
        x, 1.0, zero, weight, scales, zeros, None, stride, padding, [1, 1], 1, 1.0, 0, torch.float32, "none", [], ""
    )


@contextmanager
def ignoring_torchscript_deprecation() -> Iterator[None]:
    """Ignore the deprecation warning of `torch.jit`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.* is deprecated.*")
        yield


def save_program(program: Any, path: Path) -> None:
    """Write a `torch.export` program; ignores the warning about weights that are channels_last on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found")
        torch.export.save(program, path)


def compile_package(program: Any, path: Path) -> None:
    """Compile a `torch.export` program with AOTInductor.

    Args:
        program: the program.
        path: file to write, ending in .pt2.

    Raises:
        NoCompilerError: no C++ compiler was found.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    try:
        aoti_compile_and_package(program, package_path=str(path), inductor_configs={"freezing": True})
    except (InductorError, InvalidCxxCompiler) as error:
        if isinstance(getattr(error, "inner_exception", error), InvalidCxxCompiler):
            raise NoCompilerError(str(error)) from None
        raise


def load_package(path: Path) -> Callable[..., Any]:
    """Load a file of `compile_package`."""
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))
