import pytest
import torch

from detector.layers.recurrent import ConvGRU, ConvLSTM


def test_lstm_step_by_hand():
    # 1x1 maps see the centre tap only; all weights 0 but the biases: gates i, f, o = 1/2, sigmoid(1), 1/2, g = tanh(2)
    cell = ConvLSTM(1, 1)
    with torch.no_grad():
        cell.x2h.weight.zero_()
        cell.h2h.weight.zero_()
        cell.x2h.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 2.0]))
    i, f, g = torch.tensor(0.5), torch.tensor(1.0).sigmoid(), torch.tensor(2.0).tanh()
    c1 = i * g
    c2 = f * c1 + i * g
    y = cell(torch.zeros(2, 1, 1, 1), batch_size=1)
    torch.testing.assert_close(y.flatten(), torch.stack([0.5 * c1.tanh(), 0.5 * c2.tanh()]))


def test_gru_step_by_hand():
    cell = ConvGRU(1, 1)
    with torch.no_grad():
        for conv in (cell.x2h, cell.h2gates, cell.h2candidate):
            conv.weight.zero_()
        cell.x2h.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))  # update 1/2, reset 1/2, candidate tanh(1)
    candidate = torch.tensor(1.0).tanh()
    y = cell(torch.zeros(2, 1, 1, 1), batch_size=1)
    torch.testing.assert_close(y.flatten(), torch.stack([candidate / 2, candidate * 3 / 4]))


@pytest.mark.parametrize("scripted", [False, True])
def test_gru_is_that_of_the_paper(scripted):
    """Ballas et al., 2016, equations 6 to 9, in float64. 1x1 maps see the centre of a filter only."""
    torch.manual_seed(3)
    cell = ConvGRU(2, 3)
    (wz, wr, w), (bz, br, b) = (part.detach().double().chunk(3) for part in (cell.x2h.weight, cell.x2h.bias))
    (uz, ur), u = cell.h2gates.weight.detach().double().chunk(2), cell.h2candidate.weight.detach().double()
    wz, wr, w, uz, ur, u = (4 * kernel[:, :, 1, 1] for kernel in (wz, wr, w, uz, ur, u))
    with torch.no_grad():
        for conv in (cell.x2h, cell.h2gates, cell.h2candidate):
            conv.weight *= 4  # gates far from 1/2
    x = torch.randn(4, 2, 1, 1)  # T = 4, B = 1
    hidden, expected = torch.zeros(3, dtype=torch.float64), []
    for x_t in x.double().flatten(1):
        z = 1 / (1 + torch.exp(-(wz @ x_t + bz + uz @ hidden)))
        r = 1 / (1 + torch.exp(-(wr @ x_t + br + ur @ hidden)))
        candidate = torch.tanh(w @ x_t + b + u @ (r * hidden))
        hidden = (1 - z) * hidden + z * candidate
        expected.append(hidden)
    found = (torch.jit.script(cell) if scripted else cell)(x, 1)
    torch.testing.assert_close(found.flatten(1).double(), torch.stack(expected), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (6, 1), (1, 6), (6, 6)])
def test_an_input_of_a_single_pixel_is_convolved_like_any_other(size):
    torch.manual_seed(0)
    cell, x = ConvGRU(2, 3, stride=2), torch.randn(4, 2, *size)
    found = cell.convolve_input(x)
    assert found.shape == (4, 9, *(-(-side // 2) for side in size))
    torch.testing.assert_close(found, cell.x2h(x))


@pytest.mark.parametrize("make", [ConvLSTM, ConvGRU])
@pytest.mark.parametrize("scripted", [False, True])
def test_state(make, scripted):
    torch.manual_seed(0)
    cell = make(2, 3, stride=2)
    cell = torch.jit.script(cell) if scripted else cell
    x = torch.randn(4, 2, 6, 6)  # T = 2, B = 2
    with torch.no_grad():
        first = cell(x, 2)
        second = cell(x, 2)
        assert not torch.equal(first, second)
        cell.reset(torch.tensor([1.0, 0.0]))  # state of the second call: kept for stream 0, cleared for stream 1
        third = cell(x, 2)
        torch.testing.assert_close(third[1::2], first[1::2])
        assert not torch.equal(third[0::2], first[0::2])
        cell.reset_all()
        assert torch.equal(cell(x, 2), first)
        assert cell(x, 4).shape == first.shape, "another batch size starts clear"
        stepwise = torch.cat([cell(x[:2], 2), cell(x[2:], 2)])
    torch.testing.assert_close(stepwise, first)


@pytest.mark.parametrize("make", [ConvLSTM, ConvGRU])
def test_gradient_stops_between_calls_and_state_is_in_no_checkpoint(make):
    cell = make(1, 1)
    x = torch.randn(1, 1, 3, 3, requires_grad=True)
    cell(x, 1)
    cell(torch.randn(1, 1, 3, 3), 1).sum().backward()
    assert x.grad is None
    assert not any("state" in key for key in cell.state_dict())
