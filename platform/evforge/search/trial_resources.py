"""Number of trials of a search, number of concurrent trials, and the resources that each trial reserves."""

import math

from detector.config import Config
from evforge.cluster.session import Resources
from evforge.search.policies.tables import make_sampler
from evforge.space.space import Space

__all__ = ["concurrent_trials", "final_trials", "trial_count", "trial_limits", "trial_reserves"]

RESOLUTION = 10_000
"""Ray counts resources in units of 1 / RESOLUTION."""


def trial_count(config: Config, space: Space) -> int:
    """Return the number of trials of a search, without the final trials with further seeds."""
    sampler = make_sampler(config, space)
    return len(sampler) if isinstance(sampler, list) else config.tune.num_samples


def final_trials(config: Config, count: int) -> int:
    """Return the number of additional trainings after a search, in which the best trials are repeated with other seeds.

    Args:
        config: settings of the study.
        count: number of trials of the search.
    """
    return min(config.tune.final_top_k, count) * (config.tune.final_seeds - 1)


def concurrent_trials(config: Config, resources: Resources, count: int) -> int:
    """Return how many of the `count` trials of a search run at the same time.

    Raises:
        EvForgeError: a trial needs more workers than there are CPU cores or GPUs.
    """
    wanted, workers = config.tune.max_concurrent, config.train.workers
    use_gpu = resources.use_gpu(config.train.use_gpu)
    resources.require_workers(workers, use_gpu)
    fitting = resources.room(use_gpu) // workers
    if wanted == "auto":
        return min(count, fitting)
    # Trials with one process can share cores and GPUs. Workers cannot: the workers of an excess trial would time out.
    return min(count, int(wanted) if workers == 1 else min(int(wanted), fitting))


def trial_limits(config: Config, resources: Resources, count: int) -> tuple[int, dict[str, float]]:
    """Compute the number of threads and the resources of each trial.

    Concurrent trials share the cores and GPUs of each node, because a trial cannot use cores of two nodes. If a trial
    has several workers, the process that starts the workers reserves only one byte of memory. If it reserved a core,
    waiting processes could occupy all cores.

    Args:
        config: settings of the study.
        resources: resources of Ray.
        count: number of trials.

    Returns:
        Number of torch threads of the trial or of each of its workers, and the resources that the process of the trial
        reserves, such as `{"cpu": 1.0, "gpu": 0.5}`.
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
    """Compute the largest amount of cores or GPUs per share with which `count` equal shares fit on the nodes.

    Args:
        amounts: CPU cores or GPUs of each node.
        most: largest allowed number of shares on each node.
        count: number of shares.

    Returns:
        Cores or GPUs of one share; 0 if the shares do not fit.
    """
    for share in sorted({amount / k for amount in set(amounts) for k in range(1, count + 1)}, reverse=True):
        if share and sum(map(min, most, (_fitting(amount, share) for amount in amounts))) >= count:
            return math.floor(share * RESOLUTION) / RESOLUTION
    return 0.0


def _fitting(amount: int, share: float) -> int:
    """Return how many shares of this size fit into an amount, with a tolerance for the rounding of the share."""
    return int(amount / share + 1 / RESOLUTION)


def trial_reserves(config: Config, resources: Resources, count: int) -> dict[str, float]:
    """Return the CPU cores ("cpu") and GPUs ("gpu") that a trial reserves, including the resources of its workers.

    The arguments are the same as for `trial_limits`.
    """
    workers = float(config.train.workers)
    if workers == 1:
        return trial_limits(config, resources, count)[1]
    return {"cpu": workers} | ({"gpu": workers} if resources.use_gpu(config.train.use_gpu) else {})
