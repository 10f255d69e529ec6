"""Progress of a Lightning training, and the learning rates of its optimizers at this point."""

from typing import Any

import pytorch_lightning as pl

from detector.config import Config
from detector.optim.learning_rate import rate_factor, total_epochs

__all__ = ["end_resumed_epoch", "factor_now", "set_learning_rate", "take_rates"]


def end_resumed_epoch(trainer: pl.Trainer) -> None:
    """Mark a resumed epoch as complete if its last batch was trained. Call this at the start of a training.

    With other workers or another batch size the epoch now has more batches, and Lightning would continue it.
    """
    batches = trainer.fit_loop.epoch_loop.batch_progress
    if trainer.fit_loop.restarting and batches.is_last_batch:
        for count in ("ready", "started", "processed", "completed"):
            setattr(batches.current, count, int(trainer.num_training_batches))


def factor_now(trainer: pl.Trainer, config: Config) -> float:
    """Learning rate at the current progress, as a share of the peak."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    inside = epochs.started > epochs.processed
    part = min(batches.processed / trainer.num_training_batches, 1.0) if inside else 0.0
    return rate_factor(config.optim, epochs.processed + part, total_epochs(trainer, config.train.max_epochs))


def set_learning_rate(trainer: pl.Trainer, config: Config) -> None:
    """Set the learning rate of the current progress."""
    lr = config.optim.lr * factor_now(trainer, config)
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr


def take_rates(trainer: pl.Trainer, config: Config) -> None:
    """Replace the rates of a checkpoint by those of the settings; without effect if the settings are equal."""
    for entry in trainer.lr_scheduler_configs:
        schedule: Any = entry.scheduler
        schedule.base_lrs = [config.optim.lr for _ in schedule.base_lrs]
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group.update(initial_lr=config.optim.lr, weight_decay=config.optim.weight_decay)
    set_learning_rate(trainer, config)
