"""Backbones, which compute a pyramid of feature maps from frames and keep a recurrent state for each stream."""

from typing import Protocol

import torch
from torch import Tensor, nn

from detector.config.checks import require
from detector.layers.blocks import SqueezeExciteBlock, VGGBlock, conv_bn_relu
from detector.layers.recurrent import ConvGRU, ConvLSTM

__all__ = ["FeatureExtractor", "RecurrentPyramid", "Vanilla", "Vanilla_VGG", "Vanilla_VGGRU"]


class FeatureExtractor(Protocol):
    """Interface of a backbone: a module that `f(cin, base, cout, *, first_stride, num_levels)` returns.

    A recurrent backbone keeps a state between calls. The state is stored in an attribute `state: list[Tensor]` of the
    backbone or of its submodules, and the attribute is annotated in the class. Before the first call the list is empty.
    The first dimension of the tensors is the stream, which is a row of the batch. A backbone without a state lacks this
    attribute, and its `reset` and `reset_all` do nothing. Only scriptable backbones can be exported to TorchScript.

    Attributes:
        cout: channels of every level.
        strides: stride of each level in input pixels, `first_stride * 2**level`.
    """

    cout: int
    strides: list[int]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Return the feature map (N, cout, ceil(H / stride), ceil(W / stride)) of each level, with N = T * B.

        Args:
            x: (T, B, C, H, W) frames, or (N, C, H, W) frames for one time step of N streams.
        """

    def reset(self, mask: Tensor) -> None:
        """Clear the state of each stream with a 0 in `mask` (B,)."""

    def reset_all(self) -> None:
        """Clear the state of all streams."""


class RecurrentPyramid(nn.Module):
    """Backbone of a 7x7 stride-2 stem, three blocks and recurrent levels. The stride doubles from level to level.

    Args:
        cin: channels of a frame.
        base: output channels of the stem. The blocks have 2, 4 and 8 times as many channels.
        cout: channels of every level.
        first_stride: stride of the first level: 16, or 8 for small objects (the last block then has stride 1).
        num_levels: number of levels.

    Attributes:
        block: class of the convolution blocks.
        cell: class of the recurrent cells.
        strides: stride of each level in input pixels.
    """

    block: type[SqueezeExciteBlock] | type[VGGBlock] = SqueezeExciteBlock
    cell: type[ConvLSTM] | type[ConvGRU] = ConvLSTM

    def __init__(
        self, cin: int = 1, base: int = 16, cout: int = 256, *, first_stride: int = 16, num_levels: int = 5
    ) -> None:
        super().__init__()
        require(first_stride in (8, 16), "first_stride", first_stride, "8 or 16")
        require(num_levels >= 1, "num_levels", num_levels, "a number above 0")
        block, cell = self.block, self.cell
        self.cout = cout
        self.strides = [first_stride * 2**level for level in range(num_levels)]
        self.blocks = nn.Sequential(
            conv_bn_relu(cin, base, kernel_size=7, stride=2),
            block(base, 2 * base, stride=2),
            block(2 * base, 4 * base, stride=2),
            block(4 * base, 8 * base, stride=first_stride // 8),
        )
        self.levels = nn.ModuleList(
            [cell(8 * base if level == 0 else cout, cout, 1 if level == 0 else 2) for level in range(num_levels)]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the feature maps of a batch and update the recurrent state.

        Args:
            x: (T, B, C, H, W) frames, or (N, C, H, W) frames for one time step of N streams. Any H and W.

        Returns:
            `num_levels` feature maps (N, cout, ceil(H / stride), ceil(W / stride)). Frame (t, b) has index t * B + b.
        """
        batch_size = x.size(0) if x.dim() == 4 else x.size(1)
        y = self.blocks(x if x.dim() == 4 else x.flatten(0, 1))
        features: list[Tensor] = []
        for level in self.levels:
            y = level(y, batch_size)
            features.append(y)
        return features

    @torch.jit.export
    def reset(self, mask: Tensor) -> None:
        """Clear the state of each stream with a 0 in `mask` (B,)."""
        for level in self.levels:
            level.reset(mask)  # type: ignore[operator]

    @torch.jit.export
    def reset_all(self) -> None:
        """Clear the state of all streams."""
        for level in self.levels:
            level.reset_all()  # type: ignore[operator]


class Vanilla(RecurrentPyramid):
    """Backbone of squeeze-excite blocks and ConvLSTM levels. Has 22.8 M parameters with cin 6, base 16, cout 256."""


class Vanilla_VGG(RecurrentPyramid):
    """Backbone of VGG blocks and ConvLSTM levels."""

    block = VGGBlock


class Vanilla_VGGRU(RecurrentPyramid):
    """Backbone of VGG blocks and ConvGRU levels."""

    block = VGGBlock
    cell = ConvGRU
