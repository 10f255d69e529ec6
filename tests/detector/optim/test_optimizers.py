import pytest
import torch

from detector.config.groups import OptimConfig
from detector.optim.optimizers import build_optimizer


def weights():
    return [torch.nn.Parameter(torch.tensor([2.0, -3.0])), torch.nn.Parameter(torch.ones(1))]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("torch.optim:SGD", torch.optim.SGD)],
)
def test_the_optimizer_that_is_named_gets_the_weights_the_rate_and_the_decay(name, kind):
    parameters = weights()
    optimizer = build_optimizer(parameters, OptimConfig(optimizer=name, lr=0.125, weight_decay=0.5))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in parameters]
    assert (group["lr"], group["weight_decay"]) == (0.125, 0.5)


def test_a_step_of_gradient_descent_by_hand():
    (parameter, _) = parameters = weights()
    optimizer = build_optimizer(parameters, OptimConfig(optimizer="torch.optim:SGD", lr=0.5, weight_decay=0.25))
    parameter.grad = torch.tensor([1.0, 2.0])
    optimizer.step()
    # w - lr * (g + decay * w)
    torch.testing.assert_close(parameter.data, torch.tensor([2 - 0.5 * 1.5, -3 - 0.5 * 1.25]))


def test_all_weights_are_changed_by_one_kernel_if_the_optimizer_can_and_may():
    assert build_optimizer(weights(), OptimConfig()).defaults["fused"] is True
    assert build_optimizer(weights(), OptimConfig(), fused=False).defaults["fused"] is None


def test_an_optimizer_without_such_a_kernel_is_not_asked_for_one():
    optimizer = build_optimizer(weights(), OptimConfig(optimizer="torch.optim:RMSprop"))
    assert type(optimizer) is torch.optim.RMSprop and "fused" not in optimizer.defaults


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch.optim:Adagram", "^optim.optimizer: got 'torch.optim:Adagram', which cannot be imported"),
        ("math:pi", "^optim.optimizer: got 'math:pi', which cannot be made"),
        ("math:floor", "^optim.optimizer: got 'math:floor', which cannot be made"),
    ],
)
def test_what_makes_no_optimizer_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        build_optimizer(weights(), OptimConfig(optimizer=name))
