import copy
import math

import pytest
import torch
from small_detector import small_net

from detector.export.form import save_torchscript, script
from detector.export.ssd import SSD, BoxDecoder
from detector.utils.torch_compat import ignoring_torchscript_deprecation

SHAPE = (3, 2, 2, 64, 96)


@pytest.fixture(scope="module")
def detector():
    return small_net(variances=(0.2, 0.3))


@pytest.fixture(scope="module")
def scripted(detector):
    return script(SSD(detector))


def clip(seed=0):
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))


def test_scripted_equals_eager_over_time_and_reset(detector, scripted):
    model = scripted
    model.reset_all()
    detector.reset_all()
    with torch.no_grad():
        for step in range(3):
            loc, logits = model.forward_network_without_box_decoding(clip(step))
            eager_loc, eager_logits = detector(clip(step))
            torch.testing.assert_close(loc, eager_loc)
            torch.testing.assert_close(logits, eager_logits)
            mask = torch.tensor([1.0, 0.0])
            model.reset(mask)
            detector.reset(mask)


def test_detect_equals_get_boxes(detector, scripted):
    model = scripted
    model.reset_all()
    detector.reset_all()
    expected = detector.get_boxes(clip(), score_thresh=0.2, nms_thresh=0.5)
    found = model.detect(clip(), 0.2, 0.5)
    assert sum(len(frame["boxes"]) for step in expected for frame in step) > 50
    for t in range(SHAPE[0]):
        for b in range(SHAPE[1]):
            rows, frame = found[t][b], expected[t][b]
            torch.testing.assert_close(rows[:, 4], frame["scores"])
            assert torch.equal(rows[:, 5].long(), frame["labels"])
            torch.testing.assert_close(rows[:, :2] + rows[:, 2:4], frame["boxes"][:, 2:], atol=1e-3, rtol=0)
            torch.testing.assert_close(rows[:, :2], frame["boxes"][:, :2], atol=1e-3, rtol=0)


def test_forward_gives_every_anchor_and_class_above_the_threshold(detector, scripted):
    model = scripted
    model.reset_all()
    detector.reset_all()
    with torch.no_grad():
        scores = detector(clip())[1].softmax(2)[..., 1:]
    rows = model(clip(), 0.25)
    counts = [[len(rows[t][b]) for b in range(2)] for t in range(3)]
    assert counts == (scores > 0.25).sum((1, 2)).view(3, 2).tolist()


def test_live_memory_is_not_baked_into_the_file(detector, tmp_path):
    detector(clip())
    save_torchscript(SSD(detector), tmp_path / "m.ptjit")
    model = torch.jit.load(tmp_path / "m.ptjit")
    detector.reset_all()
    with torch.no_grad():
        torch.testing.assert_close(model.forward_network_without_box_decoding(clip())[0], detector(clip())[0])


def test_other_anchors_are_refused(detector):
    with pytest.raises(ValueError, match="anchor_list: got .* allowed: the list of the detector"):
        SSD(detector, [(1.0, 1.0)])


def test_counts_are_no_frames(scripted):
    with pytest.raises(torch.jit.Error, match="x: got whole numbers, allowed: floating point frames"):
        scripted(clip().to(torch.uint8))


def test_an_exported_detector_stays_in_evaluation_mode(detector):
    ssd = SSD(detector)
    parent = torch.nn.Sequential(ssd).train()
    assert not any(module.training for module in ssd.modules()) and parent.training
    assert not detector.training
    SSD(copy.deepcopy(detector).train())


@pytest.mark.parametrize("max_decode", [False, True])
def test_empty_and_nan_boxes_are_dropped_as_get_boxes_drops_them(detector, max_decode):
    net = copy.deepcopy(detector)
    net.box_coder.max_decode = max_decode
    with torch.no_grad():  # many boxes far outside of the frame, huge ones, and one shape without numbers
        net.rpn.box_head[-1].weight.mul_(20)
        net.rpn.box_head[-1].bias[2 * 4] = float("nan")
        net.rpn.cls_head[-1].bias[3 * 3 + 1] = float("nan")
    ssd = SSD(net)
    with ignoring_torchscript_deprecation():
        models = {"eager": ssd, "scripted": torch.jit.script(ssd)}
    for limit in (5, 40, 500):
        net.reset_all()
        expected = sum(net.get_boxes(clip(), 0.1, 0.5, limit), [])
        assert sum(len(frame["scores"]) for frame in expected) > 20
        for model in models.values():
            model.reset_all()
            for rows, frame in zip(sum(model.detect(clip(), 0.1, 0.5, limit), []), expected, strict=True):
                assert torch.equal(rows[:, 5].long(), frame["labels"])
                torch.testing.assert_close(rows[:, 4], frame["scores"])
                torch.testing.assert_close(rows[:, :2], frame["boxes"][:, :2], atol=1e-3, rtol=0)
                torch.testing.assert_close(rows[:, :2] + rows[:, 2:4], frame["boxes"][:, 2:], atol=1e-3, rtol=0)
            model.reset_all()
            rows = torch.cat(sum(model(clip(), 0.1), []))
            assert (rows[:, 2:4] > 0).all() and not rows.isnan().any()


def test_the_box_decoder_by_hand():
    # Anchors of 10 x 20 at (50, 40) and of 4 x 8 at (7, 9), in two frames of two streams.
    anchors = torch.tensor([[[50.0, 40, 10, 20], [7, 9, 4, 8]]]).repeat(2, 1, 1)
    offsets = torch.zeros(2, 2, 4)
    offsets[1, 0] = torch.tensor([2.0, -1, 0, math.log(2) / 0.5])
    scores = torch.tensor([[[0.1, 0.9], [0.3, 0.2]], [[0.6, 0.7], [0.0, 0.1]]])
    (streams,) = BoxDecoder()(anchors, offsets, scores, 0.1, 0.5, 0.25, 2)
    # x moves by 2 * 0.1 * 10 = 2, y by -1 * 0.1 * 20 = -2, and the height doubles.
    expected = [
        [[45, 30, 10, 20, 0.9, 2], [5, 5, 4, 8, 0.3, 1]],
        [[47, 18, 10, 40, 0.6, 1], [47, 18, 10, 40, 0.7, 2]],
    ]
    for rows, wanted in zip(streams, expected, strict=True):
        torch.testing.assert_close(rows, torch.tensor(wanted))
