"""Convolutional recurrent cells.

A cell keeps its state between calls. The state is a plain attribute: not a parameter, not stored in checkpoints, not
broadcast between ranks. All cells can be scripted.
"""

from typing import Any

import torch
from torch import Tensor, nn

from detector.layers.lstm_function import lstm_sequence
from detector.utils.modes import usable_in_this_mode

__all__ = ["ConvGRU", "ConvLSTM", "ConvRNN", "stateful_modules"]


def stateful_modules(module: nn.Module) -> list[Any]:
    """Return all submodules that keep a state between calls in an attribute `state: list[Tensor]`."""
    return [part for part in module.modules() if isinstance(getattr(part, "state", None), list)]


class ConvRNN(nn.Module):
    """Base class of convolutional recurrent cells, with the state and with the convolution of the input.

    Args:
        cin: input channels.
        cout: channels of the state.
        stride: stride of the convolution of the input.
        gates: number of gates, including the candidate.
    """

    state: list[Tensor]

    def __init__(self, cin: int, cout: int, stride: int, gates: int) -> None:
        super().__init__()
        self.cout = cout
        self.x2h = nn.Conv2d(cin, gates * cout, 3, stride, 1)
        self.state: list[Tensor] = torch.jit.annotate(list[Tensor], [])

    @torch.jit.export
    def reset_all(self) -> None:
        """Clear the state of all streams."""
        self.state = torch.jit.annotate(list[Tensor], [])

    @torch.jit.export
    def reset(self, mask: Tensor) -> None:
        """Clear the state of some streams.

        Args:
            mask: (B,) values: 0 clears the state of a stream, 1 keeps the state. If B has changed, all states are
                cleared.
        """
        if len(self.state) > 0 and self.state[0].size(0) != mask.numel():  # the batch size has changed
            self.reset_all()
        keep = mask.view(-1, 1, 1, 1) > 0
        self.state = [torch.where(keep.to(s.device), s, torch.zeros_like(s)) for s in self.state]

    def convolve_input(self, x: Tensor) -> Tensor:
        """Convolve the input of all time steps to its contribution to the gates, (T * B, gates * cout, h, w).

        An input of a single pixel is convolved with stride 1, which gives the same result. With stride 2, the bf16
        gradient of oneDNN 3.13 would contain uninitialised memory.
        """
        if not torch.jit.is_scripting() and x.size(2) == 1 and x.size(3) == 1:
            return torch.conv2d(x, self.x2h.weight, self.x2h.bias, padding=1)
        return self.x2h(x)

    def initial_state(self, x: Tensor, batch_size: int, count: int) -> list[Tensor]:
        """Return the state of the last call, or zeros if the size or the device of the input has changed.

        Args:
            x: convolved input (N, ..., h, w), which defines the size and the device of the state.
            batch_size: number of streams B.
            count: number of state tensors of the cell.

        Returns:
            `count` tensors (B, cout, h, w).
        """
        shape = [batch_size, self.cout, x.size(2), x.size(3)]
        state = self.state
        if len(state) != count or list(state[0].shape) != shape or state[0].device != x.device:
            state = [torch.zeros(shape, dtype=torch.float32, device=x.device)] * count
        if not torch.jit.is_scripting():
            state = [kept if usable_in_this_mode(kept) else kept.clone() for kept in state]
        return state


class ConvLSTM(ConvRNN):
    """Convolutional LSTM (Shi et al., 2015, without peepholes) over whole sequences.

    The input is convolved for all time steps at once, the hidden state step by step. The cell state stays in float32.

    Args:
        cin: input channels.
        cout: output channels.
        stride: stride of the convolution of the input.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__(cin, cout, stride, gates=4)
        self.h2h = nn.Conv2d(cout, 4 * cout, 3, 1, 1, bias=False)
        assert self.x2h.bias is not None
        with torch.no_grad():  # the forget gate gets bias 1 (Jozefowicz et al., 2015)
            self.x2h.bias.zero_()
            self.x2h.bias[cout : 2 * cout] = 1.0

    def forward(self, x: Tensor, batch_size: int) -> Tensor:
        """Run the cell over T time steps of B streams, and update the state.

        Args:
            x: (T * B, cin, H, W) input in time-major order.
            batch_size: number of streams B.

        Returns:
            (T * B, cout, h, w) hidden states of all time steps.
        """
        gates_x = self.convolve_input(x)
        hidden, cell = self.initial_state(gates_x, batch_size, 2)
        if not torch.jit.is_scripting() and torch.is_grad_enabled():
            states, cell = lstm_sequence(gates_x, self.h2h.weight.to(gates_x.dtype), hidden, cell)
            self.state = [states[-batch_size:].detach(), cell]
            return states
        outputs: list[Tensor] = []
        for gates_t in gates_x.split(batch_size):
            gates = self.h2h(hidden.to(gates_t.dtype)).add_(gates_t)
            in_out_forget, candidate = gates.split([3 * self.cout, self.cout], dim=1)
            i, f, o = in_out_forget.sigmoid().chunk(3, dim=1)
            cell = f * cell + i * candidate.tanh()
            hidden = o * cell.tanh().to(o.dtype)
            outputs.append(hidden)
        self.state = [hidden.detach(), cell.detach()]
        return torch.cat(outputs)


class ConvGRU(ConvRNN):
    """Convolutional GRU (Ballas et al., 2016) over whole sequences.

    Args:
        cin: input channels.
        cout: output channels.
        stride: stride of the convolution of the input.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__(cin, cout, stride, gates=3)
        self.h2gates = nn.Conv2d(cout, 2 * cout, 3, 1, 1, bias=False)
        self.h2candidate = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)

    def forward(self, x: Tensor, batch_size: int) -> Tensor:
        """Run the cell over T time steps of B streams, and update the state.

        Args:
            x: (T * B, cin, H, W) input in time-major order.
            batch_size: number of streams B.

        Returns:
            (T * B, cout, h, w) hidden states of all time steps.
        """
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
