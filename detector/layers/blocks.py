"""Convolution blocks of the feature extractors. All of them can be scripted."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

__all__ = ["SqueezeExciteBlock", "VGGBlock", "conv_bn_relu"]


def conv_bn_relu(cin: int, cout: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution (size kept at stride 1), batch norm and ReLU."""
    conv = nn.Conv2d(cin, cout, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class SqueezeExciteBlock(nn.Module):
    """Residual block of two 3x3 convolutions with squeeze-and-excitation of the channels (Hu et al., 2018).

    Args:
        cin: input channels.
        cout: output channels.
        stride: stride of the first convolution and of the skip connection.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = conv_bn_relu(cin, cout, stride=stride)
        self.conv2 = nn.Sequential(nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout))
        self.excite = nn.Sequential(
            nn.Conv2d(cout, cout, 1), nn.ReLU(inplace=True), nn.Conv2d(cout, cout, 1), nn.Sigmoid()
        )
        self.skip = nn.Sequential(nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, ceil(H / stride), ceil(W / stride))."""
        y = self.conv2(self.conv1(x))
        weights = self.excite(y.mean(dim=(2, 3), keepdim=True))
        # A 1x1 convolution of stride 2 is not used: oneDNN 3.13 writes past its buffers in the gradient of some.
        # A slice is not used: its gradient is not channels_last and slows down the following layers.
        skip = self.skip(x if self.stride == 1 else avg_pool2d(x, 1, self.stride))
        return torch.relu(y * weights + skip)


class VGGBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU.

    Args:
        cin: input channels.
        cout: output channels.
        stride: stride of the first convolution.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv_bn_relu(cin, cout, stride=stride), conv_bn_relu(cout, cout))

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, ceil(H / stride), ceil(W / stride))."""
        return self.convs(x)
