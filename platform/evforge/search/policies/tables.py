"""Samplers and schedulers of a search, by name or import path."""

import inspect
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
"""Samplers: each is a function or class that returns an Optuna sampler, a Ray Tune `Searcher` whose `suggest`
returns `{"group.leaf": value}`, or a list of all samples."""

SCHEDULERS = Table(
    "tune.scheduler",
    {
        "asha": "evforge.search.policies.schedulers:asha",
        "pbt": "evforge.search.policies.population:population",
        "none": "evforge.search.policies.schedulers:none",
    },
)
"""Schedulers: each is a function or class that returns a Ray Tune `TrialScheduler`, such as those of
`ray.tune.schedulers`, or None."""


def make_sampler(config: Config, space: Space) -> Any:
    """The sampler of `tune.searcher`.

    Raises:
        ValueError: the sampler cannot be imported, or rejects the settings or the space.
    """
    return _make(SAMPLERS, config.tune.searcher, config, space)


def make_scheduler(config: Config, space: Space) -> Any:
    """The scheduler of `tune.scheduler`; None if no trial is stopped early.

    Raises:
        ValueError: the scheduler cannot be imported, or rejects the settings or the space.
    """
    return _make(SCHEDULERS, config.tune.scheduler, config, space)


def _make(table: Table, name: str, config: Config, space: Space) -> Any:
    """Call an entry of a table with the arguments that its signature names."""
    settings = config.tune
    offered = {
        "config": config,
        "space": space,
        "seed": settings.space_seed,
        "metric": settings.metric,
        "mode": settings.mode,
        "time_attr": "training_iteration",  # one per validation
        "max_t": config.train.max_epochs // config.train.val_every,
        "grace_period": settings.grace_epochs,
        "reduction_factor": settings.reduction_factor,
    }
    names = inspect.signature(table[name]).parameters
    return table.make(name, **{key: value for key, value in offered.items() if key in names})
