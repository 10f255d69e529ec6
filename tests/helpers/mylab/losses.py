"""Losses."""

from torch import Tensor
from torch.nn.functional import cross_entropy, l1_loss


def plain_cross_entropy(pred: Tensor, target: Tensor, reduction: str, *, alpha: float, gamma: float) -> Tensor:
    """Cross entropy of all anchors that are not ignored."""
    return cross_entropy(pred.flatten(0, 1), target.flatten(), ignore_index=-1, reduction=reduction)


def l1(pred: Tensor, target: Tensor, beta: float, reduction: str) -> Tensor:
    """Absolute differences of offsets."""
    return l1_loss(pred, target, reduction=reduction)
