"""All uses of private or undocumented parts of Optuna and of Ray's Optuna searcher.

Each use has a test that fails when the part changes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

__all__ = ["study_of", "take_trial"]


def study_of(search: "OptunaSearch") -> "optuna.study.Study":
    """The Optuna study of a searcher. Its sampler may be replaced between two samples."""
    study = search._ot_study
    assert study is not None
    return study


def take_trial(search: "OptunaSearch", trial_id: str) -> "optuna.trial.Trial":
    """Remove the Optuna trial of `trial_id` from a searcher and return it."""
    return search._ot_trials.pop(trial_id)
