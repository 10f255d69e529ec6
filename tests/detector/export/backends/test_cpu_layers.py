import pytest
import torch
from torch import nn

from detector.config.extensions import FEATURE_EXTRACTORS
from detector.export.backends.cpu_layers import (
    ByteConv,
    PackedConv,
    fold_batch_norms,
    pack_convolutions,
    quantize_levels,
)
from detector.utils.torch_compat import cpu_has_vnni


def block():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1))
    layers[1].running_mean.normal_()
    layers[1].running_var.uniform_(0.5, 2)
    nn.init.normal_(layers[1].weight)
    return nn.ModuleDict({"inside": layers}).eval()


def run(module, side=9):
    with torch.no_grad():
        return module["inside"](torch.linspace(-1, 1, 3 * side**2).view(1, 3, side, side))


def test_folded_norms_answer_the_same():
    module = block()
    expected = run(module)
    fold_batch_norms(module)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())
    torch.testing.assert_close(run(module), expected)


@pytest.mark.parametrize("first", [9, 16])
def test_packed_convolutions_answer_the_same_at_any_size(first):
    module = block()
    expected = {side: run(module, side) for side in (9, 16, 5)}
    pack_convolutions(module)
    assert sum(isinstance(layer, PackedConv) for layer in module.modules()) == 2
    for side in (first, 9, 16, 5):
        torch.testing.assert_close(run(module, side), expected[side])


@pytest.mark.skipif(not cpu_has_vnni(), reason="sums of bytes overflow on this processor")
@pytest.mark.parametrize(("bias", "stride"), [(True, 1), (False, 2)])
def test_bytes_are_summed_exactly(bias, stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 8, 3, stride, 1, bias=bias)
    layer = ByteConv(conv)
    conv.weight.data = layer.weight * layer.scales.view(-1, 1, 1, 1)
    for side in (9, 4):  # what was packed for one size is right for another
        x = torch.randn(2, 16, side, side) * torch.tensor([1.0, 50.0]).view(2, 1, 1, 1)
        step = x.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
        with torch.no_grad():
            expected = conv((x / step).round() * step)
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)
        assert torch.equal(layer(x)[:1], layer(x[:1]))
        assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_bytes_of_an_empty_frame():
    conv = nn.Conv2d(3, 2, 3, padding=1)
    found = ByteConv(conv)(torch.zeros(1, 3, 5, 5))
    torch.testing.assert_close(found, conv.bias.detach().view(1, 2, 1, 1).expand(1, 2, 5, 5))


def test_weights_keep_half_a_step():
    conv = nn.Conv2d(4, 3, 3)
    with torch.no_grad():
        conv.weight[1] = 0  # a channel that is off
    layer = ByteConv(conv)
    error = (layer.weight * layer.scales.view(-1, 1, 1, 1) - conv.weight).abs()
    assert (error <= layer.scales.view(-1, 1, 1, 1) * 0.5001).all()


@pytest.mark.parametrize("name", FEATURE_EXTRACTORS)
def test_the_convolutions_of_the_levels_are_in_bytes(name):
    extractor = FEATURE_EXTRACTORS[name](cin=2, base=2, cout=8, num_levels=3)
    levels = extractor.levels
    convs = sum(isinstance(layer, nn.Conv2d) for layer in levels.modules())
    quantize_levels(extractor)
    assert sum(isinstance(layer, ByteConv) for layer in levels.modules()) == convs > 0
    assert not any(isinstance(layer, nn.Conv2d) for layer in levels.modules())
