import pytest
import torch

from detector.layers.recurrent import ConvGRU, ConvLSTM


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradient_of_the_lstm_is_that_of_its_steps(channels_last):
    torch.manual_seed(0)
    cell = ConvLSTM(3, 4)
    cell(torch.randn(2, 3, 5, 6), 2)  # there is a state to start from
    state = [s.clone() for s in cell.state]
    x = torch.randn(6, 3, 5, 6)  # T = 3, B = 2
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    upstream = torch.randn(6, 4, 5, 6)

    def run(forward):
        cell.state = [s.clone() for s in state]
        leaf = x.clone().requires_grad_()
        y = forward(leaf)
        return y.detach(), cell.state, torch.autograd.grad((y * upstream).sum(), [leaf, *cell.parameters()])

    def step_by_step(leaf):
        hidden, memory = state
        outputs = []
        for gates_t in cell.x2h(leaf).split(2):
            i, f, o, candidate = (gates_t + cell.h2h(hidden)).chunk(4, dim=1)
            memory = f.sigmoid() * memory + i.sigmoid() * candidate.tanh()
            hidden = o.sigmoid() * memory.tanh()
            outputs.append(hidden)
        cell.state = [hidden.detach(), memory.detach()]
        return torch.cat(outputs)

    torch.testing.assert_close(run(lambda leaf: cell(leaf, 2)), run(step_by_step), atol=1e-5, rtol=1e-4)


def test_lstm_in_bf16_is_close_to_float32():
    torch.manual_seed(0)
    cell, x = ConvLSTM(3, 4), torch.randn(6, 3, 5, 6)
    expected = cell(x, 2)
    cell.reset_all()
    with torch.autocast("cpu", torch.bfloat16):
        found = cell(x, 2)
    assert found.dtype == torch.bfloat16 and cell.state[1].dtype == torch.float32
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.05)
    found.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in cell.parameters())


@pytest.mark.parametrize("make", [ConvLSTM, ConvGRU])
def test_gradient_of_a_single_pixel_in_bf16(make):
    torch.manual_seed(0)
    cell, x = make(8, 8, stride=2).to(memory_format=torch.channels_last), torch.randn(4, 8, 1, 1)
    cell(x, 2).square().sum().backward()
    expected = cell.x2h.weight.grad
    for _ in range(10):
        cell.reset_all()
        cell.zero_grad()
        del [torch.full((size,), torch.nan) for size in (64, 256, 1024, 4096, 16384)][:]  # what fresh memory may hold
        with torch.autocast("cpu", torch.bfloat16):
            y = cell(x, 2)
        y.float().square().sum().backward()
        torch.testing.assert_close(cell.x2h.weight.grad, expected, atol=0.03, rtol=0.05)
