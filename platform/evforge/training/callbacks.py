"""Lightning callbacks that report metrics and checkpoints after every validation, and that print progress lines."""

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytorch_lightning as pl
import torch

from detector.config import Config
from evforge.display.epoch_bar import EpochProgress
from evforge.display.live import announce, time_text
from evforge.training.run_folder import CHECKPOINT_NAME, CheckpointError, is_metric

__all__ = ["ProgressLine", "ReportMetrics"]

BAR_PAUSE_S = 0.5
"""Minimum number of seconds between two changes of the progress bar."""

SHOWN = {"mean_ap": "mAP", "mean_ap50": "mAP50"}
"""Metrics in the line of an epoch, and their names there."""


class ReportMetrics(pl.Callback):
    """Reports all metrics of a validation together with a checkpoint.

    The validation of Lightning's sanity check is not reported. Unlike Ray's own callback, this callback does not report
    after training epochs. If validations are less frequent than epochs, a report after an epoch would lack the metric
    that schedulers need. Lightning would also repeat the batches of epoch 0 if it resumed from the checkpoint of such a
    report.

    Args:
        report: function that is called on every rank with a dict and a folder. The dict contains the metrics
            (`train_loss`, `val_mean_ap`, ...), `epoch` (from 1), `step`, and the `fingerprint` of the configuration
            that is stored in the model. The folder contains the file `CHECKPOINT_NAME` and is removed after the call.
        measure: function that gets the trainer and the model, and returns additional values. It is called once, at the
            first validation, and these values are part of every report.
    """

    def __init__(
        self,
        report: Callable[[dict[str, Any], Path], None],
        measure: Callable[[pl.Trainer, Any], dict[str, float]] | None = None,
    ) -> None:
        self.report = report
        self.measure = measure
        self._measured: dict[str, float] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save a checkpoint and report it with the metrics.

        Raises:
            CheckpointError: the checkpoint cannot be written.
        """
        if trainer.sanity_checking:
            return
        if self._measured is None:
            self._measured = self.measure(trainer, pl_module) if self.measure else {}
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if is_metric(name)}
        progress = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        fingerprint = Config.from_hparams(pl_module.hparams).fingerprint()
        with tempfile.TemporaryDirectory(prefix="evforge-") as folder:
            try:
                trainer.save_checkpoint(Path(folder) / CHECKPOINT_NAME)
            except OSError as error:
                raise CheckpointError.of(Path(folder), error) from None
            self.report({**metrics, **self._measured, **progress, "fingerprint": fingerprint}, Path(folder))


class ProgressLine(pl.Callback):
    """Prints one line per epoch, and shows the progress within an epoch as lines at intervals or in a bar.

    The line of an epoch contains the mean loss with its parts, the learning rate, the mAP if the epoch was validated,
    the speed, the memory, and the time left until the end of the training. Losses and memory are those of this rank.

    Args:
        every_s: minimum number of seconds between two lines within an epoch.
        file: file of an `epoch_bar`, which replaces the lines within an epoch; None to print these lines.
    """

    def __init__(self, every_s: float = 10.0, file: Path | None = None) -> None:
        self.every_s = every_s if file is None else BAR_PAUSE_S
        self.file = file
        self._first_epoch: int | None = None
        self._start = self._epoch_start = self._last_line = time.monotonic()
        self._frames = self._trained_s = self._rate_used = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Store the start time of the epoch. In a resumed training, print the first epoch."""
        self._epoch_start = self._last_line = time.monotonic()
        self._frames = self._trained_s = 0.0
        if self._first_epoch is None:
            self._first_epoch, self._start = trainer.current_epoch, self._epoch_start
            if trainer.current_epoch:
                announce(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  the training resumes here")

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Store the learning rate of the step, as the schedule changes it after the step."""
        self._rate_used = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the progress if at least `every_s` seconds have passed since the last time."""
        now = time.monotonic()
        self._trained_s = now - self._epoch_start
        self._frames += math.prod(batch["inputs"].shape[:2]) * trainer.world_size
        if now - self._last_line >= self.every_s:
            text = f"loss {float(trainer.callback_metrics['loss']):.3f}  {self._rate()}"
            self._show(trainer, "training", batch_idx + 1, int(trainer.num_training_batches), text)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the progress if at least `every_s` seconds have passed since the last time."""
        if not trainer.sanity_checking and time.monotonic() - self._last_line >= self.every_s:
            batches = trainer.num_val_batches[dataloader_idx]
            self._show(trainer, "validation", batch_idx + 1, int(batches), self._rate())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Print the line of the epoch. A resumed epoch that was already trained has no line."""
        if not self._frames:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        loss, of_classes, of_boxes = pl_module.mean_losses.tolist()
        parts = f"(class {of_classes:.3f}, box {of_boxes:.3f})"
        fields = [f"loss {loss:.3f} {parts}", f"lr {self._rate_used:.3g}"]
        if (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0:
            fields += [f"{name} {values[f'val_{key}']:.3f}" for key, name in SHOWN.items() if f"val_{key}" in values]
        left = self._left_s(trainer, 1.0)
        fields += [self._rate(), _memory(trainer), time_text(time.monotonic() - self._epoch_start)]
        _print(trainer, "  ".join([*fields, f"{time_text(left)} left"]))

    def _show(self, trainer: pl.Trainer, step: str, done: int, batches: int, text: str) -> None:
        """Show the progress of a step of the epoch, which is "training" or "validation"."""
        self._last_line = time.monotonic()
        left = self._left_s(trainer, done / batches if step == "training" else 1.0)
        if self.file is None:
            _print(trainer, f"{step} batch {done}/{batches}  {text}  {time_text(left)} left")
        else:
            epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
            EpochProgress(*epochs, step, done, batches, text, left).write(self.file)

    def _left_s(self, trainer: pl.Trainer, part: float) -> float:
        """Return the estimated time in seconds until the end of the training; `part` of this epoch is done."""
        first = self._first_epoch or 0
        done, wanted = trainer.current_epoch - first + part, (trainer.max_epochs or 0) - first
        return (time.monotonic() - self._start) / done * max(0.0, wanted - done)

    def _rate(self) -> str:
        return f"{self._frames / max(self._trained_s, 1e-9):.0f} frames/s"


def _memory(trainer: pl.Trainer) -> str:
    """Return the resident memory of this process, and the largest amount of GPU memory that it has reserved."""
    text = f"RAM {psutil.Process().memory_info().rss / 1e9:.1f} GB"
    if trainer.strategy.root_device.type != "cuda":
        return text
    return f"{text}, GPU {torch.cuda.max_memory_reserved(trainer.strategy.root_device) / 1e9:.1f} GB"


def _print(trainer: pl.Trainer, text: str) -> None:
    announce(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {text}")
