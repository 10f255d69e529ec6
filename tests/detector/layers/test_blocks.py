import pytest
import torch

from detector.layers import ConvGRU, ConvLSTM, SqueezeExciteBlock, VGGBlock


@pytest.mark.parametrize("block", [SqueezeExciteBlock, VGGBlock])
@pytest.mark.parametrize(("stride", "size"), [(1, (5, 7)), (2, (3, 4))])
def test_blocks_round_sizes_up_and_script(block, stride, size):
    module = block(3, 8, stride).eval()
    x = torch.randn(2, 3, 5, 7)
    assert module(x).shape == (2, 8, *size)
    torch.testing.assert_close(torch.jit.script(module)(x), module(x))


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


@pytest.mark.parametrize("make", [ConvLSTM, ConvGRU])
@pytest.mark.parametrize("scripted", [False, True])
def test_memory(make, scripted):
    torch.manual_seed(0)
    cell = make(2, 3, stride=2)
    cell = torch.jit.script(cell) if scripted else cell
    x = torch.randn(4, 2, 6, 6)  # T = 2, B = 2
    with torch.no_grad():
        first = cell(x, 2)
        second = cell(x, 2)
        assert not torch.equal(first, second)
        cell.reset(torch.tensor([1.0, 0.0]))  # the second call's memory: kept for stream 0, cleared for stream 1
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


def test_subsampling_of_the_shortcut_takes_every_other_pixel():
    block = SqueezeExciteBlock(3, 8, stride=2).eval()
    seen = []
    block.skip.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 3, 5, 8)
    block(x)
    assert torch.equal(seen[0], x[:, :, ::2, ::2])
