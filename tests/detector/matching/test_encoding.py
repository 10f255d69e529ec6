"""Compiled targets equal those of torch, as machine code and as plain Python."""

import torch

from detector.anchors import Anchors
from detector.matching import encoding, kernels


def plain(loop):
    return getattr(loop, "py_func", loop)


def targets_of(coder, frames):
    features = [torch.zeros(len(frames), 1, -(-64 // stride), -(-96 // stride)) for stride in coder.strides]
    return coder.encode(features, torch.zeros(len(frames), 1, 1, 64, 96), [[frame] for frame in frames])


def test_compiled_plain_and_torch_agree(monkeypatch):
    torch.manual_seed(0)
    coder = Anchors(2, 24, [(1, 1), (2.5, 1.1)])
    corner, size = torch.rand(3, 5, 2) * 60, torch.rand(3, 5, 2) * 40 + 2
    boxes = torch.cat([corner, corner + size, torch.arange(1.0, 6).expand(3, 5)[..., None]], dim=2)
    frames = [boxes[0], boxes[1, :0], boxes[2, :3]]
    monkeypatch.setattr(encoding, "HAS_COMPILER", False)
    expected = targets_of(coder, frames)
    monkeypatch.setattr(encoding, "HAS_COMPILER", True)
    compiled = targets_of(coder, frames)
    names = "_mark _match _accepts _best_free _search _cells_to_look_at _range _overlap _offsets _three _four"
    for name in names.split():
        monkeypatch.setattr(kernels, name, plain(getattr(kernels, name)))
    monkeypatch.setattr(encoding, "fill_targets", plain(kernels.fill_targets))
    in_python = targets_of(coder, frames)
    assert (expected[1] > 0).sum() >= 8
    for loc, labels in (compiled, in_python):
        assert torch.equal(labels, expected[1])
        torch.testing.assert_close(loc, expected[0])
