"""Faster convolutions for exported files on CPUs: merged batch norms, weights in the layout of oneDNN, int8 weights."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detector.config.checks import require
from detector.layers.recurrent import ConvRNN
from detector.utils.torch_compat import convolve_bytes, convolve_reordered, reorder_byte_weight, reorder_weight

__all__ = ["ByteConv", "PackedConv", "fold_batch_norms", "pack_convolutions", "quantize_levels"]


def fold_batch_norms(module: nn.Module) -> None:
    """Merge every batch norm in evaluation mode with the preceding convolution, in place.

    Call this before weights are rounded: batch norms in low precision have large errors.
    """
    for block, index, conv, norm in _followed_convs(module, nn.BatchNorm2d):
        block[index] = fuse_conv_bn_eval(conv, norm)
        del block[index + 1]


def _followed_convs(module: nn.Module, after: type[nn.Module]) -> Iterator[tuple[nn.Sequential, int, nn.Conv2d, Any]]:
    """Find convolutions that are followed by a layer of type `after`, in reverse order within each `nn.Sequential`.

    Yields:
        The `nn.Sequential`, the index of the convolution in it, the convolution, and the layer that follows.
    """
    for block in [each for each in module.modules() if isinstance(each, nn.Sequential)]:
        for index in reversed(range(len(block) - 1)):
            conv, layer = block[index], block[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(layer, after):
                yield block, index, conv, layer


class PackedConv(nn.Module):
    """A convolution on the CPU that reorders its weights for oneDNN in the first call instead of in each call.

    If feature maps are small, reordering 20 M weights would take most of the time of a call. The memory layout is
    optimised for the size of the first input, but can be used for all sizes.

    Args:
        conv: the convolution. Groups and dilation are not supported.
        relu: whether to apply a ReLU to the output.
    """

    packed: list[Tensor]

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        self.after = "relu" if relu else "none"
        self.weight = conv.weight
        self.bias = conv.bias
        self.stride: list[int] = list(conv.stride)
        self.padding: list[int] = [int(side) for side in conv.padding]
        self.packed = torch.jit.annotate(list[Tensor], [])  # computed in the first call, because it cannot be saved

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, cin, H, W) inputs to (N, cout, h, w) outputs."""
        if len(self.packed) == 0:
            self.packed = [reorder_weight(self.weight, self.padding, self.stride, list(x.shape))]
        return convolve_reordered(x, self.packed[0], self.bias, self.padding, self.stride, self.after)


class ByteConv(nn.Module):
    """A convolution on the CPU with int8 weights, uint8 inputs and exact integer sums.

    Inputs are rounded to multiples of 1/127 of the largest absolute value in their frame. Weights are rounded to
    multiples of 1/127 of the largest absolute value in their output channel (Jacob et al., 2018). No calibration is
    needed, and the result of a frame does not depend on other frames.

    Args:
        conv: the convolution. Groups and dilation are not supported.
    """

    packed: list[Tensor]
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach().float()
        scales = weight.abs().amax(dim=(1, 2, 3)).clamp(min=1e-12) / 127
        self.weight = nn.Buffer((weight / scales.view(-1, 1, 1, 1)).round().to(torch.int8))
        self.scales = nn.Buffer(scales)
        self.zeros = nn.Buffer(torch.zeros(len(scales), dtype=torch.int32))
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().float().view(-1, 1, 1))
        self.stride: list[int] = list(conv.stride)
        self.padding: list[int] = [int(side) for side in conv.padding]
        self.packed = torch.jit.annotate(list[Tensor], [])  # see `PackedConv`

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, cin, H, W) inputs to (N, cout, h, w) outputs of the same dtype."""
        input_zero = 128
        if len(self.packed) == 0:
            self.packed = [
                reorder_byte_weight(self.weight, self.scales, input_zero, self.padding, self.stride, list(x.shape))
            ]
        values = x.float()
        step = values.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_(min=1e-12).div_(127.0)
        rounded = values.div(step).add_(input_zero + 0.5).to(torch.uint8)
        y = convolve_bytes(rounded, self.packed[0], self.scales, self.zeros, input_zero, self.padding, self.stride)
        y.mul_(step)
        bias = self.bias
        if bias is not None:
            y.add_(bias)
        return y.to(x.dtype)


def quantize_levels(extractor: nn.Module) -> None:
    """Replace the convolutions of the recurrent cells by `ByteConv`, in place.

    The recurrent cells do most of the work of the network.

    Raises:
        ValueError: the backbone has no recurrent cells of `detector.layers.recurrent`.
    """
    cells = [module for module in extractor.modules() if isinstance(module, ConvRNN)]
    allowed = "a backbone with cells of detector.layers.recurrent, or the form torchscript-cpu"
    require(bool(cells), "form torchscript-int8", type(extractor).__name__, allowed)
    for cell in cells:
        for name, conv in list(cell.named_children()):
            assert isinstance(conv, nn.Conv2d)
            setattr(cell, name, ByteConv(conv))


def pack_convolutions(module: nn.Module) -> None:
    """Replace convolutions, each together with a ReLU that follows it, by `PackedConv` layers, in place.

    Convolutions with groups, with dilation or with a padding other than zeros are not replaced.
    """
    for block, index, conv, _ in _followed_convs(module, nn.ReLU):
        if _is_plain(conv):
            block[index] = PackedConv(conv, relu=True)
            del block[index + 1]
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and _is_plain(child):
                setattr(parent, name, PackedConv(child))


def _is_plain(conv: nn.Conv2d) -> bool:
    plain_padding = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain_padding and conv.groups == 1 and conv.dilation == (1, 1)
