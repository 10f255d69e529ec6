"""Every use of a private or undocumented part of Optuna and of Ray's searcher around it.

Each has a test that fails when it moves.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

__all__ = ["study_of", "take_trial"]


def study_of(search: "OptunaSearch") -> "optuna.study.Study":
    """The study that a searcher asks; its sampler may be replaced between two samples."""
    study = search._ot_study
    assert study is not None
    return study


def take_trial(search: "OptunaSearch", trial_id: str) -> "optuna.trial.Trial":
    """Take the trial that the study opened for `trial_id` out of the searcher, which forgets it."""
    return search._ot_trials.pop(trial_id)
