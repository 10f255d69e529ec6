"""A trial of a search: compute the configuration of a sample, and train it in a Ray process."""

import atexit
import gc
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from detector.config import Config
from evforge.cluster.credentials import load
from evforge.cluster.ray_compat import trial_folder, trial_is_running
from evforge.space.space import Space
from evforge.training.failures import NodeError, is_temporary
from evforge.training.run_folder import CheckpointError, checkpoint_file, failure_file, note_failure, whole_checkpoints
from evforge.training.train import fit, run_workers

__all__ = ["SEED", "TrialSetup", "run_trial", "run_trial_of_workers", "trial_config"]

SEED = "train.seed"
WORKERS = "workers"
"""Name of the subfolder of a trial's folder in which the Ray Train run of the trial stores checkpoints."""


def trial_config(base: Config, space: Space, sample: Mapping[str, Any]) -> Config:
    """Return the configuration of a trial: `base` with the settings of the trial's sample.

    If the sample contains `train.seed`, this seed replaces the seed of `base`.
    """
    seed = {SEED: sample[SEED]} if SEED in sample else {}
    return base.with_overrides({**space.overrides_of(sample), **seed})


@dataclass(frozen=True)
class TrialSetup:
    """Values that are the same for all trials of a search.

    Args:
        resolve: function that returns the configuration of a sample
        folder: folder of the study
        files: files of the dataset that must exist on every node
        threads: number of torch threads of a trial, or of each of its workers
        use_gpu: whether trials are trained on GPUs
        left_out: ids of nodes that must not be used
    """

    resolve: Callable[[Mapping[str, Any]], Config]
    folder: Path
    files: Sequence[str]
    threads: int
    use_gpu: bool
    left_out: Sequence[str] = ()


def run_trial(config: dict[str, Any], setup: TrialSetup) -> None:
    """Train one sample. Resume from the last checkpoint of the trial if there is one.

    Ray retries a trial after an error that may be temporary: the death of its process or node, an error of a file, or
    too little memory. Any other error would occur again. It is not raised but written to a file, which the driver
    reads. This process has already imported all libraries, and can then run the next trial.

    Args:
        config: the sample that Ray drew, or `{"sample": sample}`.
        setup: what all trials have in common.
    """
    import torch
    from ray import tune as ray_tune

    from evforge.training.callbacks import ReportMetrics
    from evforge.training.profiling import model_costs

    _leave_imports_out_of_collections()
    load()
    checkpoints = trial_folder()

    def report(metrics: dict[str, Any], checkpoint: Path) -> None:
        with whole_checkpoints(checkpoints, checkpoint):
            ray_tune.report(metrics, checkpoint=ray_tune.Checkpoint.from_directory(checkpoint))

    try:
        with _noting_failures(setup), checkpoint_file(ray_tune.get_checkpoint()) as ckpt_path:
            sample = setup.resolve(config.get("sample", config))
            callbacks = [ReportMetrics(report, model_costs)]
            fit(sample, callbacks, ckpt_path, threads=setup.threads, use_gpu=setup.use_gpu)
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def run_trial_of_workers(config: dict[str, Any], setup: TrialSetup) -> None:
    """Train one sample as a Ray Train run with `train.workers` ranks. Resume from the last checkpoint if there is one.

    This process only waits for the workers and reserves no CPU. If a worker fails, Ray Tune retries the whole trial;
    Ray Train itself does not retry. The arguments are the same as for `run_trial`.
    """
    from ray.tune.integration.ray_train import TuneReportCallback

    load()
    with _noting_failures(setup):
        sample = setup.resolve(config.get("sample", config))
        run_workers(
            sample,
            trial_folder() / WORKERS,
            setup.use_gpu,
            best=(sample.tune.metric, sample.tune.mode),
            threads=setup.threads,
            left_out=setup.left_out,
            max_failures=0,
            callbacks=[TuneReportCallback()],
        )


@cache
def _leave_imports_out_of_collections() -> None:
    """Exclude all objects that exist now, such as imported modules, from garbage collection.

    This makes the garbage collection after every trial faster.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)  # otherwise libraries report leaked objects at exit


@contextmanager
def _noting_failures(setup: TrialSetup) -> Iterator[None]:
    """Context manager for errors in its block. An error is raised if a retry of the trial may succeed.

    Otherwise, the traceback is written to the failure file of the trial, which the driver reads.
    """
    from ray import tune as ray_tune

    path = failure_file(setup.folder, ray_tune.get_context().get_trial_id())
    try:
        for file in setup.files:
            if not Path(file).exists():
                raise FileNotFoundError(f"{file}: not found on this node")
        yield
    except CheckpointError:
        raise
    except Exception as error:
        if not trial_is_running():  # the error occurred because the trial was stopped
            return
        if is_temporary(error):
            raise NodeError.here(error) from error
        note_failure(path, traceback.format_exc())
