"""A trial of a search: the configuration that its sample makes, and the work of the process that trains it."""

import atexit
import gc
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from detector.config import Config
from evforge.cluster.ray_compat import trial_folder, trial_is_running
from evforge.space.space import Space
from evforge.training.run_folder import CheckpointError, checkpoint_file, failure_file, note_failure, whole_checkpoints
from evforge.training.train import fit, run_workers

__all__ = ["SEED", "run_trial", "run_trial_of_workers", "trial_config"]

SEED = "train.seed"
WORKERS = "workers"
"""Folder in a trial's own where its Ray Train run keeps checkpoints."""

Resolve = Callable[[Mapping[str, Any]], Config]


def trial_config(base: Config, space: Space, sample: Mapping[str, Any]) -> Config:
    """The configuration that a sample makes, with its seed if it holds one."""
    seed = {SEED: sample[SEED]} if SEED in sample else {}
    return base.with_overrides({**space.overrides_of(sample), **seed})


def run_trial(config: dict[str, Any], resolve: Resolve, folder: Path, threads: int, use_gpu: bool) -> None:
    """Train one sample, from its last checkpoint if it has one; runs in a process that Ray uses for several trials.

    An error is written down for the driver and not raised: it would come again, and the process, which has imported
    everything already, goes on with the next trial. Ray starts a trial again only where its process died, or where
    no checkpoint could be written: that may pass.

    Args:
        config: what Ray drew: the sample, or `{"sample": the sample}`.
        resolve: makes the configuration of a sample.
        folder: the study's.
        threads: threads of torch.
        use_gpu: train on the GPU that this process sees.
    """
    import torch
    from ray import tune as ray_tune

    from evforge.training.callbacks import ReportMetrics
    from evforge.training.profiling import model_costs

    _leave_imports_out_of_collections()
    place = trial_folder()

    def report(metrics: dict[str, Any], checkpoint: Path) -> None:
        with whole_checkpoints(place, checkpoint):
            ray_tune.report(metrics, checkpoint=ray_tune.Checkpoint.from_directory(checkpoint))

    try:
        with _noting_failures(folder), checkpoint_file(ray_tune.get_checkpoint()) as ckpt_path:
            sample = resolve(config.get("sample", config))
            fit(sample, [ReportMetrics(report, model_costs)], ckpt_path, threads=threads, use_gpu=use_gpu)
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def run_trial_of_workers(config: dict[str, Any], resolve: Resolve, folder: Path, threads: int, use_gpu: bool) -> None:
    """Train one sample as a Ray Train run with `train.workers` ranks; started again, it goes on where it was.

    This process only waits, and reserves nothing; the workers are reserved together. Arguments are those of
    `run_trial`; `threads` are those of a worker.
    """
    from ray.tune.integration.ray_train import TuneReportCallback

    with _noting_failures(folder):
        sample = resolve(config.get("sample", config))
        best = (sample.tune.metric, sample.tune.mode)
        place = trial_folder() / WORKERS
        run_workers(sample, place, use_gpu, best=best, threads=threads, callbacks=[TuneReportCallback()])


@cache
def _leave_imports_out_of_collections() -> None:
    """What was imported stays for good: looking at it after every trial would take longer than all else here."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # or libraries say at the end that their objects leaked


@contextmanager
def _noting_failures(folder: Path) -> Iterator[None]:
    from ray import tune as ray_tune

    path = failure_file(folder, ray_tune.get_context().get_trial_id())
    try:
        yield
    except CheckpointError:
        raise
    except Exception:
        if trial_is_running():  # else the trial was stopped, and its workers are no more
            note_failure(path, traceback.format_exc())
