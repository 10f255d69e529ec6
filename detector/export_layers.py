"""Layers as exported files hold them: batch norms folded into convolutions, weights laid out for the processor."""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["PackedConv", "fold_batch_norms", "pack_convolutions"]


def fold_batch_norms(module: nn.Module) -> None:
    """Merge every batch norm in evaluation mode with the convolution before it, in place.

    Done before weights are rounded: a batch norm of few bits would be far off.
    """
    for block in module.modules():
        if isinstance(block, nn.Sequential):
            for index in range(len(block) - 1):
                conv, norm = block[index], block[index + 1]
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    block[index], block[index + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()


class PackedConv(nn.Module):
    """A convolution on the CPU that brings its weights into oneDNN's order once, not at each call.

    That order of 20 M weights is most of the work where maps are small. It is found for the size of the first input,
    and right for any.

    Args:
        conv: the convolution; without groups or dilation.
    """

    packed: list[Tensor]

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        self.stride: list[int] = list(conv.stride)
        self.padding: list[int] = [int(side) for side in conv.padding]
        self.packed = torch.jit.annotate(list[Tensor], [])  # cannot be saved: made by the first call

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, h, w)."""
        if len(self.packed) == 0:
            self.packed = [
                torch.ops.mkldnn._reorder_convolution_weight(
                    self.weight, self.padding, self.stride, [1, 1], 1, list(x.shape)
                )
            ]
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.packed[0], self.bias, self.padding, self.stride, [1, 1], 1, "none", [], ""
        )


def pack_convolutions(module: nn.Module) -> None:
    """Replace every convolution by a `PackedConv`, in place."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, PackedConv(child))
