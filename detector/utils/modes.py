"""Modes of torch: the evaluation mode of modules and the inference mode of tensors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["evaluating", "usable_in_this_mode"]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a block with a module in evaluation mode, and then restore the mode of each submodule."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False  # not `eval()`, which a module may override
    try:
        yield
    finally:
        for part in training:
            part.training = True


def usable_in_this_mode(kept: Tensor) -> bool:
    """Return whether a tensor that was kept from an earlier call can be used now.

    A tensor that was created in `torch.inference_mode` cannot be used outside of this mode, because it would break a
    backward pass.
    """
    return torch.is_inference_mode_enabled() or not kept.is_inference()
