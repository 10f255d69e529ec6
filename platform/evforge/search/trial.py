"""A trial of a search: the configuration of its sample, and the functions that run in its process."""

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
"""Name of the subfolder of a trial's folder in which the Ray Train run of the trial stores checkpoints."""

Resolve = Callable[[Mapping[str, Any]], Config]


def trial_config(base: Config, space: Space, sample: Mapping[str, Any]) -> Config:
    """Return the configuration of a sample. If the sample contains a seed, the seed replaces the seed of `base`."""
    seed = {SEED: sample[SEED]} if SEED in sample else {}
    return base.with_overrides({**space.overrides_of(sample), **seed})


def run_trial(config: dict[str, Any], resolve: Resolve, folder: Path, threads: int, use_gpu: bool) -> None:
    """Train one sample. Resume from the last checkpoint of the trial if there is one.

    An error is not raised but written to a file for the driver, because a retry would fail again. Ray uses the same
    process for several trials, so the process, which has imported all libraries, can run the next trial. Ray retries a
    trial only if its process died or a checkpoint could not be written. These causes may be temporary.

    Args:
        config: the sample that Ray drew, or `{"sample": sample}`.
        resolve: function that returns the configuration of a sample.
        folder: folder of the study.
        threads: number of torch threads.
        use_gpu: train on the GPU that this process sees.
    """
    import torch
    from ray import tune as ray_tune

    from evforge.training.callbacks import ReportMetrics
    from evforge.training.profiling import model_costs

    _leave_imports_out_of_collections()
    checkpoints = trial_folder()

    def report(metrics: dict[str, Any], checkpoint: Path) -> None:
        with whole_checkpoints(checkpoints, checkpoint):
            ray_tune.report(metrics, checkpoint=ray_tune.Checkpoint.from_directory(checkpoint))

    try:
        with _noting_failures(folder), checkpoint_file(ray_tune.get_checkpoint()) as ckpt_path:
            sample = resolve(config.get("sample", config))
            fit(sample, [ReportMetrics(report, model_costs)], ckpt_path, threads=threads, use_gpu=use_gpu)
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def run_trial_of_workers(config: dict[str, Any], resolve: Resolve, folder: Path, threads: int, use_gpu: bool) -> None:
    """Train one sample as a Ray Train run with `train.workers` ranks. Resume from the last checkpoint if there is one.

    This process only waits and reserves no CPU. Ray reserves the resources of all workers together. The arguments are
    the same as for `run_trial`, but `threads` is the number of threads per worker.
    """
    from ray.tune.integration.ray_train import TuneReportCallback

    with _noting_failures(folder):
        sample = resolve(config.get("sample", config))
        best = (sample.tune.metric, sample.tune.mode)
        callbacks = [TuneReportCallback()]
        run_workers(sample, trial_folder() / WORKERS, use_gpu, best=best, threads=threads, callbacks=callbacks)


@cache
def _leave_imports_out_of_collections() -> None:
    """Exclude the objects of imported modules from garbage collection.

    Otherwise the collection after every trial would take too long.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)  # otherwise libraries report leaked objects at exit


@contextmanager
def _noting_failures(folder: Path) -> Iterator[None]:
    from ray import tune as ray_tune

    path = failure_file(folder, ray_tune.get_context().get_trial_id())
    try:
        yield
    except CheckpointError:
        raise
    except Exception:
        if trial_is_running():  # otherwise the error occurred because the trial was stopped
            note_failure(path, traceback.format_exc())
