"""Samplers: functions that return a list of samples, and a Ray Tune searcher for Optuna that never repeats a sample."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from ray.tune.search.optuna import OptunaSearch

from detector.config import Config
from evforge.search.optuna_compat import study_of, take_trial
from evforge.space.space import Space

__all__ = ["UnseenSearch", "grid_samples", "random_samples"]

TRIES = 1000


def random_samples(config: Config, space: Space) -> list[dict[str, Any]]:
    """Draw `tune.num_samples` independent samples of a space."""
    return space.random_samples(config, config.tune.num_samples, config.tune.space_seed)


def grid_samples(config: Config, space: Space) -> list[dict[str, Any]]:
    """Return all combinations of the options in a space, except combinations that violate a constraint."""
    return space.grid_samples(config)


class UnseenSearch(OptunaSearch):
    """Ray Tune searcher for an Optuna sampler. A repeated sample is replaced by a new random sample.

    Trainings are reproducible, so a repeated sample costs a training and adds no information. In a space with only a
    few dozen different samples, Optuna's TPE sampler would soon draw nothing but repeated samples. The search ends
    when all samples of a finite space have been drawn.

    Args:
        sampler: the Optuna sampler.
        space: function that takes an Optuna trial, lets it choose each setting by `trial.suggest_...`, and returns
            the sample.
        metric: name of the metric to optimize; several names for a Pareto front.
        mode: "max" or "min"; a sequence with one mode per metric if there are several metrics.
        seed: seed of the random samples.
    """

    def __init__(
        self,
        sampler: optuna.samplers.BaseSampler,
        space: Callable[[Any], dict[str, Any]],
        metric: str | list[str],
        mode: str | Sequence[str],
        seed: int,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        super().__init__(
            space=space, metric=metric, mode=mode if isinstance(mode, str) else list(mode), sampler=sampler
        )
        self._random = optuna.samplers.RandomSampler(seed=seed)
        self._seen: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """Return a sample that was not drawn before; `FINISHED` if no such sample is found in `TRIES` attempts.

        Args:
            trial_id: id of the new trial in Ray Tune.
        """
        study = study_of(self)
        sampler = study.sampler
        try:
            for _ in range(TRIES):
                sample = super().suggest(trial_id)
                key = json.dumps(sample, sort_keys=True)
                if key not in self._seen:
                    self._seen.add(key)
                    return sample
                study.tell(take_trial(self, trial_id), state=optuna.trial.TrialState.FAIL)
                study.sampler = self._random
        finally:
            study.sampler = sampler
        return self.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass the result of a trial to Optuna. A trial with a missing or non-finite metric counts as failed."""
        metrics = self.metric if isinstance(self.metric, list) else [self.metric]
        measured = result is not None and all(math.isfinite(result.get(name, math.nan)) for name in metrics)
        super().on_trial_complete(trial_id, result if measured else None, error or not measured)
