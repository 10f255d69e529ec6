from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from detector.config import Config
from evforge.search.policies.schedulers import asha, load_scheduler_state, save_scheduler_state

CONFIG = Config().with_overrides({"train.max_epochs": 9, "tune.grace_epochs": 1, "tune.reduction_factor": 3})
CONTROLLER = SimpleNamespace(get_live_trials=set)
MAKERS = {
    "ours": lambda: asha(CONFIG),
    "stock": lambda: AsyncHyperBandScheduler("training_iteration", "val_mean_ap", "max", 9, 1, 3),
    "median": lambda: MedianStoppingRule("training_iteration", "val_mean_ap", "max", 0, 2),
}


def report(scheduler, trial, value):
    """What becomes of a trial that reports its first validation."""
    scheduler.on_trial_add(CONTROLLER, trial)
    result = {"training_iteration": 1, "val_mean_ap": value}
    decision = scheduler.on_trial_result(CONTROLLER, trial, result)
    scheduler.on_trial_complete(CONTROLLER, trial, result)
    return decision


def trials(*ids):
    return [Trial("x", trial_id=name, stub=True) for name in ids]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_weakest_of_three_trials_is_stopped_also_after_a_restart(make):
    before, after, forgetful = make(), make(), make()
    assert [report(before, trial, value) for trial, value in zip(trials("a", "b"), (0.5, 0.75), strict=True)] == [
        TrialScheduler.CONTINUE
    ] * 2
    a, b, c = trials("a", "b", "c")  # other objects, as Ray Tune restores them
    load_scheduler_state(after, save_scheduler_state(before), [a, b])
    assert report(after, c, 0.25) == TrialScheduler.STOP
    assert report(forgetful, c, 0.25) == TrialScheduler.CONTINUE


def test_the_restored_state_refers_to_the_trials_of_the_resumed_search():
    before, after = MAKERS["median"](), MAKERS["median"]()
    (trial,) = trials("a")
    report(before, trial, 0.5)
    (later,) = trials("a")
    load_scheduler_state(after, save_scheduler_state(before), [later])
    assert list(after._results) == [later] and next(iter(after._results)) is later


def test_a_scheduler_that_cannot_be_saved_is_refused():
    scheduler = asha(CONFIG)
    scheduler.generator = (number for number in range(3))
    with pytest.raises(ValueError, match=r"got AsyncHyperBandScheduler \(.*generator.*allowed: a scheduler that can"):
        save_scheduler_state(scheduler)


def test_a_first_rung_after_the_last_validation_is_refused():
    with pytest.raises(ValueError, match="tune.grace_epochs: got 10, allowed: at most the 9 validations of a trial"):
        asha(CONFIG.with_overrides({"tune.grace_epochs": 10}))
