import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from detector.config import Config
from detector.config.groups import OptimConfig
from detector.optim.learning_rate import rate_factor
from detector.optim.progress import end_resumed_epoch, factor_now, set_learning_rate, take_rates


def at(config, epoch, done, batches, max_epochs):
    """The factor after `done` of an epoch's batches."""
    progress = SimpleNamespace(current=SimpleNamespace(started=epoch + 1, processed=epoch))
    inside = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(processed=done)))
    loop = SimpleNamespace(epoch_progress=progress, epoch_loop=inside)
    return factor_now(SimpleNamespace(fit_loop=loop, num_training_batches=batches, max_epochs=max_epochs), config)


@examples(max_examples=30, deadline=None)
@given(
    scheduler=st.sampled_from(["exponential", "cosine", "none"]),
    warmup=st.floats(0, 3),
    max_epochs=st.integers(4, 30),
    epoch=st.integers(0, 29),
    chunks=st.integers(1, 6),
    before=st.integers(1, 5),
    after=st.integers(1, 5),
)
def test_batch_size_and_workers_leave_the_curve_as_it_is(scheduler, warmup, max_epochs, epoch, chunks, before, after):
    optim = OptimConfig(lr_scheduler=scheduler, lr_scheduler_step_gamma=0.7, warmup_epochs=warmup)
    config = SimpleNamespace(optim=optim, train=SimpleNamespace(max_epochs=99))
    epoch %= max_epochs
    for done in range(chunks + 1):  # the same share of an epoch, in batches of two sizes
        one = at(config, epoch, done * before, chunks * before, max_epochs)
        other = at(config, epoch, done * after, chunks * after, max_epochs)
        assert one == pytest.approx(other, abs=1e-12)
        assert one == pytest.approx(rate_factor(optim, epoch + done / chunks, max_epochs), abs=1e-12)


def trainer_at(epoch, done, inside=True, batches=10, **attributes):
    """A trainer of 4 epochs that has trained `done` batches of an epoch; it is between two epochs if not `inside`."""
    progress = SimpleNamespace(current=SimpleNamespace(started=epoch + inside, processed=epoch))
    current = SimpleNamespace(ready=done, started=done, processed=done, completed=done)
    inner = SimpleNamespace(batch_progress=SimpleNamespace(current=current, is_last_batch=False))
    loop = SimpleNamespace(epoch_progress=progress, epoch_loop=inner, restarting=False)
    return SimpleNamespace(fit_loop=loop, num_training_batches=batches, max_epochs=4, **attributes)


CONFIG = Config().with_overrides(
    {"optim.lr": 0.5, "optim.weight_decay": 0.125, "optim.lr_scheduler_step_gamma": 0.25, "train.max_epochs": 4}
)


@pytest.mark.parametrize(
    ("epoch", "done", "inside", "factor"),
    [
        (0, 0, True, 1),
        (1, 5, True, (1 + math.cos(math.pi * 1.5 / 4)) / 2),
        (1, 12, True, 0.5),  # more batches than the epoch has, after a restart
        (2, 10, False, 0.5),  # the batches are those of the epoch that is over
    ],
)
def test_the_factor_falls_within_an_epoch(epoch, done, inside, factor):
    assert factor_now(
        trainer_at(epoch, done, inside), CONFIG.with_overrides({"optim.lr_scheduler": "cosine"})
    ) == pytest.approx(factor)


def test_the_rate_of_every_group_is_set():
    optimizers = [SimpleNamespace(param_groups=groups) for groups in ([{"lr": 7.0, "betas": 3}, {"lr": 8.0}], [{}])]
    set_learning_rate(trainer_at(1, 0, optimizers=optimizers), CONFIG)
    assert optimizers[0].param_groups == [{"lr": 0.125, "betas": 3}, {"lr": 0.125}]
    assert optimizers[1].param_groups == [{"lr": 0.125}]


def test_a_checkpoint_continues_with_the_rate_and_the_decay_of_the_settings():
    schedule = SimpleNamespace(base_lrs=[9.0, 9.0])
    groups = [{"lr": 9.0, "initial_lr": 9.0, "weight_decay": 9.0}]
    trainer = trainer_at(1, 0, optimizers=[SimpleNamespace(param_groups=groups)])
    trainer.lr_scheduler_configs = [SimpleNamespace(scheduler=schedule)]
    take_rates(trainer, CONFIG)
    assert schedule.base_lrs == [0.5, 0.5]
    assert groups == [{"lr": 0.125, "initial_lr": 0.5, "weight_decay": 0.125}]


@pytest.mark.parametrize(("restarting", "last", "expected"), [(True, True, 10), (True, False, 6), (False, True, 6)])
def test_a_resumed_epoch_whose_last_batch_was_trained_is_complete(restarting, last, expected):
    trainer = trainer_at(1, 6)
    trainer.fit_loop.restarting, trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = restarting, last
    end_resumed_epoch(trainer)
    counts = trainer.fit_loop.epoch_loop.batch_progress.current
    assert vars(counts) == dict.fromkeys(("ready", "started", "processed", "completed"), expected)
