"""Progress of a Lightning training, and the learning rate at the current progress."""

from typing import Any

import pytorch_lightning as pl

from detector.config import Config
from detector.optim.learning_rate import rate_factor, total_epochs

__all__ = ["end_resumed_epoch", "factor_now", "set_learning_rate", "take_rates"]


def end_resumed_epoch(trainer: pl.Trainer) -> None:
    """Mark the epoch of a resumed checkpoint as complete if its last batch was already trained.

    Call this at the start of a training. If the batch size or the number of workers differs from the interrupted run,
    an epoch can have more batches than in that run. Lightning would then train more batches in a complete epoch.
    """
    batches = trainer.fit_loop.epoch_loop.batch_progress
    if trainer.fit_loop.restarting and batches.is_last_batch:
        for count in ("ready", "started", "processed", "completed"):
            setattr(batches.current, count, int(trainer.num_training_batches))


def factor_now(trainer: pl.Trainer, config: Config) -> float:
    """Return the learning rate at the current progress, divided by the peak learning rate."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    inside = epochs.started > epochs.processed
    part = min(batches.processed / trainer.num_training_batches, 1.0) if inside else 0.0
    return rate_factor(config.optim, epochs.processed + part, total_epochs(trainer, config.train.max_epochs))


def set_learning_rate(trainer: pl.Trainer, config: Config) -> None:
    """Set the learning rate of all optimizers to the value for the current progress."""
    lr = config.optim.lr * factor_now(trainer, config)
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr


def take_rates(trainer: pl.Trainer, config: Config) -> None:
    """Replace the learning rate and weight decay that a checkpoint has restored with the values in `config`."""
    for entry in trainer.lr_scheduler_configs:
        schedule: Any = entry.scheduler
        schedule.base_lrs = [config.optim.lr for _ in schedule.base_lrs]
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group.update(initial_lr=config.optim.lr, weight_decay=config.optim.weight_decay)
    set_learning_rate(trainer, config)
