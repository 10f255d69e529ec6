"""Convolutional LSTM over a whole sequence with a custom backward pass, which computes the weight gradient once.

The gradient of a weight is a sum over time. Autograd would compute and add a full-size gradient in each step, which
takes longer than the convolution itself if feature maps are small.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

__all__ = ["lstm_sequence"]


def lstm_sequence(gates_x: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Run a convolutional LSTM over T time steps of B streams.

    Args:
        gates_x: (T * B, 4 * C, h, w) convolved input in time-major order. The channels are those of the input gate, the
            forget gate, the output gate and the candidate.
        weight: (4 * C, C, k, k) weight of the convolution of the hidden state, in the dtype of `gates_x`. This
            convolution has stride 1, and its padding keeps the size.
        hidden: (B, C, h, w) initial hidden state. It gets no gradient.
        cell: (B, C, h, w) initial cell state, float32. It gets no gradient.

    Returns:
        The (T * B, C, h, w) hidden states of all time steps, and the (B, C, h, w) last cell state, which has no
        gradient.
    """
    return _Sequence.apply(gates_x, weight, hidden, cell)


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, gates_x: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, channels = hidden.shape[:2]
        padding = weight.shape[-1] // 2
        # Entry t along time is the state before time step t, entry t + 1 the state after this step.
        hiddens = _like(gates_x, len(gates_x) + batch, channels, gates_x.dtype)
        cells = _like(gates_x, len(gates_x) + batch, channels, torch.float32)
        hiddens[:batch], cells[:batch] = hidden, cell
        gates = torch.empty_like(gates_x)
        for start in range(0, len(gates_x), batch):
            now, later = slice(start, start + batch), slice(start + batch, start + 2 * batch)
            torch.add(gates_x[now], torch.conv2d(hiddens[now], weight, padding=padding), out=gates[now])
            i, f, o, candidate = _activate(gates[now])
            torch.mul(f, cells[now], out=cells[later]).addcmul_(i, candidate)
            hiddens[later] = o * cells[later].tanh()
        ctx.save_for_backward(gates, weight, hiddens, cells)
        last = cells[len(gates_x) :].clone()
        ctx.mark_non_differentiable(last)
        return hiddens[batch:], last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        gates, weight, hiddens, cells = ctx.saved_tensors
        frames, batch = len(gates), len(hiddens) - len(gates)
        padding = weight.shape[-1] // 2
        grad_gates = torch.empty_like(gates)
        grad_cell = torch.zeros_like(cells[:batch])
        for start in range(frames - batch, -1, -batch):
            now, later = slice(start, start + batch), slice(start + batch, start + 2 * batch)
            grad_hidden = grads[0][now].float()
            if start + batch < frames:
                grad_hidden = grad_hidden + conv2d_input(hiddens[now].shape, weight, grad_gates[later], padding=padding)
            grad_cell = _step_back(gates[now], cells[now], cells[later], grad_hidden, grad_cell, grad_gates[now])
        grad_weight = conv2d_weight(hiddens[:frames], weight.shape, grad_gates, padding=padding)
        return grad_gates, grad_weight, None, None


def _like(x: Tensor, frames: int, channels: int, dtype: torch.dtype) -> Tensor:
    """Make an uninitialised (frames, channels, h, w) tensor with the memory format of `x` (N, C, h, w)."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        (frames, channels, *x.shape[2:]),
        dtype=dtype,
        device=x.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )


def _activate(gates: Tensor) -> list[Tensor]:
    """Apply the gate activations to `gates` (B, 4 * C, h, w) in place, and return the three gates and the candidate.

    The returned tensors (B, C, h, w) are float32 and have the order input, forget and output gate, candidate.
    """
    channels = gates.shape[1] // 4
    gates[:, : 3 * channels].sigmoid_()
    gates[:, 3 * channels :].tanh_()
    return list(gates.float().chunk(4, dim=1))


def _step_back(
    gates: Tensor, cell: Tensor, later: Tensor, grad_hidden: Tensor, grad_cell: Tensor, grad_gates: Tensor
) -> Tensor:
    """Compute the gradients of one time step.

    Args:
        gates: (B, 4 * C, h, w) gates and candidate after their activations.
        cell: (B, C, h, w) cell state before the step.
        later: (B, C, h, w) cell state after the step.
        grad_hidden: gradient of the hidden state after the step.
        grad_cell: gradient of the cell state after the step.
        grad_gates: (B, 4 * C, h, w) output, the gradient of the gates and candidate before their activations.

    Returns:
        The gradient of the cell state before the step.
    """
    i, f, o, candidate = gates.float().chunk(4, dim=1)
    tanh = later.tanh()
    grad_cell = grad_cell + grad_hidden * o * (1 - tanh * tanh)
    grad_i, grad_f, grad_o, grad_candidate = grad_gates.chunk(4, dim=1)
    grad_i.copy_(grad_cell * candidate * i * (1 - i))
    grad_f.copy_(grad_cell * cell * f * (1 - f))
    grad_o.copy_(grad_hidden * tanh * o * (1 - o))
    grad_candidate.copy_(grad_cell * i * (1 - candidate * candidate))
    return grad_cell * f
