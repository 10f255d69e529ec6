"""Schedulers that stop weak trials early, and functions that save and load the state of a scheduler.

Ray Tune does not store this state with a search.
"""

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from detector.config import Config
from detector.config.checks import require

__all__ = ["asha", "load_scheduler_state", "none", "save_scheduler_state"]


def asha(config: Config) -> ASHAScheduler:
    """Create the scheduler ASHA (Li et al. 2020), which compares trials after certain numbers of validations (rungs).

    At each rung, only the best trials continue.

    Raises:
        ValueError: the first rung is after the last validation.
    """
    settings, validations = config.tune, config.train.max_epochs // config.train.val_every
    allowed = f"at most the {validations} validations of a trial"
    require(settings.grace_epochs <= validations, "tune.grace_epochs", settings.grace_epochs, allowed)
    return ASHAScheduler(
        metric=settings.metric,
        mode=settings.mode,
        max_t=validations,
        grace_period=settings.grace_epochs,
        reduction_factor=settings.reduction_factor,
    )


def none() -> None:
    """Return None as the scheduler, so that all trials run to their end."""


def save_scheduler_state(scheduler: TrialScheduler) -> bytes:
    """Pickle all attributes of a scheduler and return the bytes. Trials are not pickled, only their ids are stored.

    Raises:
        ValueError: an attribute cannot be pickled.
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(vars(scheduler))
    except Exception as error:  # pickle raises errors of many types
        allowed = "a scheduler that can be pickled, so that the search can be resumed"
        raise ValueError(f"tune.scheduler: got {type(scheduler).__name__} ({error}), allowed: {allowed}") from error
    return buffer.getvalue()


def load_scheduler_state(scheduler: TrialScheduler, state: bytes, trials: Sequence[Trial]) -> None:
    """Restore the attributes of a scheduler from a state that an earlier process saved.

    Args:
        scheduler: scheduler of the same class, changed in place.
        state: result of `save_scheduler_state`.
        trials: trials of the resumed search, with unchanged ids.
    """
    vars(scheduler).clear()
    vars(scheduler).update(_Unpickler(io.BytesIO(state), {trial.trial_id: trial for trial in trials}).load())


class _Pickler(cloudpickle.Pickler):
    def persistent_id(self, thing: Any) -> str | None:
        return thing.trial_id if isinstance(thing, Trial) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, trials: Mapping[str, Trial]) -> None:
        super().__init__(file)
        self._trials = trials

    def persistent_load(self, trial_id: str) -> Trial:
        return self._trials[trial_id]
