import pytest
import torch

from detector.layers.blocks import SqueezeExciteBlock, VGGBlock


@pytest.mark.parametrize("block", [SqueezeExciteBlock, VGGBlock])
@pytest.mark.parametrize(("stride", "size"), [(1, (5, 7)), (2, (3, 4))])
def test_blocks_round_sizes_up_and_script(block, stride, size):
    module = block(3, 8, stride).eval()
    x = torch.randn(2, 3, 5, 7)
    assert module(x).shape == (2, 8, *size)
    torch.testing.assert_close(torch.jit.script(module)(x), module(x))


def test_subsampling_of_the_shortcut_takes_every_other_pixel():
    block = SqueezeExciteBlock(3, 8, stride=2).eval()
    seen = []
    block.skip.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 3, 5, 8)
    block(x)
    assert torch.equal(seen[0], x[:, :, ::2, ::2])
