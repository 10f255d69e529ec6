"""Dry run of a training step on tiny inputs. It finds errors in user-defined parts before a training starts."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from detector.config import Config
from detector.config.checks import require
from detector.config.extensions import INTERFACE, TABLES
from detector.config.groups import DataConfig
from detector.events import EventCD
from detector.lightning_model import build_ssd
from detector.losses import DetectionLoss
from detector.optim.learning_rate import rate_factor
from detector.optim.optimizers import build_optimizer
from detector.preprocess.representation import representation_of

__all__ = ["check_parts", "check_representation"]

SIDES = 48, 72
"""Height and width of the test frame. Most strides do not divide them."""


def check_representation(data: DataConfig) -> None:
    """Check the event representation that `data.preprocess` names by writing two events into one frame.

    Raises:
        ValueError: the representation raises an error.
    """
    with _named("data.preprocess", data.preprocess):
        found = representation_of(data)
        events = np.array([(1, 2, 0, 10), (3, 4, 1, 20)], EventCD)
        found.fill(events, found.empty(1, found.channels, *SIDES), data.delta_t)


def check_parts(config: Config) -> None:
    """Check the representation, backbone, losses, optimizer and learning rate schedule by using each of them once.

    Raises:
        ValueError: one of these parts raises an error, or returns a result of a wrong shape or type.
    """
    check_representation(config.data)
    detector = build_ssd(config)
    name, extractor, criterion = config.model.feature_extractor, detector.feature_extractor, detector.criterion
    assert isinstance(criterion, DetectionLoss)
    with _named("model.feature_extractor", name):
        features = extractor(torch.zeros(2, 1, detector.in_channels, *SIDES))
        shapes = [(2, extractor.cout, *(math.ceil(side / stride) for side in SIDES)) for stride in extractor.strides]
        found = [tuple(level.shape) for level in features]
        require(found == shapes, f"model.feature_extractor {name}: shapes", found, f"{shapes} for frames of {SIDES}")
        types = [str(level.dtype) for level in features]
        wanted = ["torch.float32"] * len(types)
        require(types == wanted, f"model.feature_extractor {name}: types", types, f"{wanted} for frames of float32")
    with _named("loss.cls_loss_func", config.loss.cls_loss_func):
        logits, labels = torch.zeros(1, 4, 3, requires_grad=True), torch.tensor([[-1, 0, 1, 2]])
        focal = {"alpha": config.loss.focal_alpha, "gamma": config.loss.focal_gamma}
        _check_loss("loss.cls_loss_func", criterion.cls_loss_func(logits, labels, "sum", **focal))
    with _named("loss.box_loss_func", config.loss.box_loss_func):
        offsets, targets = torch.zeros(2, 4, requires_grad=True), torch.ones(2, 4)
        loss = criterion.box_loss_func(offsets, targets, beta=config.loss.loc_beta, reduction="sum")
        _check_loss("loss.box_loss_func", loss)
    with _named("optim.optimizer", config.optim.optimizer):
        optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], config.optim)
        is_optimizer = isinstance(optimizer, torch.optim.Optimizer)
        require(is_optimizer, "optim.optimizer: result", optimizer, "a torch.optim.Optimizer")
    with _named("optim.lr_scheduler", config.optim.lr_scheduler):
        for epoch in range(config.train.max_epochs):
            factor = rate_factor(config.optim, float(epoch), float(config.train.max_epochs))
            valid = isinstance(factor, int | float) and 0 <= factor < math.inf
            require(valid, f"optim.lr_scheduler: share of optim.lr in epoch {epoch}", factor, "a number of at least 0")


def _check_loss(key: str, loss: object) -> None:
    valid = isinstance(loss, Tensor) and loss.dim() == 0 and loss.requires_grad and bool(torch.isfinite(loss))
    found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) and loss.dim() else loss
    require(valid, f"{key}: result", found, "a finite scalar tensor with a gradient")


@contextmanager
def _named(key: str, name: str) -> Iterator[None]:
    """Context manager that converts an error in its block to a ValueError with the setting `key` and its value `name`.

    A ValueError is raised unchanged if `name` is built into EvForge, or if the message already starts with `key`.
    """
    try:
        yield
    except Exception as error:  # an object from outside EvForge can raise any error
        if isinstance(error, ValueError) and (name in TABLES[key] or str(error).startswith(key)):
            raise
        raise TABLES[key].error(name, "used", error, INTERFACE) from error
