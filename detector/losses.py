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
    """Reduce a loss.

    Args:
        loss: values of any shape.
        mode: "mean", "sum" or "none".
    """
    require_choice("mode", mode, ("mean", "sum", "none"))
    return loss if mode == "none" else getattr(loss, mode)()


def smooth_l1_loss(pred: Tensor, target: Tensor, beta: float = 0.11, reduction: str = "sum") -> Tensor:
    """Quadratic below `beta`, linear above (Girshick, Fast R-CNN, 2015, eq. 3), in float32.

    Args:
        pred: (N, 4) predicted offsets of positive anchors.
        target: (N, 4) their targets.
        beta: absolute error above which the loss is linear; 0 for a linear loss.
        reduction: "mean", "sum" or "none".
    """
    return reduce(l1(pred.float(), target.float(), beta=beta, reduction="none"), reduction)


def softmax_focal_loss(
    pred: Tensor, target: Tensor, reduction: str = "none", *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Focal loss over a softmax (after Lin et al., Focal Loss for Dense Object Detection, 2017), in float32.

    Internally the classes are the second of three dimensions, because a softmax over a short last dimension is not
    vectorised well. The outputs of `BoxHead` have this layout and are not copied. The gradient is computed together
    with the value and is all that is saved for the backward pass; the caller may overwrite the target after the call.

    Args:
        pred: (N, A, K + 1) logits, background first.
        target: (N, A) class of each anchor: -1 ignored (value and gradient are 0), 0 background, 1..K.
        reduction: "mean", "sum" or "none"; "none" keeps (N, A).
        alpha: weight of the foreground; the background has 1 - alpha.
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
        rest = -torch.expm1(log_pt)  # 1 - pt, precise where it is small
        focus = weight * rest**gamma
        if ctx.needs_input_grad[0]:
            # d loss / d logit_j = slope * ([j is the target] - p_j), with slope = p_t * d loss / d p_t
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
    """Classification and box loss of a batch, each divided by a number of positive anchors.

    The number is that of the batch, at least 1 (`normalizer` "positives"), or an exponential mean of it ("ema"), as in
    Detectron2's RetinaNet: momentum 0.9, initial value 100, updated before the division. The mean is not updated in
    evaluation mode, without gradient, or by batches without a labelled frame. Each rank has its own mean; before a
    validation it is averaged over ranks, like all floating point buffers of the model.

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
        """Losses of a batch.

        Args:
            loc_preds: (N, A, 4) predicted offsets.
            loc_targets: (N, A, 4) target offsets; only those of positive anchors are used.
            cls_preds: (N, A, K + 1) logits, background first.
            cls_targets: (N, A) -1 ignored, 0 background, 1..K.

        Returns:
            `{"loc_loss", "cls_loss"}`, two scalars.
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
    """Add the mean to checkpoints of earlier versions, which do not contain it."""
    state_dict.setdefault(f"{prefix}mean_positives", torch.tensor(EMA_START))
