"""How many trials a search has, how many run at a time, and what each of them reserves."""

from detector.config import Config
from evforge.cluster.session import Resources
from evforge.search.policies.tables import make_sampler
from evforge.space.space import Space

__all__ = ["concurrent_trials", "trial_count", "trial_limits", "trial_reserves"]


def trial_count(config: Config, space: Space) -> int:
    """Trials of a search, without those that train the best again with further seeds."""
    sampler = make_sampler(config, space)
    return len(sampler) if isinstance(sampler, list) else config.tune.num_samples


def concurrent_trials(config: Config, resources: Resources, count: int) -> int:
    """How many of `count` trials run at a time.

    Raises:
        EvForgeError: a trial needs more workers than there are CPU cores or GPUs.
    """
    wanted, workers = config.tune.max_concurrent, config.train.workers
    use_gpu = resources.use_gpu(config.train.use_gpu)
    resources.require_workers(workers, use_gpu)
    fitting = max(1, (resources.gpus if use_gpu else resources.cpus) // workers)
    if use_gpu and not resources.gpus:  # a cluster without a GPU node yet: it adds nodes for trials that wait
        fitting = count
    if wanted == "auto":
        return min(count, fitting)
    # Trials of one process share cores and GPUs. Workers do not: those of a trial too many would wait, and give up.
    return min(count, int(wanted) if workers == 1 else min(int(wanted), fitting))


def trial_limits(config: Config, resources: Resources, count: int) -> tuple[int, dict[str, float]]:
    """Threads of a trial, or of each of its workers, and what a trial reserves; trials side by side share the cores.

    The process that starts the workers of a trial reserves next to nothing: were it a core, then processes that wait
    for workers could hold all of them.
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
    """Processors ("cpu") and GPUs ("gpu") of a whole trial, those of its workers included; arguments as above."""
    workers = float(config.train.workers)
    if workers == 1:
        return trial_limits(config, resources, count)[1]
    return {"cpu": workers} | ({"gpu": workers} if resources.use_gpu(config.train.use_gpu) else {})
