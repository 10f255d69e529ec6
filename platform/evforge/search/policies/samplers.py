"""The default searcher: Optuna's TPE under Ray, made not to train the same thing twice."""

import json
import math
from collections.abc import Callable
from typing import Any

import optuna
from ray.tune.search.optuna import OptunaSearch

from evforge.search.optuna_compat import study_of, take_trial

__all__ = ["UnseenSearch"]

TRIES = 1000


class UnseenSearch(OptunaSearch):
    """Optuna's TPE; where that would draw a sample again, a random one that was not drawn before takes its place.

    Trainings are repeatable, so that a sample drawn twice costs a training and tells nothing; in a space of a few
    dozen choices TPE would soon draw nothing else. A space of choices that was drawn whole ends the search.

    Args:
        space: draws a sample by an Optuna trial.
        metric: what is compared; several for a front between them.
        mode: "max" or "min"; one for each metric.
        seed: of the draws.
    """

    def __init__(
        self, space: Callable[[Any], dict[str, Any]], metric: str | list[str], mode: str | list[str], seed: int
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        super().__init__(space=space, metric=metric, mode=mode, sampler=optuna.samplers.TPESampler(seed=seed))
        self._random = optuna.samplers.RandomSampler(seed=seed)
        self._seen: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """A new sample, or `FINISHED`."""
        study = study_of(self)
        tpe = study.sampler
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
            study.sampler = tpe
        return self.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna; a trial that failed before it had every metric is no trial to learn from."""
        metrics = self.metric if isinstance(self.metric, list) else [self.metric]
        measured = result is not None and all(math.isfinite(result.get(name, math.nan)) for name in metrics)
        super().on_trial_complete(trial_id, result if measured else None, error or not measured)
