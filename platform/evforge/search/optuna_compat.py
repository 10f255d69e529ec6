"""All uses of private or undocumented parts of Optuna and of Ray's Optuna searcher.

A test fails if one of these parts changes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

__all__ = ["study_of", "take_trial"]


def study_of(search: "OptunaSearch") -> "optuna.study.Study":
    """Return the Optuna study of a searcher. The caller may replace `study.sampler` between two samples."""
    study = search._ot_study
    assert study is not None
    return study


def take_trial(search: "OptunaSearch", trial_id: str) -> "optuna.trial.Trial":
    """Remove an Optuna trial from a searcher and return it.

    Args:
        search: the searcher.
        trial_id: id of the trial in Ray Tune.
    """
    return search._ot_trials.pop(trial_id)
