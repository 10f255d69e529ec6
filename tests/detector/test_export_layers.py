import pytest
import torch
from torch import nn

from detector.export_layers import PackedConv, fold_batch_norms, pack_convolutions


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
