"""What a long training holds at once."""

import gc

import psutil
import pytest
import pytorch_lightning as pl

from evforge.training.callbacks import ReportMetrics
from evforge.training.train import check_config, fit


class Memory(pl.Callback):
    """The process' resident memory at the end of each epoch."""

    def __init__(self):
        self.by_epoch = []

    def on_train_epoch_end(self, trainer, pl_module):
        gc.collect()
        self.by_epoch.append(psutil.Process().memory_info().rss)


@pytest.mark.soak
def test_memory_stays_flat_over_epochs(tiny_config):
    settings = {"train.max_epochs": 30, "train.limit_train_batches": 1, "train.limit_val_batches": 1}
    memory = Memory()
    fit(check_config(tiny_config.with_overrides(settings)), [memory, ReportMetrics(lambda *_: None)], threads=1)
    assert len(memory.by_epoch) == 30
    assert max(memory.by_epoch[3:]) < 1.02 * memory.by_epoch[2]
