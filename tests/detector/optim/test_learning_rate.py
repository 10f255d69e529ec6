from types import SimpleNamespace

import pytest

from detector.config.groups import OptimConfig
from detector.optim.learning_rate import rate_factor, total_epochs


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
