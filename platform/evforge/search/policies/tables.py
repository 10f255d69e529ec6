"""The samplers and schedulers that a search can use, by name or import path, and how they are made."""

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
"""What draws the samples: a function or class that returns an Optuna sampler, a Ray Tune `Searcher` whose `suggest`
returns `{"group.leaf": value}`, or a list of all samples."""

SCHEDULERS = Table(
    "tune.scheduler",
    {
        "asha": "evforge.search.policies.schedulers:asha",
        "pbt": "evforge.search.policies.population:population",
        "none": "evforge.search.policies.schedulers:none",
    },
)
"""What stops trials early: a function or class that returns a Ray Tune `TrialScheduler`, such as those of
`ray.tune.schedulers`, or None."""


def make_sampler(config: Config, space: Space) -> Any:
    """The sampler that `tune.searcher` names.

    Raises:
        ValueError: it cannot be imported, or does not accept the settings or the space.
    """
    return _make(SAMPLERS, config.tune.searcher, config, space)


def make_scheduler(config: Config, space: Space) -> Any:
    """The scheduler that `tune.scheduler` names, None if no trial is stopped.

    Raises:
        ValueError: it cannot be imported, or does not accept the settings or the space.
    """
    return _make(SCHEDULERS, config.tune.scheduler, config, space)


def _make(table: Table, name: str, config: Config, space: Space) -> Any:
    """Call an entry with those of the offered arguments that its signature names."""
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
