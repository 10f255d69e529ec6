"""Construction of the optimizer that the settings describe."""

import inspect
from collections.abc import Iterable

import torch

from detector.config.extensions import OPTIMIZERS
from detector.config.groups import OptimConfig

__all__ = ["build_optimizer"]


def build_optimizer(
    parameters: Iterable[torch.nn.Parameter], optim: OptimConfig, fused: bool = True
) -> torch.optim.Optimizer:
    """Build the optimizer `optim.optimizer` with the peak learning rate.

    Args:
        parameters: weights to optimize.
        optim: name, peak learning rate and weight decay of the optimizer.
        fused: use the fused implementation (one kernel for all weights) if the optimizer has one.

    Raises:
        ValueError: the optimizer cannot be imported or constructed.
    """
    make = OPTIMIZERS[optim.optimizer]
    has_fused = callable(make) and "fused" in inspect.signature(make).parameters
    options = {"fused": True} if fused and has_fused else {}
    return OPTIMIZERS.make(optim.optimizer, parameters, lr=optim.lr, weight_decay=optim.weight_decay, **options)
