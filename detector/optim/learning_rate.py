"""The learning rate as a function of training progress in epochs, never of a number of steps.

It depends on nothing that a resumed run may change on the way: batch size, loader workers, ranks, accumulation.
"""

import math
from typing import Any

from detector.config.extensions import LR_SCHEDULES
from detector.config.groups import OptimConfig

__all__ = ["WARMUP_START", "constant", "cosine", "exponential", "rate_factor", "total_epochs"]

WARMUP_START = 1e-3
"""Share of the learning rate that the warm-up starts from, as in Detectron2."""


def constant(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """The peak learning rate throughout."""
    return 1.0


def exponential(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Multiply by `optim.lr_scheduler_step_gamma` after each epoch."""
    return optim.lr_scheduler_step_gamma ** int(epoch)


def cosine(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Half a cosine from the end of the warm-up to the last epoch (Loshchilov and Hutter, SGDR, 2017)."""
    done = (epoch - optim.warmup_epochs) / max(epochs - optim.warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))


def rate_factor(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Share of `optim.lr` that is the learning rate at a moment of training.

    Args:
        optim: schedule and warm-up
        epoch: epochs that are over, and the fraction of the current one
        epochs: epochs of the whole training

    Returns:
        The schedule's factor; in the first `optim.warmup_epochs` it is scaled by a line from `WARMUP_START` to 1.
    """
    factor = LR_SCHEDULES.make(optim.lr_scheduler, optim, epoch, epochs)
    if epoch >= optim.warmup_epochs:
        return factor
    return factor * (WARMUP_START + (1 - WARMUP_START) * epoch / optim.warmup_epochs)


def total_epochs(trainer: Any, default: float) -> float:
    """Epochs of a Lightning trainer's whole training.

    Args:
        trainer: its `max_epochs` count; without (-1), the epochs that its `max_steps` make
        default: for a trainer without any limit
    """
    if trainer.max_epochs not in (None, -1):
        return float(trainer.max_epochs)
    steps, batches = trainer.max_steps, trainer.num_training_batches
    if steps in (None, -1) or math.isinf(batches) or batches == 0:
        return default
    return float(steps / math.ceil(batches / trainer.accumulate_grad_batches))
