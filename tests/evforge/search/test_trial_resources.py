import pytest

from detector.config import Config
from evforge import EvForgeError
from evforge.cluster.session import Resources
from evforge.search.trial_resources import concurrent_trials, trial_limits, trial_reserves


@pytest.mark.parametrize(
    ("resources", "changes", "count", "threads", "limits"),
    [
        (Resources(8, 0, False), {}, 4, 2, {"cpu": 2}),
        (Resources(8, 0, False), {}, 20, 1, {"cpu": 1}),
        (Resources(8, 0, False), {"tune.max_concurrent": 3}, 20, 2, {"cpu": 2}),
        (Resources(2, 0, False), {"tune.max_concurrent": 4}, 20, 1, {"cpu": 0.5}),
        (Resources(8, 2, False), {}, 20, 4, {"cpu": 4, "gpu": 1}),
        (Resources(8, 2, False), {"tune.max_concurrent": 4}, 20, 2, {"cpu": 2, "gpu": 0.5}),
        (Resources(8, 2, False), {"train.use_gpu": False}, 20, 1, {"cpu": 1}),
        (Resources(2, 0, False), {}, 4, 1, {"cpu": 1.0}),
        (Resources(2, 0, False), {}, 1, 2, {"cpu": 2.0}),
        (Resources(16, 0, False), {}, 4, 4, {"cpu": 4.0}),
        (Resources(16, 0, False), {"tune.max_concurrent": 2}, 4, 8, {"cpu": 8.0}),
        (Resources(2, 0, False), {"tune.max_concurrent": 4}, 8, 1, {"cpu": 0.5}),
        (Resources(16, 2, False), {}, 4, 8, {"cpu": 8.0, "gpu": 1.0}),
        (Resources(16, 2, False), {"tune.max_concurrent": 4}, 4, 4, {"cpu": 4.0, "gpu": 0.5}),
        (Resources(16, 2, False), {"train.use_gpu": False}, 4, 4, {"cpu": 4.0}),
        (Resources(16, 0, True), {"train.use_gpu": True}, 4, 4, {"cpu": 4.0, "gpu": 1.0}),
    ],
)
def test_what_a_trial_reserves(resources, changes, count, threads, limits):
    assert trial_limits(Config().with_overrides(changes), resources, count) == (threads, limits)


@pytest.mark.parametrize(
    ("resources", "changes", "at_a_time", "threads"),
    [
        (Resources(8, 0, False), {}, 4, 1),
        (Resources(8, 0, False), {"train.workers": 3}, 2, 1),
        (Resources(8, 0, False), {"tune.max_concurrent": 1}, 1, 4),
        (Resources(8, 0, False), {"tune.max_concurrent": 9}, 4, 1),  # the workers of a fifth would have no place
        (Resources(16, 4, False), {}, 2, 4),
        (Resources(16, 4, False), {"train.use_gpu": False}, 8, 1),
        (Resources(4, 0, True), {"train.use_gpu": True}, 20, 1),
    ],
)
def test_as_many_trials_as_have_place_for_all_their_workers(resources, changes, at_a_time, threads):
    config = Config().with_overrides({"train.workers": 2, **changes})
    assert concurrent_trials(config, resources, 20) == at_a_time
    assert trial_limits(config, resources, 20) == (threads, {"memory": 1})  # what starts workers reserves no CPU


@pytest.mark.parametrize(
    ("changes", "reserves"),
    [
        ({"train.workers": 2}, {"cpu": 2, "gpu": 2}),
        ({"train.workers": 2, "train.use_gpu": False}, {"cpu": 2}),
        ({"train.workers": 1, "train.use_gpu": False, "tune.max_concurrent": 4}, {"cpu": 4.0}),
    ],
)
def test_what_a_trial_takes_from_the_cluster(changes, reserves):
    assert trial_reserves(Config().with_overrides(changes), Resources(16, 4, False), 20) == reserves


@pytest.mark.parametrize(
    ("resources", "changes", "message"),
    [
        (Resources(2, 0, False), {}, "train.workers: got 3, allowed: at most the 2 CPU cores that there are"),
        (Resources(8, 1, False), {}, "train.workers: got 3, allowed: at most the 1 GPUs that there are"),
    ],
)
def test_a_trial_larger_than_the_cluster_is_refused(resources, changes, message):
    with pytest.raises(EvForgeError, match=message):
        concurrent_trials(Config().with_overrides({"train.workers": 3, **changes}), resources, 4)
