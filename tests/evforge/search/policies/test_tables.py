from types import SimpleNamespace

import pytest

from detector.config import Config
from evforge.search.policies.tables import SAMPLERS, SCHEDULERS, make_sampler, make_scheduler

SPACE = SimpleNamespace(random_samples=lambda config, count, seed: [{}] * count, grid_samples=lambda config: [{}])


def config(**leaves):
    return Config().with_overrides({f"tune.{leaf}": value for leaf, value in leaves.items()})


def test_every_entry_can_be_imported():
    assert [callable(table[name]) for table in (SAMPLERS, SCHEDULERS) for name in table] == [True] * 6


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("asha", "AsyncHyperBandScheduler"),
        ("none", "NoneType"),
        ("ray.tune.schedulers:MedianStoppingRule", "MedianStoppingRule"),
        ("ray.tune.schedulers:HyperBandScheduler", "HyperBandScheduler"),
        ("ray.tune.schedulers:FIFOScheduler", "FIFOScheduler"),
    ],
)
def test_schedulers_take_the_settings_that_they_name(name, kind):
    found = make_scheduler(config(scheduler=name, metric="val_mean_ap50", grace_epochs=2), SPACE)
    assert type(found).__name__ == kind
    if kind == "MedianStoppingRule":
        assert (found.metric, found._grace_period, found._time_attr) == ("val_mean_ap50", 2, "training_iteration")


@pytest.mark.parametrize(
    ("name", "kind"), [("optuna", "TPESampler"), ("random", "list"), ("optuna.samplers:CmaEsSampler", "CmaEsSampler")]
)
def test_samplers(name, kind):
    assert type(make_sampler(config(searcher=name), SPACE)).__name__ == kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ashaa",
            "tune.scheduler: got 'ashaa', allowed: asha, pbt, none, .*or an import path such as mylab.module:Name",
        ),
        ("mylab.nothing:Rule", r"got 'mylab.nothing:Rule', which cannot be imported \(ModuleNotFoundError"),
        (
            "math:pi",
            r"tune.scheduler: got 'math:pi', which cannot be called \(TypeError: .*allowed: a function or class",
        ),
        ("builtins:dict", r"tune.scheduler: got 'builtins:dict', which cannot be called \(ValueError"),
        (
            "ray.tune.schedulers:create_scheduler",
            r"which cannot be made \(TypeError: .*allowed: a function or class, see",
        ),
    ],
)
def test_what_is_no_scheduler_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        make_scheduler(config(scheduler=name), SPACE)
