"""Losses of an anchor-based detector: softmax focal loss for classes, smooth L1 for boxes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import smooth_l1_loss as l1

from detector.config.checks import require_choice
from detector.config.extensions import BOX_LOSSES, CLASS_LOSSES

__all__ = ["DetectionLoss", "reduce", "smooth_l1_loss", "softmax_focal_loss"]


def reduce(loss: Tensor, mode: str = "none") -> Tensor:
    """Reduce a loss to a scalar.

    Args:
        loss: values of any shape.
        mode: "mean", "sum", or "none" to return the loss unchanged.
    """
    require_choice("mode", mode, ("mean", "sum", "none"))
    return loss if mode == "none" else getattr(loss, mode)()


def smooth_l1_loss(pred: Tensor, target: Tensor, beta: float = 0.11, reduction: str = "sum") -> Tensor:
    """Compute the smooth L1 loss in float32: quadratic below `beta`, linear above (Girshick, Fast R-CNN, 2015, eq. 3).

    Args:
        pred: (N, 4) predicted offsets of positive anchors.
        target: (N, 4) target offsets of the same anchors.
        beta: absolute error above which the loss is linear. With 0 the loss is linear everywhere.
        reduction: "mean", "sum" or "none"; "none" keeps (N, 4).
    """
    return reduce(l1(pred.float(), target.float(), beta=beta, reduction="none"), reduction)


def softmax_focal_loss(
    pred: Tensor, target: Tensor, reduction: str = "none", *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Compute the focal loss of a softmax in float32 (Lin et al., Focal Loss for Dense Object Detection, 2017).

    The softmax is computed in the layout (N, K + 1, A), because a softmax over a short last dimension is not vectorised
    well. The outputs of `BoxHead` already have this layout in memory and are not copied. The gradient is computed in
    the forward pass, and nothing else is saved for the backward pass. The caller may therefore overwrite `target` after
    the call.

    Args:
        pred: (N, A, K + 1) logits. Logit 0 is background.
        target: (N, A) label of each anchor: -1 ignored (loss and gradient are 0), 0 background, 1..K foreground.
        reduction: "mean", "sum" or "none"; "none" keeps (N, A).
        alpha: weight of foreground anchors. Background anchors have the weight 1 - alpha.
        gamma: focusing exponent.
    """
    return reduce(_FocalLoss.apply(pred, target, alpha, gamma), reduction)


class _FocalLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:  # type: ignore[override]
        log_p = torch.log_softmax(pred.transpose(1, 2).float().contiguous(), dim=1)
        index = target.clamp(min=0).unsqueeze(1)
        log_pt = log_p.gather(1, index).squeeze(1)
        pt = log_pt.exp()
        weight = torch.where(target > 0, alpha, 1.0 - alpha).mul_(target >= 0)
        rest = -torch.expm1(log_pt)  # 1 - pt, precise also for pt close to 1
        focus = weight * rest**gamma
        if ctx.needs_input_grad[0]:
            # d loss / d logit_j = slope * ([j == target] - p_j), with slope = p_t * d loss / d p_t
            slope = weight.mul_(rest ** (gamma - 1.0)).mul_(pt * log_pt).mul_(gamma).sub_(focus)
            slope = torch.where(rest > 0, slope, 0.0)
            grad = log_p.exp_().mul_(slope.neg().unsqueeze(1)).scatter_add_(1, index, slope.unsqueeze(1))
            ctx.save_for_backward(grad)
            ctx.dtype = pred.dtype
        return focus.mul_(log_pt).neg_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = ctx.saved_tensors
        return (grad * grads[0].unsqueeze(1)).to(ctx.dtype).transpose(1, 2), None, None, None


NORMALIZERS = ("positives", "ema")
EMA_MOMENTUM, EMA_START = 0.9, 100.0


class DetectionLoss(nn.Module):
    """Classification loss and box loss of a batch, both divided by the same normalizer.

    With "positives", the normalizer is the number of positive anchors of the batch, at least 1. With "ema", it is an
    exponential moving average of this number, as in Detectron2's RetinaNet: momentum 0.9, initial value 100, updated
    before the division. The average is not updated in evaluation mode, with gradients disabled, or by batches without a
    labelled frame. Each rank has its own average. Before a validation it is averaged over all ranks, like every
    floating-point buffer of the model.

    Args:
        cls_loss_func: name or import path of the classification loss, see `CLASS_LOSSES`.
        box_loss_func: name or import path of the box loss, see `BOX_LOSSES`.
        alpha, gamma: arguments of the classification loss.
        beta: argument of the box loss.
        normalizer: "positives" or "ema".
    """

    mean_positives: Tensor

    def __init__(
        self,
        cls_loss_func: str = "softmax_focal_loss",
        *,
        box_loss_func: str = "smooth_l1_loss",
        alpha: float = 0.25,
        gamma: float = 2.0,
        beta: float = 0.11,
        normalizer: str = "positives",
    ) -> None:
        super().__init__()
        require_choice("normalizer", normalizer, NORMALIZERS)
        self.cls_loss_func = CLASS_LOSSES[cls_loss_func]
        self.box_loss_func = BOX_LOSSES[box_loss_func]
        self.alpha = alpha
        self.gamma = gamma
        self.beta = beta
        self.normalizer = normalizer
        self.register_buffer("mean_positives", torch.tensor(EMA_START))
        self.register_load_state_dict_pre_hook(_add_mean)

    def forward(
        self, loc_preds: Tensor, loc_targets: Tensor, cls_preds: Tensor, cls_targets: Tensor
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            loc_preds: (N, A, 4) predicted offsets.
            loc_targets: (N, A, 4) target offsets. Only the offsets of positive anchors are used.
            cls_preds: (N, A, K + 1) logits. Logit 0 is background.
            cls_targets: (N, A) label of each anchor: -1 ignored, 0 background, 1..K foreground.

        Returns:
            A dict of the scalars "loc_loss" and "cls_loss".
        """
        positive = cls_targets > 0
        count = self._count(positive)
        frame, anchor = positive.nonzero(as_tuple=True)
        loc_loss = self.box_loss_func(
            loc_preds[frame, anchor], loc_targets[frame, anchor], beta=self.beta, reduction="sum"
        )
        cls_loss = self.cls_loss_func(cls_preds, cls_targets, "sum", alpha=self.alpha, gamma=self.gamma)
        return {"loc_loss": loc_loss / count, "cls_loss": cls_loss / count}

    def _count(self, positive: Tensor) -> Tensor:
        count = positive.sum().clamp(min=1)
        if self.normalizer == "positives":
            return count
        if self.training and torch.is_grad_enabled():  # a new tensor: an earlier loss may still need the old one
            self.mean_positives = EMA_MOMENTUM * self.mean_positives + (1 - EMA_MOMENTUM) * count
        return self.mean_positives


def _add_mean(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Add the initial value of `mean_positives` to the state dict of an earlier version, which lacks this buffer."""
    state_dict.setdefault(f"{prefix}mean_positives", torch.tensor(EMA_START))
