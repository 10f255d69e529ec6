"""Optimizers and learning-rate schedules."""

import torch

from detector.config.groups import OptimConfig


class SignDescent(torch.optim.Optimizer):
    """A step of the learning rate against the sign of each gradient."""

    def __init__(self, params, lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.add_(weight.grad.sign(), alpha=-group["lr"] * 0.1)
        return loss


def linear(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Straight down to 0."""
    return 1 - epoch / epochs
