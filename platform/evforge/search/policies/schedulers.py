"""Ray's schedulers by `tune.scheduler`; what they remember outlives their process, which Ray itself forgets."""

from collections.abc import Callable
from typing import Any

from ray.tune.schedulers import ASHAScheduler

from detector.config import Config
from evforge.cluster.ray_compat import restore_scheduler_memory, scheduler_memory
from evforge.search.policies.population import Population
from evforge.space.space import Space

__all__ = ["SCHEDULERS", "SuccessiveHalving"]


class SuccessiveHalving(ASHAScheduler):
    """ASHA: of the trials that reach a rung, the best go on.

    Args:
        config: the study's settings.
    """

    def __init__(self, config: Config) -> None:
        settings = config.tune
        super().__init__(
            metric=settings.metric,
            mode=settings.mode,
            max_t=config.train.max_epochs // config.train.val_every,
            grace_period=settings.grace_epochs,
            reduction_factor=settings.reduction_factor,
        )

    def get_state(self) -> dict[str, Any]:
        """What `set_state` takes in another process: without what the rungs saw, other trials would be stopped."""
        return scheduler_memory(self)

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on as another process left off."""
        restore_scheduler_memory(self, state)


SCHEDULERS: dict[str, Callable[[Config, Space], Any]] = {
    "asha": lambda config, space: SuccessiveHalving(config),
    "pbt": Population,
    "none": lambda config, space: None,
}
