import pickle
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from detector.config import Config
from evforge.search.policies.population import Population
from evforge.search.policies.schedulers import SCHEDULERS, SuccessiveHalving

CONFIG = Config().with_overrides({"train.max_epochs": 9, "tune.grace_epochs": 1, "tune.reduction_factor": 3})


def report(scheduler, name, value):
    """What becomes of a trial that reports its first validation."""
    trial = SimpleNamespace(trial_id=name)
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"training_iteration": 1, "val_mean_ap": value})


def test_of_three_trials_the_weakest_is_stopped_at_the_first_rung():
    scheduler = SuccessiveHalving(CONFIG)
    assert [report(scheduler, name, value) for name, value in (("a", 0.5), ("b", 0.75), ("c", 0.25))] == [
        TrialScheduler.CONTINUE,
        TrialScheduler.CONTINUE,
        TrialScheduler.STOP,
    ]


@pytest.mark.parametrize(("remembers", "decision"), [(True, TrialScheduler.STOP), (False, TrialScheduler.CONTINUE)])
def test_rungs_survive_the_process(remembers, decision):
    before, after = SuccessiveHalving(CONFIG), SuccessiveHalving(CONFIG)
    for name, value in (("a", 0.5), ("b", 0.75)):
        report(before, name, value)
    state = pickle.loads(pickle.dumps(before.get_state()))
    if remembers:
        after.set_state(state)
    assert report(after, "c", 0.25) == decision


def test_every_name_of_the_settings_has_its_scheduler():
    space = SimpleNamespace(near=None)
    made = {name: scheduler(CONFIG, space) for name, scheduler in SCHEDULERS.items()}
    assert made.keys() == {"asha", "pbt", "none"} and made["none"] is None
    assert isinstance(made["asha"], SuccessiveHalving) and isinstance(made["pbt"], Population)
