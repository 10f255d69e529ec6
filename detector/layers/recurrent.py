"""Convolutional recurrent cells.

A cell carries its state from call to call. The state is a plain attribute: not a parameter, not stored in checkpoints,
not broadcast between ranks. Everything here can be scripted.
"""

from typing import Any

import torch
from torch import Tensor, nn

from detector.layers.lstm_function import lstm_sequence
from detector.utils.modes import usable_here

__all__ = ["ConvGRU", "ConvLSTM", "ConvRNN", "stateful_modules"]


def stateful_modules(module: nn.Module) -> list[Any]:
    """The modules inside that carry a state from call to call: those with an attribute `state: list[Tensor]`."""
    return [part for part in module.modules() if isinstance(getattr(part, "state", None), list)]


class ConvRNN(nn.Module):
    """What the convolutional recurrent cells share: the input's convolution and the state.

    Args:
        cin: input channels.
        cout: channels of the state.
        stride: of the convolution of the input.
        gates: number of gates.
    """

    state: list[Tensor]

    def __init__(self, cin: int, cout: int, stride: int, gates: int) -> None:
        super().__init__()
        self.cout = cout
        self.x2h = nn.Conv2d(cin, gates * cout, 3, stride, 1)
        self.state: list[Tensor] = torch.jit.annotate(list[Tensor], [])

    @torch.jit.export
    def reset_all(self) -> None:
        """Clear the memory of all streams."""
        self.state = torch.jit.annotate(list[Tensor], [])

    @torch.jit.export
    def reset(self, mask: Tensor) -> None:
        """Clear the memory of some streams.

        Args:
            mask: (B,), 1 keeps the memory of a stream, 0 clears it.
        """
        cleared: list[Tensor] = []
        for s in self.state:
            if s.size(0) == mask.numel():  # another batch size starts clear anyway
                keep = mask.to(s.device).view(-1, 1, 1, 1) > 0
                cleared.append(torch.where(keep, s, torch.zeros_like(s)))
        self.state = cleared

    def convolve_input(self, x: Tensor) -> Tensor:
        """What the input of all time steps says to the gates.

        The gradient of a bf16 convolution of stride 2 over a single pixel holds memory that oneDNN 3.13 never wrote;
        for one pixel the stride means nothing.
        """
        if not torch.jit.is_scripting() and x.size(2) == 1 and x.size(3) == 1:
            return torch.conv2d(x, self.x2h.weight, self.x2h.bias, padding=1)
        return self.x2h(x)

    def initial_state(self, x: Tensor, batch_size: int, count: int) -> list[Tensor]:
        """The state carried over; zeros where the size or the device of the input changed."""
        shape = [batch_size, self.cout, x.size(2), x.size(3)]
        state: list[Tensor] = []
        for kept in self.state:
            if list(kept.shape) == shape and kept.device == x.device:
                state.append(kept)
        if not torch.jit.is_scripting():
            state = [kept if usable_here(kept) else kept.clone() for kept in state]
        if len(state) != count:
            zeros = torch.zeros(shape, dtype=torch.float32, device=x.device)
            state = [zeros] * count
        return state


class ConvLSTM(ConvRNN):
    """Convolutional LSTM (Shi et al., 2015, without peepholes) over whole sequences.

    The input of all time steps is convolved at once, the state step by step. The cell memory stays in float32.

    Args:
        cin: input channels.
        cout: output channels.
        stride: of the convolution of the input.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__(cin, cout, stride, gates=4)
        self.h2h = nn.Conv2d(cout, 4 * cout, 3, 1, 1, bias=False)
        assert self.x2h.bias is not None
        with torch.no_grad():  # a forget gate that starts open (Jozefowicz et al., 2015)
            self.x2h.bias.zero_()
            self.x2h.bias[cout : 2 * cout] = 1.0

    def forward(self, x: Tensor, batch_size: int) -> Tensor:
        """Advance `batch_size` streams.

        Args:
            x: (T * B, cin, H, W), time-major.
            batch_size: B.

        Returns:
            (T * B, cout, h, w) hidden states.
        """
        gates_x = self.convolve_input(x)
        hidden, memory = self.initial_state(gates_x, batch_size, 2)
        if not torch.jit.is_scripting() and torch.is_grad_enabled():
            states, memory = lstm_sequence(gates_x, self.h2h.weight.to(gates_x.dtype), hidden, memory)
            self.state = [states[-batch_size:].detach(), memory]
            return states
        outputs: list[Tensor] = []
        for gates_t in gates_x.split(batch_size):
            gates = self.h2h(hidden.to(gates_t.dtype)).add_(gates_t)
            in_out_forget, candidate = gates.split([3 * self.cout, self.cout], dim=1)
            i, f, o = in_out_forget.sigmoid().chunk(3, dim=1)
            memory = f * memory + i * candidate.tanh()
            hidden = o * memory.tanh().to(o.dtype)
            outputs.append(hidden)
        self.state = [hidden.detach(), memory.detach()]
        return torch.cat(outputs)


class ConvGRU(ConvRNN):
    """Convolutional GRU (Ballas et al., 2016) over whole sequences.

    Args:
        cin: input channels.
        cout: output channels.
        stride: of the convolution of the input.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__(cin, cout, stride, gates=3)
        self.h2gates = nn.Conv2d(cout, 2 * cout, 3, 1, 1, bias=False)
        self.h2candidate = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)

    def forward(self, x: Tensor, batch_size: int) -> Tensor:
        """Advance `batch_size` streams; as `ConvLSTM.forward`."""
        gates_x = self.convolve_input(x)
        hidden = self.initial_state(gates_x, batch_size, 1)[0]
        outputs: list[Tensor] = []
        for gates_t in gates_x.split(batch_size):
            update_reset, candidate_x = gates_t.split([2 * self.cout, self.cout], dim=1)
            gates = (update_reset + self.h2gates(hidden.to(gates_t.dtype))).sigmoid()
            update, reset = gates.chunk(2, dim=1)
            candidate = (candidate_x + self.h2candidate((reset * hidden).to(gates_t.dtype))).tanh()
            hidden = hidden + update * (candidate - hidden)
            outputs.append(hidden.to(gates_t.dtype))
        self.state = [hidden.detach()]
        return torch.cat(outputs)
