import pytest
import torch
from toy_dataset import TINY

from detector.config import Config
from detector.config.groups import DataConfig
from evforge.training import dry_step
from evforge.training.dry_step import check_parts, check_representation


@pytest.mark.parametrize(
    ("key", "name", "message"),
    [
        ("model.feature_extractor", "mylab.wrong:Narrow", r"shapes: got \[\(2, 8, 6, 8\), .*allowed: \[\(2, 8, 6, 9\)"),
        (
            "model.feature_extractor",
            "mylab.wrong:Double",
            r"^model.feature_extractor mylab.wrong:Double: types: got \['torch.float64', .*allowed: \['torch.float32'",
        ),
        ("loss.cls_loss_func", "mylab.wrong:constant", "loss.cls_loss_func: result: got 3.0, allowed: a finite scalar"),
        (
            "loss.box_loss_func",
            "mylab.wrong:unreduced",
            r"result: got 'a tensor of shape \(2, 4\)', allowed: a finite scalar",
        ),
        (
            "loss.cls_loss_func",
            "mylab.wrong:refuses",
            r"got 'mylab.wrong:refuses', which cannot be used \(ValueError: Ex",
        ),
        ("data.preprocess", "mylab.wrong:tuples", r"parameters: got \{'size': \(1, 2\)\}, allowed: a dict of numbers"),
        ("optim.optimizer", "mylab.wrong:nothing", "optim.optimizer: result: got None, allowed: a torch.optim.Opt"),
        ("optim.optimizer", "mylab.wrong:NUMBER", "optim.optimizer: got 'mylab.wrong:NUMBER', which cannot be made"),
        ("optim.lr_scheduler", "mylab.wrong:negative", "share of optim.lr in epoch 0: got -1.0, allowed: a number of"),
        (
            "data.preprocess",
            "mylab.wrong:one_channel",
            r"which cannot be used \(IndexError.*allowed: a function or",
        ),
        ("model.feature_extractor", "mylab.exits:Net", r"cannot be imported \(SystemExit: 3\)"),
    ],
)
def test_what_fails_in_a_step_is_refused_before_work_starts(key, name, message):
    with pytest.raises(ValueError, match=message):
        check_parts(Config().with_overrides({**TINY, key: name, "data.classes": ["block"]}))


def test_the_built_in_parts_pass():
    config = Config().with_overrides({"data.classes": ["block", "tower"], "model.num_levels": 2, "train.max_epochs": 3})
    check_parts(config)


def test_the_schedule_is_asked_for_every_epoch(monkeypatch):
    epochs = []
    monkeypatch.setattr(dry_step, "rate_factor", lambda optim, epoch, count: epochs.append((epoch, count)) or 0.5)
    check_parts(Config().with_overrides({"data.classes": ["block"], "train.max_epochs": 3}))
    assert epochs == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize("name", ["histo", "diff", "event_cube", "mylab.representations:levels_representation"])
def test_representations_that_work_pass(name):
    check_representation(DataConfig(preprocess=name))


def test_an_error_of_a_built_in_part_is_not_wrapped_and_that_of_a_stranger_is():
    with pytest.raises(ValueError, match="^too small$"), dry_step._named("data.preprocess", "histo"):
        raise ValueError("too small")
    with pytest.raises(ValueError, match="^data.preprocess: no$"), dry_step._named("data.preprocess", "mylab.a:b"):
        raise ValueError("data.preprocess: no")
    message = r"^data.preprocess: got 'mylab.a:b', which cannot be used \(ValueError: too small\), allowed"
    with pytest.raises(ValueError, match=message), dry_step._named("data.preprocess", "mylab.a:b"):
        raise ValueError("too small")
    message = r"^data.preprocess: got 'histo', which cannot be used \(KeyError: 3\), allowed"
    with pytest.raises(ValueError, match=message), dry_step._named("data.preprocess", "histo"):
        raise KeyError(3)


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (torch.tensor(2.0, requires_grad=True), None),
        (torch.tensor(2.0), "tensor.2.."),
        (torch.tensor(float("nan"), requires_grad=True), "tensor.nan, requires_grad=True."),
        (torch.ones(3, 2, requires_grad=True), r"'a tensor of shape \(3, 2\)'"),
        (3.5, "3.5"),
    ],
)
def test_a_loss_is_a_finite_number_with_a_gradient(loss, found):
    if found is None:
        dry_step._check_loss("key", loss)
    else:
        with pytest.raises(ValueError, match=f"^key: result: got {found}, allowed: a finite scalar tensor with a grad"):
            dry_step._check_loss("key", loss)
