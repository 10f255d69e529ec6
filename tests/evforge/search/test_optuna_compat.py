"""What Ray's searcher around Optuna does not promise: fails when the parts that `optuna_compat` uses move."""

import optuna
from ray.tune.search.optuna import OptunaSearch

from evforge.search.optuna_compat import study_of, take_trial


def test_the_sampler_of_a_running_search_can_be_replaced():
    search = OptunaSearch(space=lambda trial: {"a": trial.suggest_float("a", 0, 1)}, metric="m", mode="max")
    study = study_of(search)
    assert isinstance(study, optuna.study.Study)
    study.sampler = optuna.samplers.PartialFixedSampler({"a": 0.25}, optuna.samplers.RandomSampler(seed=0))
    assert search.suggest("first") == {"a": 0.25}


def test_a_trial_that_was_taken_is_forgotten_by_the_searcher_and_known_to_the_study():
    search = OptunaSearch(space=lambda trial: {"a": trial.suggest_float("a", 0, 1)}, metric="m", mode="max")
    sample = search.suggest("first")
    trial = take_trial(search, "first")
    assert trial.params == sample
    study_of(search).tell(trial, state=optuna.trial.TrialState.FAIL)
    assert [each.state.name for each in study_of(search).trials] == ["FAIL"]
    assert search.suggest("first") is not None, "the name is free again"
