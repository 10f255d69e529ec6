"""Tables of samplers and schedulers, from which a search takes objects by name or import path."""

from typing import Any

from detector.config import Config
from detector.config.extensions import Table
from evforge.space.space import Space

__all__ = ["SAMPLERS", "SCHEDULERS", "make_sampler", "make_scheduler"]

SAMPLERS = Table(
    "tune.searcher",
    {
        "optuna": "optuna.samplers:TPESampler",
        "random": "evforge.search.policies.samplers:random_samples",
        "grid": "evforge.search.policies.samplers:grid_samples",
    },
)
"""Samplers: functions or classes that return an Optuna sampler, a Ray Tune `Searcher`, or a list of all samples.

The method `suggest` of a `Searcher` must return a sample `{"group.leaf": value}`.
"""

SCHEDULERS = Table(
    "tune.scheduler",
    {
        "asha": "evforge.search.policies.schedulers:asha",
        "pbt": "evforge.search.policies.population:population",
        "none": "evforge.search.policies.schedulers:none",
    },
)
"""Schedulers: functions or classes that return None or a scheduler such as those in `ray.tune.schedulers`."""


def make_sampler(config: Config, space: Space) -> Any:
    """Create the sampler that `tune.searcher` names.

    Returns:
        An Optuna sampler, a Ray Tune `Searcher`, or a list of all samples.

    Raises:
        ValueError: the sampler cannot be imported, or rejects the settings or the space.
    """
    return _make(SAMPLERS, config.tune.searcher, config, space)


def make_scheduler(config: Config, space: Space) -> Any:
    """Create the scheduler that `tune.scheduler` names. Return None if no trial is stopped early.

    Raises:
        ValueError: the scheduler cannot be imported, or rejects the settings or the space.
    """
    return _make(SCHEDULERS, config.tune.scheduler, config, space)


def _make(table: Table, name: str, config: Config, space: Space) -> Any:
    """Call the function or class `name` of a table, and return the result.

    Of the available arguments, such as `config`, `space` and `seed`, only those in its signature are passed.
    """
    settings = config.tune
    offered = {
        "config": config,
        "space": space,
        "seed": settings.space_seed,
        "metric": settings.metric,
        "mode": settings.mode,
        "time_attr": "training_iteration",  # increases by one per validation
        "max_t": config.train.max_epochs // config.train.val_every,
        "grace_period": settings.grace_epochs,
        "reduction_factor": settings.reduction_factor,
    }
    return table.make_from(name, offered)
