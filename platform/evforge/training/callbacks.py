"""Lightning callbacks: metrics and checkpoints to Ray after every validation, and a progress line for logs."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from detector.config import Config
from evforge.training.run_folder import CHECKPOINT_NAME, CheckpointError, is_metric

__all__ = ["ProgressLine", "ReportMetrics"]


class ReportMetrics(pl.Callback):
    """Reports every metric of a validation together with a checkpoint.

    At the end of validations, never of the sanity check: at the end of a training epoch (where Ray's own callback
    reports) the metrics of a validation that runs less often are missing, and schedulers stop at a report without
    their metric; and Lightning, resumed from there, takes the batches of epoch 0.

    Args:
        report: called on every rank with the metrics (`train_loss`, `val_mean_ap`, ...), `epoch` (from 1), `step` and
            `fingerprint` (of the configuration that the model was made of, as the model itself holds it), and a
            folder that holds `CHECKPOINT_NAME`; the folder is gone after the call.
        measure: further figures of the model, measured once, at the first validation, and reported with each.
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
        """Save and report.

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
    """Prints where the training stands: now and then inside an epoch, and after every validation.

    Args:
        every_s: seconds between lines inside an epoch.
        write: takes one line.
    """

    def __init__(self, every_s: float = 10.0, write: Callable[[str], None] | None = None) -> None:
        self.every_s = every_s
        self.write = write or (lambda line: print(line, flush=True))
        self._epoch_start = self._last_line = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._epoch_start = self._last_line = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A line if the last one is old."""
        now = time.monotonic()
        if now - self._last_line < self.every_s:
            return
        self._last_line = now
        frames = (batch_idx + 1) * batch["inputs"].shape[0] * batch["inputs"].shape[1] * trainer.world_size
        rate = frames / (now - self._epoch_start)
        left = (trainer.num_training_batches - batch_idx - 1) * (now - self._epoch_start) / (batch_idx + 1)
        self.write(
            f"{self._epoch(trainer)}  batch {batch_idx + 1}/{trainer.num_training_batches}  "
            f"loss {float(trainer.callback_metrics['loss']):.3f}  {rate:.0f} frames/s  {left:.0f} s left in the epoch"
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A line with the epoch's figures."""
        if trainer.sanity_checking:
            return
        shown = {key: trainer.callback_metrics.get(key) for key in ("train_loss", "val_mean_ap", "val_mean_ap50")}
        figures = "  ".join(f"{key} {float(value):.3f}" for key, value in shown.items() if value is not None)
        self.write(f"{self._epoch(trainer)}  {figures}  {time.monotonic() - self._epoch_start:.0f} s")

    @staticmethod
    def _epoch(trainer: pl.Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
