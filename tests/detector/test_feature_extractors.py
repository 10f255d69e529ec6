import pytest
import torch

from detector.config.extensions import FEATURE_EXTRACTORS
from detector.feature_extractors import Vanilla


def test_vanilla_has_the_published_number_of_parameters():
    assert round(sum(p.numel() for p in Vanilla(6, 16, 256).parameters()) / 1e6, 1) == 22.8


@pytest.mark.parametrize("name", FEATURE_EXTRACTORS)
@pytest.mark.parametrize(("first_stride", "num_levels"), [(16, 5), (8, 3)])
def test_sizes_for_any_input(name, first_stride, num_levels):
    net = FEATURE_EXTRACTORS[name](2, 4, 8, first_stride=first_stride, num_levels=num_levels).eval()
    assert net.strides == [first_stride * 2**level for level in range(num_levels)]
    features = net(torch.randn(3, 2, 2, 45, 70))
    assert [f.shape for f in features] == [(6, 8, -(-45 // s), -(-70 // s)) for s in net.strides]
    assert net(torch.randn(2, 2, 45, 70))[0].shape[0] == 2, "(N, C, H, W) is one time step"


@pytest.mark.parametrize("name", FEATURE_EXTRACTORS)
def test_a_sequence_equals_its_parts_and_scripted_equals_eager(name):
    torch.manual_seed(0)
    net = FEATURE_EXTRACTORS[name](2, 4, 8, first_stride=8, num_levels=2).eval()
    scripted = torch.jit.script(net)
    x = torch.randn(4, 2, 2, 32, 40)
    with torch.no_grad():
        whole = net(x)
        net.reset_all()
        halves = [net(x[:2]), net(x[2:])]
        twice = [scripted(x), scripted(x)]
        net.reset_all()
        eager = [net(x), net(x)]
    for level in range(2):
        torch.testing.assert_close(torch.cat([half[level] for half in halves]), whole[level])
        for a, b in zip(eager, twice, strict=True):
            torch.testing.assert_close(a[level], b[level])


def test_streams_do_not_leak_into_each_other():
    torch.manual_seed(0)
    net = Vanilla(2, 4, 8, num_levels=2).eval()
    x = torch.randn(3, 2, 2, 32, 40)
    with torch.no_grad():
        both = net(x)
        net.reset_all()
        alone = net(x[:, 1:])
    torch.testing.assert_close(both[0][1::2], alone[0])


def test_wrong_geometry_is_refused():
    with pytest.raises(ValueError, match="first_stride: got 4, allowed: 8 or 16"):
        Vanilla(2, 4, 8, first_stride=4)
    with pytest.raises(ValueError, match="num_levels: got 0, allowed: a number above 0"):
        Vanilla(2, 4, 8, num_levels=0)
    assert Vanilla(2, 4, 8, num_levels=1).strides == [16]


def test_sizes_by_default():
    net = Vanilla(cout=8)
    assert (net.cout, net.strides) == (8, [16, 32, 64, 128, 256])
    assert net.blocks[0][0].weight.shape == (16, 1, 7, 7)


def test_a_reset_clears_the_streams_of_its_mask_on_all_levels():
    torch.manual_seed(0)
    net = Vanilla(2, 4, 8, num_levels=2).eval()
    x = torch.randn(1, 2, 2, 32, 40)
    with torch.no_grad():
        first, second = net(x), net(x)
        net.reset_all()
        net(x)
        net.reset(torch.tensor([0.0, 1.0]))
        found = net(x)
    for level in range(2):
        torch.testing.assert_close(found[level][0], first[level][0])
        torch.testing.assert_close(found[level][1], second[level][1])
        assert not torch.allclose(first[level], second[level])
