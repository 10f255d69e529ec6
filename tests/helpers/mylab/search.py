"""Samplers and schedulers."""

from ray.tune.schedulers import FIFOScheduler


def two_samples(space, config):
    """The first two random samples, in the other order."""
    return space.random_samples(config, 2, seed=7)[::-1]


class KeepFirst(FIFOScheduler):
    """Stops every trial but the first after one validation."""

    def __init__(self, metric: str) -> None:
        self.metric_name, self.first = metric, None

    def on_trial_result(self, tune_controller, trial, result):
        assert self.metric_name in result
        self.first = self.first or trial
        return self.CONTINUE if trial == self.first else self.STOP
