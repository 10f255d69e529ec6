from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from detector.config.groups import OptimConfig
from detector.optim.learning_rate import rate_factor, total_epochs
from detector.optim.progress import factor_now


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("none", [0.001, 0.5005, 1, 1, 1, 1]),
        ("exponential", [0.001, 0.5005, 0.5, 0.25, 0.125, 0.0625]),
        ("cosine", [0.001, 0.5005, 1, 0.75, 0.25, 0]),
    ],
)
def test_by_hand(scheduler, expected):
    optim = OptimConfig(lr_scheduler=scheduler, lr_scheduler_step_gamma=0.5, warmup_epochs=1)
    found = [rate_factor(optim, epoch, 4) for epoch in (0, 0.5, 1, 2, 3, 4)]
    assert found == pytest.approx(expected, abs=1e-9)


def test_epochs_of_a_trainer():
    trainer = SimpleNamespace(max_epochs=7, max_steps=3, num_training_batches=10, accumulate_grad_batches=4)
    assert total_epochs(trainer, 20) == 7
    trainer.max_epochs, trainer.max_steps = -1, 6
    assert total_epochs(trainer, 20) == 2  # three steps per epoch
    trainer.max_steps = -1
    assert total_epochs(trainer, 20) == 20
    trainer.max_steps, trainer.num_training_batches = 6, float("inf")
    assert total_epochs(trainer, 20) == 20


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
