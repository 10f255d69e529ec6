"""Metrics of the training itself: learning rate, gradient norm, speed, duration, memory."""

import math
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch

__all__ = ["TrainingMeter", "memory_mb"]

NORM_EVERY = 10
"""The gradient norm is measured in the first of this many optimizer steps."""


class TrainingMeter(pl.Callback):
    """Lightning callback that measures each training epoch and logs the values before the end of the validation.

    The values are `train_lr` (of the last optimizer step), `train_grad_norm` (mean of the norm before clipping, of
    every tenth optimizer step), `train_frames_per_s` (of all ranks), `train_epoch_s` (without the validation) and
    `train_memory_mb` (peak of this process; on a GPU, of its tensors).
    """

    def __init__(self) -> None:
        self._start = 0.0
        self._frames = 0
        self._steps = 0
        self._rate = 0.0
        self._norms: list[torch.Tensor] = []
        self._values: dict[str, float] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the measurement of an epoch."""
        self._start = time.monotonic()
        self._frames, self._steps, self._norms = 0, 0, []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Measure the norm of the gradients. It stays on the device, so that the training does not wait for it."""
        self._rate = float(optimizer.param_groups[0]["lr"])
        if self._steps % NORM_EVERY == 0:
            gradients = [value.grad for value in pl_module.parameters() if value.grad is not None]
            self._norms.append(torch.nn.utils.get_total_norm(gradients).detach())
        self._steps += 1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the frames. After the last batch, compute the values of the epoch."""
        self._frames += math.prod(batch["inputs"].shape[:2])
        if batch_idx + 1 < trainer.num_training_batches:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        seconds = max(time.monotonic() - self._start, 1e-9)
        self._values = {
            "train_lr": self._rate,
            "train_frames_per_s": self._frames * trainer.world_size / seconds,
            "train_epoch_s": seconds,
            "train_memory_mb": memory_mb(pl_module.device),
        }
        if self._norms:
            self._values["train_grad_norm"] = float(torch.stack(self._norms).mean())

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the values of the epoch, averaged over the ranks."""
        if not trainer.sanity_checking and self._values:
            pl_module.log_dict(self._values, logger=False, sync_dist=True)


def memory_mb(device: torch.device) -> float:
    """Return the peak memory in megabytes: of the tensors on a GPU, or of this process for another device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
