"""Backbones: frames in, a pyramid of feature maps out, with a state per stream."""

from typing import Protocol

import torch
from torch import Tensor, nn

from detector.layers.blocks import SqueezeExciteBlock, VGGBlock, conv_bn_relu
from detector.layers.recurrent import ConvGRU, ConvLSTM

__all__ = ["FeatureExtractor", "RecurrentPyramid", "Vanilla", "Vanilla_VGG", "Vanilla_VGGRU"]


class FeatureExtractor(Protocol):
    """What the detector expects of a backbone: a module made by `f(cin, base, cout, *, first_stride, num_levels)`.

    A recurrent backbone carries its state from call to call in attributes `state: list[Tensor]` of itself or of its
    submodules, annotated in the class. A state is empty before the first call; its tensors begin with the dimension of
    the streams. A backbone without state has no such attribute, and its `reset` and `reset_all` do nothing. Only
    scriptable backbones can be exported to TorchScript.

    Attributes:
        cout: channels of every level.
        strides: stride of each level in input pixels, `first_stride * 2**level`.
    """

    cout: int
    strides: list[int]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Feature maps (N, cout, ceil(H / stride), ceil(W / stride)) of (T, B, C, H, W) or (N, C, H, W) frames."""

    def reset(self, mask: Tensor) -> None:
        """Clear the state of the streams whose `mask` (B,) is 0."""

    def reset_all(self) -> None:
        """Clear the state of all streams."""


class RecurrentPyramid(nn.Module):
    """A 7x7 stride-2 stem, three blocks, then recurrent levels, each at twice the stride of the one before.

    Args:
        cin: channels of a frame.
        base: width of the stem; the blocks have 2, 4 and 8 times as many channels.
        cout: channels of every level.
        block: class of the convolution blocks.
        cell: class of the recurrent cells.
        first_stride: stride of the first level: 16, or 8 (the last block keeps stride 1) for small objects.
        num_levels: number of levels.

    Attributes:
        strides: stride of each level in input pixels.
    """

    def __init__(
        self,
        cin: int,
        base: int,
        cout: int,
        block: type[SqueezeExciteBlock] | type[VGGBlock],
        cell: type[ConvLSTM] | type[ConvGRU],
        first_stride: int,
        num_levels: int,
    ) -> None:
        super().__init__()
        if first_stride not in (8, 16):
            raise ValueError(f"first_stride: got {first_stride!r}, allowed: 8 or 16")
        if num_levels < 1:
            raise ValueError(f"num_levels: got {num_levels!r}, allowed: a number above 0")
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
        """Advance the streams.

        Args:
            x: (T, B, C, H, W), or (N, C, H, W) for one time step of N streams. Any H and W.

        Returns:
            `num_levels` feature maps (N, cout, ceil(H / stride), ceil(W / stride)), n = t * B + b.
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
        """Clear the state of the streams whose `mask` (B,) is 0."""
        for level in self.levels:
            level.reset(mask)  # type: ignore[operator]

    @torch.jit.export
    def reset_all(self) -> None:
        """Clear the state of all streams."""
        for level in self.levels:
            level.reset_all()  # type: ignore[operator]


class Vanilla(RecurrentPyramid):
    """Squeeze-excite blocks, then ConvLSTM levels; 22.8 M parameters at (6, 16, 256)."""

    def __init__(
        self, cin: int = 1, base: int = 16, cout: int = 256, *, first_stride: int = 16, num_levels: int = 5
    ) -> None:
        super().__init__(cin, base, cout, SqueezeExciteBlock, ConvLSTM, first_stride, num_levels)


class Vanilla_VGG(RecurrentPyramid):
    """VGG blocks, then ConvLSTM levels."""

    def __init__(
        self, cin: int = 1, base: int = 16, cout: int = 256, *, first_stride: int = 16, num_levels: int = 5
    ) -> None:
        super().__init__(cin, base, cout, VGGBlock, ConvLSTM, first_stride, num_levels)


class Vanilla_VGGRU(RecurrentPyramid):
    """VGG blocks, then ConvGRU levels."""

    def __init__(
        self, cin: int = 1, base: int = 16, cout: int = 256, *, first_stride: int = 16, num_levels: int = 5
    ) -> None:
        super().__init__(cin, base, cout, VGGBlock, ConvGRU, first_stride, num_levels)
