import pytest
import torch
from torch import nn

from detector.utils.modes import evaluating, usable_in_this_mode


def modes(module):
    return [part.training for part in module.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_every_part_is_in_its_own_mode_again(fails):
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()), nn.ReLU())
    net[1][0].eval()  # frozen
    before = modes(net)
    try:
        with evaluating(net):
            assert modes(net) == [False] * 6
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert modes(net) == before == [True, True, True, False, True, True]


def test_tensors_of_inference_mode_are_usable_in_it_only():
    with torch.inference_mode():
        kept = torch.zeros(1)
        assert usable_in_this_mode(kept)
    assert not usable_in_this_mode(kept)
    assert usable_in_this_mode(torch.zeros(1))
