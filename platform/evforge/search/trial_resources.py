"""Number of trials of a search, number of concurrent trials, and the resources that each reserves."""

import math

from detector.config import Config
from evforge.cluster.session import Resources
from evforge.search.policies.tables import make_sampler
from evforge.space.space import Space

__all__ = ["concurrent_trials", "trial_count", "trial_limits", "trial_reserves"]

RESOLUTION = 10_000
"""Ray counts resources in units of 1 / RESOLUTION."""


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
    fitting = resources.room(use_gpu) // workers
    if wanted == "auto":
        return min(count, fitting)
    # Trials of one process can share cores and GPUs. Workers cannot: those of an excess trial would time out.
    return min(count, int(wanted) if workers == 1 else min(int(wanted), fitting))


def trial_limits(config: Config, resources: Resources, count: int) -> tuple[int, dict[str, float]]:
    """Number of threads of a trial, or of each of its workers, and the resources that a trial reserves.

    Concurrent trials share the cores and GPUs of each node, as a trial cannot use those of two nodes. The process that
    starts the workers of a trial reserves one byte of memory only: if it reserved a core, waiting processes could
    occupy all cores.
    """
    concurrent, workers = concurrent_trials(config, resources, count), config.train.workers
    use_gpu = resources.use_gpu(config.train.use_gpu)
    hosts = resources.hosts(use_gpu)
    cpus, most = [cpus for cpus, _ in hosts], [concurrent * workers] * len(hosts)
    limits: dict[str, float] = {}
    if use_gpu:
        gpus = [gpus for _, gpus in hosts]
        limits["gpu"] = min(1.0, _largest_share(gpus, most, concurrent * workers))
        most = [_fitting(gpus_of_host, limits["gpu"]) for gpus_of_host in gpus]
    limits["cpu"] = _largest_share(cpus, most, concurrent * workers)
    threads = max(1, int(limits["cpu"]))
    if workers > 1:
        return threads, {"memory": 1}
    return threads, limits | {"cpu": min(float(threads), limits["cpu"])}


def _largest_share(amounts: list[int], most: list[int], count: int) -> float:
    """Compute the largest equal share of which `count` fit on nodes; 0 if no share does.

    Args:
        amounts: CPU cores or GPUs of each node.
        most: largest number of shares of each node.
        count: number of shares.
    """
    for share in sorted({amount / k for amount in set(amounts) for k in range(1, count + 1)}, reverse=True):
        if share and sum(map(min, most, (_fitting(amount, share) for amount in amounts))) >= count:
            return math.floor(share * RESOLUTION) / RESOLUTION
    return 0.0


def _fitting(amount: int, share: float) -> int:
    """Number of shares that fit in an amount; rounding of the share does not count."""
    return int(amount / share + 1 / RESOLUTION)


def trial_reserves(config: Config, resources: Resources, count: int) -> dict[str, float]:
    """CPU cores ("cpu") and GPUs ("gpu") of a trial, including its workers; arguments are those of `trial_limits`."""
    workers = float(config.train.workers)
    if workers == 1:
        return trial_limits(config, resources, count)[1]
    return {"cpu": workers} | ({"gpu": workers} if resources.use_gpu(config.train.use_gpu) else {})
