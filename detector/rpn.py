"""Head that predicts box offsets and class logits. All pyramid levels share the weights of the head."""

import math

import torch
from torch import Tensor, nn

__all__ = ["BoxHead", "softmax_init"]


def softmax_init(l: nn.Conv2d, num_anchors: int, num_logits: int) -> None:  # noqa: E741 (the reference's name)
    """Initialize a classification layer so that the softmax probability of background is 0.99.

    Lin et al., Focal Loss for Dense Object Detection, 2017, section 3.3, do the same for a sigmoid.

    Args:
        l: last layer, with num_anchors * num_logits output channels, ordered by anchor, then class.
        num_anchors: number of anchors per cell.
        num_logits: number of classes + 1. Background is logit 0.
    """
    background = 0.99
    with torch.no_grad():
        nn.init.normal_(l.weight, std=0.01)
        assert l.bias is not None
        bias = torch.zeros(num_anchors, num_logits)
        bias[:, 0] = math.log((num_logits - 1) * background / (1 - background))
        l.bias.copy_(bias.flatten())


class BoxHead(nn.Module):
    """Two small convolutional networks, one for box offsets and one for class logits, shared by all pyramid levels.

    Args:
        in_channels: channels of the feature map of every level.
        num_anchors: number of anchors per cell.
        num_logits: number of classes + 1. Background is logit 0.
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
        """Predict box offsets and class logits from the feature maps of all levels.

        Args:
            xs: feature maps, one (N, in_channels, h, w) per level.

        Returns:
            A list of two tensors: box offsets (N, A, 4) and class logits (N, A, K + 1). The A anchors of a frame are
            ordered by level, row, column and anchor shape. Both tensors are transposed views of contiguous tensors
            (N, 4, A) and (N, K + 1, A), because the losses are faster with this layout.
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
