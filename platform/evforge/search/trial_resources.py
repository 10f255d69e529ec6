"""Number of trials of a search, number of concurrent trials, and the resources that each reserves."""

from detector.config import Config
from evforge.cluster.session import Resources
from evforge.search.policies.tables import make_sampler
from evforge.space.space import Space

__all__ = ["concurrent_trials", "trial_count", "trial_limits", "trial_reserves"]


def trial_count(config: Config, space: Space) -> int:
    """Number of trials of a search, without the final ones with further seeds."""
    sampler = make_sampler(config, space)
    return len(sampler) if isinstance(sampler, list) else config.tune.num_samples


def concurrent_trials(config: Config, resources: Resources, count: int) -> int:
    """Number of trials that run at a time, of `count`.

    Raises:
        EvForgeError: a trial needs more workers than there are CPU cores or GPUs.
    """
    wanted, workers = config.tune.max_concurrent, config.train.workers
    use_gpu = resources.use_gpu(config.train.use_gpu)
    resources.require_workers(workers, use_gpu)
    fitting = max(1, (resources.gpus if use_gpu else resources.cpus) // workers)
    if use_gpu and not resources.gpus:  # the autoscaler adds GPU nodes for waiting trials
        fitting = count
    if wanted == "auto":
        return min(count, fitting)
    # Trials of one process can share cores and GPUs. Workers cannot: those of an excess trial would time out.
    return min(count, int(wanted) if workers == 1 else min(int(wanted), fitting))


def trial_limits(config: Config, resources: Resources, count: int) -> tuple[int, dict[str, float]]:
    """Number of threads of a trial, or of each of its workers, and the resources that a trial reserves.

    Concurrent trials share the cores. The process that starts the workers of a trial reserves one byte of memory only:
    if it reserved a core, waiting processes could occupy all cores.
    """
    concurrent, workers = concurrent_trials(config, resources, count), config.train.workers
    threads = max(1, resources.cpus // (concurrent * workers))
    if workers > 1:
        return threads, {"memory": 1}
    limits = {"cpu": min(float(threads), resources.cpus / concurrent)}
    if resources.use_gpu(config.train.use_gpu):
        limits["gpu"] = min(1.0, resources.gpus / concurrent) or 1.0
    return threads, limits


def trial_reserves(config: Config, resources: Resources, count: int) -> dict[str, float]:
    """CPU cores ("cpu") and GPUs ("gpu") of a trial, including its workers; arguments are those of `trial_limits`."""
    workers = float(config.train.workers)
    if workers == 1:
        return trial_limits(config, resources, count)[1]
    return {"cpu": workers} | ({"gpu": workers} if resources.use_gpu(config.train.use_gpu) else {})
