import pytest
import torch
from small_detector import HEIGHT, WIDTH, clip, small_net, small_ssd

from detector.export.backends.torch_export import TORCH_EXPORT, trace
from detector.export.ssd import SSD


@pytest.fixture(scope="module")
def ssd():
    return small_ssd()


@pytest.fixture(scope="module")
def traced(ssd):
    return trace(ssd, HEIGHT, WIDTH)


def test_the_program_is_one_time_step_of_the_detector(ssd, traced):
    program, found = traced
    state = [torch.zeros(shape) for shape in found["state_shapes"]]
    ssd.reset_all()
    with torch.no_grad():
        for frame in clip(2, 1):
            boxes, scores, state = program.module()(frame, state)
            expected_boxes, expected_scores = ssd._boxes(frame[None])
            torch.testing.assert_close(boxes, expected_boxes, atol=1e-3, rtol=0)
            torch.testing.assert_close(scores, expected_scores, atol=1e-5, rtol=0)


def test_the_shapes_of_the_state_are_those_after_a_step(ssd, traced):
    _, found = traced
    ssd.reset_all()
    with torch.no_grad():
        ssd(clip(1, 1))
    kept = [list(part.shape) for module in ssd.modules() for part in getattr(module, "state", [])]
    assert found == {"state_shapes": kept} and kept


def test_a_written_program_keeps_the_state_of_each_stream_after_loading(ssd, traced, tmp_path, monkeypatch):
    monkeypatch.setattr("detector.export.backends.torch_export.trace", lambda *_: traced)
    path = tmp_path / TORCH_EXPORT.file
    found = TORCH_EXPORT.write(ssd, path, HEIGHT, WIDTH)
    info = {"in_channels": ssd.in_channels, "height": HEIGHT, "width": WIDTH, **found}
    model = TORCH_EXPORT.load(path, info, "cpu")
    ssd.reset_all()
    with torch.no_grad():
        for seed in range(2):
            found, expected = model(clip(1, 2, seed), -1.0), ssd(clip(1, 2, seed), -1.0)
            for rows, others in zip(sum(found, []), sum(expected, []), strict=True):
                torch.testing.assert_close(rows, others, atol=1e-3, rtol=0)


def test_a_detector_that_cannot_be_traced_is_refused_in_one_line(monkeypatch):
    ssd = SSD(small_net())
    forward = ssd.feature_extractor.forward
    monkeypatch.setattr(ssd.feature_extractor, "forward", lambda x: forward(x) if x.sum() > 0 else forward(-x))
    with pytest.raises(ValueError, match="^form: torch.export does not support .*the form torchscript$") as error:
        trace(ssd, HEIGHT, WIDTH)
    assert "\n" not in str(error.value)
