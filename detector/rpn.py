"""Head that predicts box offsets and class logits; all pyramid levels share its weights."""

import math

import torch
from torch import Tensor, nn

__all__ = ["BoxHead", "softmax_init"]


def softmax_init(l: nn.Conv2d, num_anchors: int, num_logits: int) -> None:  # noqa: E741 (the reference's name)
    """Initialize a classification layer to a background probability of 0.99 (Lin et al., 2017, section 3.3, softmax).

    Args:
        l: last layer, with (num_anchors, num_logits) output channels.
        num_anchors: anchors per cell.
        num_logits: number of classes + 1; background comes first.
    """
    background = 0.99
    with torch.no_grad():
        nn.init.normal_(l.weight, std=0.01)
        assert l.bias is not None
        bias = torch.zeros(num_anchors, num_logits)
        bias[:, 0] = math.log((num_logits - 1) * background / (1 - background))
        l.bias.copy_(bias.flatten())


class BoxHead(nn.Module):
    """Two small convolutional networks for box offsets and class logits, shared by all levels.

    Args:
        in_channels: channels of every level.
        num_anchors: anchors per cell.
        num_logits: number of classes + 1.
        n_layers: number of hidden 3x3 convolutions before the prediction; may be 0.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_logits: int, n_layers: int = 3) -> None:
        super().__init__()
        self.num_anchors = num_anchors
        self.num_logits = num_logits
        boxes = nn.Conv2d(in_channels, num_anchors * 4, 3, padding=1)
        nn.init.normal_(boxes.weight, std=0.01)
        logits = nn.Conv2d(in_channels, num_anchors * num_logits, 3, padding=1)
        softmax_init(logits, num_anchors, num_logits)
        self.box_head = self._make_head(in_channels, n_layers, boxes)
        self.cls_head = self._make_head(in_channels, n_layers, logits)

    @staticmethod
    def _make_head(in_channels: int, n_layers: int, last: nn.Conv2d) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(n_layers):
            layers += [nn.Conv2d(in_channels, in_channels, 3, padding=1), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, last)

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """Predict from the feature maps of all levels.

        Args:
            xs: levels, each (N, in_channels, h, w).

        Returns:
            `[loc (N, A, 4), cls (N, A, K + 1)]`, anchors in the order level, row, column, anchor. Both are
            transposed views of contiguous (N, 4 or K + 1, A) tensors, a layout in which the losses are fast.
        """
        locs: list[Tensor] = []
        logits: list[Tensor] = []
        for x in xs:
            locs.append(self._value_major(self.box_head(x), 4))
            logits.append(self._value_major(self.cls_head(x), self.num_logits))
        return [torch.cat(locs, dim=2).transpose(1, 2), torch.cat(logits, dim=2).transpose(1, 2)]

    def _value_major(self, y: Tensor, values: int) -> Tensor:
        n, _, h, w = y.shape
        return y.view(n, self.num_anchors, values, h, w).permute(0, 2, 3, 4, 1).reshape(n, values, -1)
