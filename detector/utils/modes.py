"""Modes of torch: evaluation mode of modules, inference mode of tensors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["evaluating", "usable_here"]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a block in evaluation mode, and then restore the mode of each part of the module."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False  # not `eval()`, which a module may override
    try:
        yield
    finally:
        for part in training:
            part.training = True


def usable_here(kept: Tensor) -> bool:
    """Whether a tensor of an earlier call may be used now: an inference tensor would break a backward pass."""
    return torch.is_inference_mode_enabled() or not kept.is_inference()
