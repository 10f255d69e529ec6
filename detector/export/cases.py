"""Checks of exported TorchScript files of any precision, frozen or not."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from detector.export.form import load_torchscript

__all__ = [
    "TESTCASES",
    "testcase_forward_network_with_and_without_box_decoding_cpu",
    "testcase_forward_network_with_and_without_box_decoding_gpu_if_available",
    "testcase_torch_jit_reset",
]


def testcase_forward_network_with_and_without_box_decoding_cpu(
    nn_filename: str, height: int = 120, width: int = 160
) -> None:
    """Check `forward` and `forward_network_without_box_decoding` of an exported file on the CPU.

    Both methods must run with and without gradients, and return finite values and valid boxes.

    Args:
        nn_filename: exported file.
        height, width: size of the test frames.

    Raises:
        AssertionError: a check fails.
    """
    _check_forward(nn_filename, height, width, torch.device("cpu"))


def testcase_forward_network_with_and_without_box_decoding_gpu_if_available(
    nn_filename: str, height: int = 120, width: int = 160
) -> None:
    """Do the same checks on the GPU as on the CPU. Do nothing if there is no GPU or the file runs only on CPUs."""
    if torch.cuda.is_available() and not _only_for_cpus(nn_filename):
        _check_forward(nn_filename, height, width, torch.device("cuda"))


def testcase_torch_jit_reset(nn_filename: str, height: int = 120, width: int = 160) -> None:
    """Check the methods `reset` and `reset_all` of an exported file, which clear the recurrent state.

    `reset_all` must clear the state of all streams. `reset(mask)` must clear only the streams with a 0 in the mask. If
    the number of streams or the frame size changes, all streams must start with a clear state. A network without state
    must return the same result in every call.

    Args:
        nn_filename: exported file.
        height, width: size of the test frames.

    Raises:
        AssertionError: a check fails.
    """
    model = load_torchscript(nn_filename)
    run = model.forward_network_without_box_decoding
    x = _frames(model, height, width)
    with torch.no_grad():
        first, second = run(x), run(x)
        if not _cells(model):
            assert _equal(first, second), "results change between calls, but no module has an attribute `state`"
            return
        assert any(len(module.state) > 0 for module in _cells(model)), "the network keeps no state"
        assert not _equal(first, second), "the second call returns the result of the first: the state has no effect"
        model.reset_all()
        for module in _cells(model):
            assert all(bool((state == 0).all()) for state in module.state), "reset_all does not clear the state"
        assert _equal(first, run(x)), "the result after reset_all is not that of the first call"
        model.reset(torch.tensor([0.0, 1.0]))
        cleared, kept = zip(*(_streams(found) for found in run(x)), strict=True)
        assert _equal(cleared, [_streams(found)[0] for found in first]), (
            "the result after reset(mask) is not that of the first call"
        )
        assert _equal(kept, [_streams(found)[1] for found in second]), (
            "reset(mask) changes a stream that it should keep"
        )
        for other in (x[:, :1], _frames(model, height + 32, width)):
            found = run(other)
            model.reset_all()
            assert _equal(found, run(other)), "another batch or frame size does not start with a clear state"


TESTCASES: dict[str, Callable[[str, int, int], None]] = {
    "forward with and without box decoding, CPU": testcase_forward_network_with_and_without_box_decoding_cpu,
    "forward with and without box decoding, GPU": (
        testcase_forward_network_with_and_without_box_decoding_gpu_if_available
    ),
    "reset": testcase_torch_jit_reset,
}


def _check_forward(nn_filename: str, height: int, width: int, device: torch.device) -> None:
    model = load_torchscript(nn_filename, device=device)
    x = _frames(model, height, width).to(device)
    steps, streams = x.shape[:2]
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            model.reset_all()
            loc, logits = model.forward_network_without_box_decoding(x)
            assert loc.shape[:2] == logits.shape[:2] and loc.size(0) == steps * streams and loc.size(2) == 4
            assert bool(torch.isfinite(loc).all() and torch.isfinite(logits).all()), "predictions are not finite"
            model.reset_all()
            boxes = model.forward(x, 0.0)
            assert len(boxes) == steps and all(len(step) == streams for step in boxes)
            for rows in (rows for step in boxes for rows in step):
                _check_rows(rows, height, width, logits.size(2) - 1)


def _check_rows(rows: Tensor, height: int, width: int, num_classes: int) -> None:
    assert rows.dim() == 2 and rows.size(1) == 6, f"rows have shape {tuple(rows.shape)}, not (M, 6)"
    x, y, w, h, score, label = rows.unbind(1)
    eps = 1e-3
    assert bool((x >= 0).all() and (y >= 0).all() and (w >= 0).all() and (h >= 0).all()), "boxes leave the frame"
    assert bool((x + w <= width + eps).all() and (y + h <= height + eps).all()), "boxes leave the frame"
    assert bool((score > 0).all() and (score <= 1).all()), "scores are outside 0..1"
    assert bool((label >= 1).all() and (label <= num_classes).all()), "labels are outside 1..K"


def _frames(model: torch.jit.ScriptModule, height: int, width: int, steps: int = 3, streams: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((steps, streams, model.in_channels, height, width), generator=generator)


def _streams(found: Tensor) -> tuple[Tensor, ...]:
    """Split a (T * 2, ...) tensor into the (T, ...) tensors of the two streams."""
    return found.unflatten(0, (-1, 2)).unbind(1)


def _only_for_cpus(nn_filename: str) -> bool:
    return any(hasattr(module, "packed") for module in load_torchscript(nn_filename).modules())


def _cells(model: torch.jit.ScriptModule) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "state")]


def _equal(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
