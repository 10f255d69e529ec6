"""Lightning callbacks that report metrics and checkpoints after every validation, and that print progress lines."""

import math
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
    """Prints the progress of a training: at intervals during an epoch, and after every validation.

    Args:
        every_s: minimum number of seconds between two lines during an epoch.
    """

    def __init__(self, every_s: float = 10.0) -> None:
        self.every_s = every_s
        self._epoch_start = self._last_line = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Store the start time of the epoch."""
        self._epoch_start = self._last_line = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line if at least `every_s` seconds have passed since the last line."""
        now = time.monotonic()
        if now - self._last_line < self.every_s:
            return
        self._last_line = now
        done, batches = batch_idx + 1, trainer.num_training_batches
        seconds = (now - self._epoch_start) / done
        rate = math.prod(batch["inputs"].shape[:2]) * trainer.world_size / seconds
        _print(
            trainer,
            f"batch {done}/{batches}  loss {float(trainer.callback_metrics['loss']):.3f}  "
            f"{rate:.0f} frames/s  {(batches - done) * seconds:.0f} s left in the epoch",
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print a line with the metrics of the epoch."""
        if trainer.sanity_checking:
            return
        shown = {key: trainer.callback_metrics.get(key) for key in ("train_loss", "val_mean_ap", "val_mean_ap50")}
        metrics = "  ".join(f"{key} {float(value):.3f}" for key, value in shown.items() if value is not None)
        _print(trainer, f"{metrics}  {time.monotonic() - self._epoch_start:.0f} s")


def _print(trainer: pl.Trainer, text: str) -> None:
    print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {text}", flush=True)
