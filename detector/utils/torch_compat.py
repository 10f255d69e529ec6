"""All uses of private or undocumented functions of torch. For each use, a test fails if torch changes the function."""

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
    """Return whether the processor has AVX-512 instructions for bf16."""
    return torch.cpu._is_avx512_bf16_supported()


def cpu_has_amx() -> bool:
    """Return whether the processor has AMX tiles."""
    return torch.cpu._is_amx_tile_supported()


def cpu_has_bf16_convolutions() -> bool:
    """Return whether oneDNN supports bf16 convolutions on the processor."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def cpu_has_vnni() -> bool:
    """Return whether the processor has AVX-512 VNNI, which sums products of bytes without overflow."""
    return torch.cpu._is_vnni_supported()


def reorder_weight(weight: Tensor, padding: list[int], stride: list[int], input_shape: list[int]) -> Tensor:
    """Convert the weight (cout, cin, h, w) of a convolution to the memory layout of oneDNN. Scriptable.

    The layout is optimized for inputs of about the shape `input_shape`.
    """
    return torch.ops.mkldnn._reorder_convolution_weight(weight, padding, stride, [1, 1], 1, input_shape)


def convolve_reordered(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int], stride: list[int], after: str
) -> Tensor:
    """Convolve with a weight from `reorder_weight`, then apply the activation `after`: "relu" or "none". Scriptable."""
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, padding, stride, [1, 1], 1, after, [], "")


def reorder_byte_weight(
    weight: Tensor, scales: Tensor, input_zero: int, padding: list[int], stride: list[int], input_shape: list[int]
) -> Tensor:
    """Convert the int8 weight (cout, cin, h, w) of a convolution to the memory layout of oneDNN. Scriptable.

    Args:
        weight: the int8 weight.
        scales: (cout,) scale of each output channel.
        input_zero: byte value that represents 0 in the inputs.
        padding: padding of the convolution.
        stride: stride of the convolution.
        input_shape: approximate shape of the inputs.
    """
    return torch.ops.onednn.qconv_prepack(weight, scales, 1.0, input_zero, stride, padding, [1, 1], 1, input_shape)


def convolve_bytes(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zero_points: Tensor,
    input_zero: int,
    padding: list[int],
    stride: list[int],
) -> Tensor:
    """Convolve uint8 inputs with a weight from `reorder_byte_weight`, and return float32 outputs. Scriptable.

    Args:
        x: (N, cin, H, W) uint8 inputs.
        weight: the reordered weight.
        scales: (cout,) scale of each output channel.
        zero_points: (cout,) int32 zero points of the weight, all 0.
        input_zero: byte value that represents 0 in the inputs.
        padding: padding of the convolution.
        stride: stride of the convolution.
    """
    return torch.ops.onednn.qconv2d_pointwise(
        x,
        1.0,
        input_zero,
        weight,
        scales,
        zero_points,
        None,
        stride,
        padding,
        [1, 1],
        1,
        1.0,
        0,
        torch.float32,
        "none",
        [],
        "",
    )


@contextmanager
def ignoring_torchscript_deprecation() -> Iterator[None]:
    """Run a block in which deprecation warnings of `torch.jit` are ignored."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.* is deprecated.*")
        yield


def save_program(program: Any, path: Path) -> None:
    """Write a `torch.export` program to a file.

    Ignores a warning about channels_last weights, because the weights have this memory format on purpose.
    """
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
    """Load a file that `compile_package` wrote, and return the compiled program as a callable."""
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))
