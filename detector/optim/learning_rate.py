"""The learning rate as a function of training progress in epochs, never of a number of steps.

It does not depend on settings that a resumed run may change: batch size, loader workers, ranks, accumulation.
"""

import math
from typing import Any

from detector.config.extensions import LR_SCHEDULES
from detector.config.groups import OptimConfig

__all__ = ["WARMUP_START", "constant", "cosine", "exponential", "rate_factor", "total_epochs"]

WARMUP_START = 1e-3
"""Share of the learning rate at the start of the warm-up, as in Detectron2."""


def constant(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Constant peak learning rate."""
    return 1.0


def exponential(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Multiply by `optim.lr_scheduler_step_gamma` after each epoch."""
    return optim.lr_scheduler_step_gamma ** int(epoch)


def cosine(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Half a cosine from the end of the warm-up to the last epoch (Loshchilov and Hutter, SGDR, 2017)."""
    done = (epoch - optim.warmup_epochs) / max(epochs - optim.warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))


def rate_factor(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Learning rate at a point of the training, as a share of `optim.lr`.

    Args:
        optim: schedule and warm-up
        epoch: number of completed epochs plus the fraction of the current one
        epochs: number of epochs of the whole training

    Returns:
        Factor of the schedule; in the first `optim.warmup_epochs` it is multiplied by a linear ramp from
        `WARMUP_START` to 1.
    """
    factor = LR_SCHEDULES.make(optim.lr_scheduler, optim, epoch, epochs)
    if epoch >= optim.warmup_epochs:
        return factor
    return factor * (WARMUP_START + (1 - WARMUP_START) * epoch / optim.warmup_epochs)


def total_epochs(trainer: Any, default: float) -> float:
    """Number of epochs of the whole training of a Lightning trainer.

    Args:
        trainer: its `max_epochs` is the result, or, without it (-1), `max_steps` converted to epochs
        default: result for a trainer without a limit
    """
    if trainer.max_epochs not in (None, -1):
        return float(trainer.max_epochs)
    steps, batches = trainer.max_steps, trainer.num_training_batches
    if steps in (None, -1) or math.isinf(batches) or batches == 0:
        return default
    return float(steps / math.ceil(batches / trainer.accumulate_grad_batches))
