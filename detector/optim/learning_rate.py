"""Learning rate as a function of the training progress in epochs.

The learning rate does not depend on the number of steps, and therefore not on settings that a resumed run may change:
batch size, loader workers, ranks, accumulation.
"""

import math
from typing import Any

from detector.config.extensions import LR_SCHEDULES
from detector.config.groups import OptimConfig

__all__ = ["WARMUP_START", "constant", "cosine", "exponential", "rate_factor", "total_epochs"]

WARMUP_START = 1e-3
"""Factor of the learning rate at the start of the warm-up, as in Detectron2."""


def constant(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Return 1: the learning rate stays at its peak."""
    return 1.0


def exponential(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Return a factor that starts at 1 and is multiplied by `optim.lr_scheduler_step_gamma` after each epoch."""
    return optim.lr_scheduler_step_gamma ** int(epoch)


def cosine(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Return a factor that falls from 1 at the end of the warm-up to 0 at the end of the training.

    The factor follows half a cosine period (Loshchilov and Hutter, SGDR, 2017).
    """
    done = (epoch - optim.warmup_epochs) / max(epochs - optim.warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))


def rate_factor(optim: OptimConfig, epoch: float, epochs: float) -> float:
    """Return the factor by which `optim.lr` is multiplied at a point of the training.

    Args:
        optim: settings of the schedule and the warm-up
        epoch: number of completed epochs plus the completed fraction of the current epoch
        epochs: number of epochs of the whole training

    Returns:
        Factor of the schedule. During the first `optim.warmup_epochs` epochs, this factor is multiplied by a linear
        ramp from `WARMUP_START` to 1.
    """
    factor = LR_SCHEDULES.make(optim.lr_scheduler, optim, epoch, epochs)
    if epoch >= optim.warmup_epochs:
        return factor
    return factor * (WARMUP_START + (1 - WARMUP_START) * epoch / optim.warmup_epochs)


def total_epochs(trainer: Any, default: float) -> float:
    """Return the number of epochs of the whole training of a Lightning trainer.

    Args:
        trainer: Lightning trainer. The result is `max_epochs` or, if that is not set, `max_steps` converted to epochs
        default: result if neither `max_epochs` nor `max_steps` is set, or the number of batches is not known
    """
    if trainer.max_epochs not in (None, -1):
        return float(trainer.max_epochs)
    steps, batches = trainer.max_steps, trainer.num_training_batches
    if steps in (None, -1) or math.isinf(batches) or batches == 0:
        return default
    return float(steps / math.ceil(batches / trainer.accumulate_grad_batches))
