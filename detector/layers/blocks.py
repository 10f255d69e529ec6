"""Convolution blocks of the feature extractors. All blocks can be scripted."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

__all__ = ["SqueezeExciteBlock", "VGGBlock", "conv_bn_relu"]


def conv_bn_relu(cin: int, cout: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Make a convolution, batch norm and ReLU. With stride 1, the output has the height and width of the input."""
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
        """Convert (N, cin, H, W) features to (N, cout, ceil(H / stride), ceil(W / stride)) features."""
        y = self.conv2(self.conv1(x))
        weights = self.excite(y.mean(dim=(2, 3), keepdim=True))
        # A 1x1 convolution of stride 2 is not used, because oneDNN 3.13 can write past its buffers in the gradient.
        # A slice is not used, because the gradient of a slice is not channels_last and slows down the next layers.
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
        """Convert (N, cin, H, W) features to (N, cout, ceil(H / stride), ceil(W / stride)) features."""
        return self.convs(x)
