"""A trial of a search: the configuration that its sample makes, and the work of the process that trains it."""

import gc
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detector.config import Config
from evlab.runs import checkpoint_file, failure_file
from evlab.space import Space
from evlab.train import fit

__all__ = ["SEED", "run_trial", "trial_config"]

SEED = "train.seed"


def trial_config(base: Config, space: Space, sample: Mapping[str, Any]) -> Config:
    """The configuration that a sample makes, with its seed if it holds one."""
    seed = {SEED: sample[SEED]} if SEED in sample else {}
    return base.with_overrides({**space.overrides_of(sample), **seed})


def run_trial(
    config: dict[str, Any], resolve: Callable[[Mapping[str, Any]], Config], folder: Path, threads: int, use_gpu: bool
) -> None:
    """Train one sample, from its last checkpoint if it has one; runs in a process that Ray uses for several trials.

    An error is written down for the driver and not raised: it would come again, and the process, which has imported
    everything already, goes on with the next trial. Ray starts a trial again only where its process died.

    Args:
        config: what Ray drew: the sample, or `{"sample": the sample}`.
        resolve: makes the configuration of a sample.
        folder: the study's.
        threads: threads of torch.
        use_gpu: train on the GPU that this process sees.
    """
    import torch
    from ray import tune as ray_tune

    from evlab.callbacks import ReportMetrics

    def report(metrics: dict[str, Any], checkpoint: Path) -> None:
        ray_tune.report(metrics, checkpoint=ray_tune.Checkpoint.from_directory(checkpoint))

    try:
        with checkpoint_file(ray_tune.get_checkpoint()) as ckpt_path:
            sample = resolve(config.get("sample", config))
            fit(sample, [ReportMetrics(report)], ckpt_path, threads=threads, use_gpu=use_gpu)
    except Exception:
        path = failure_file(folder, ray_tune.get_context().get_trial_id())
        path.parent.mkdir(exist_ok=True)
        path.write_text(traceback.format_exc())
    finally:
        gc.collect()
        torch.cuda.empty_cache()
