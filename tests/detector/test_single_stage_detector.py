from types import SimpleNamespace

import pytest
import torch

from detector.config import Config
from detector.single_stage_detector import Detector, SingleStageDetector, check_backbone

BOX = torch.tensor([[10.0, 8.0, 42.0, 40.0, 1.0]])
EMPTY = torch.zeros(0, 5)


def make_detector(num_classes=2, **kwargs):
    torch.manual_seed(0)
    return SingleStageDetector("Vanilla", 2, num_classes, 4, 8, "PSEE_ANCHORS", num_levels=2, **kwargs)


def clip(steps=4, streams=2, seed=0):
    return torch.rand((steps, streams, 2, 64, 96), generator=torch.Generator().manual_seed(seed))


def test_forward_gives_offsets_and_logits():
    loc, cls = make_detector()(clip())
    anchors = 6 * (4 * 6 + 2 * 3)
    assert loc.shape == (8, anchors, 4) and cls.shape == (8, anchors, 3)


def test_interface_asks_for_its_methods():
    with pytest.raises(TypeError, match="compute_loss.*get_boxes.*reset.*reset_all"):
        Detector()


def test_unlabelled_frames_count_in_neither_loss_but_advance_the_state():
    detector = make_detector().eval()  # batch norm would otherwise see the other frames
    x = clip()
    keep = torch.zeros(2)
    labelled = torch.tensor([[False, False], [True, False], [False, True], [False, False]])
    targets = [[EMPTY, EMPTY], [BOX, EMPTY], [EMPTY, EMPTY], [EMPTY, EMPTY]]
    loss = detector.compute_loss(x, targets, keep, labelled)
    wrong = [[BOX, BOX], [BOX, BOX], [EMPTY, EMPTY], [BOX, BOX]]
    again = detector.compute_loss(x, wrong, keep, labelled)
    for key in loss:
        torch.testing.assert_close(loss[key], again[key])
    x2 = x.clone()
    x2[0, 0] = 0  # an unlabelled frame before a labelled one of its stream
    assert detector.compute_loss(x2, targets, keep, labelled)["cls_loss"] != loss["cls_loss"]
    x3 = x.clone()
    x3[3] = 0  # frames after the last labelled one
    torch.testing.assert_close(detector.compute_loss(x3, targets, keep, labelled)["cls_loss"], loss["cls_loss"])
    background = detector.compute_loss(x, targets, keep, torch.ones(4, 2, dtype=torch.bool))
    assert background["cls_loss"] > loss["cls_loss"], "the other frames would have been trained as background"


def test_a_batch_without_labels_gives_zeros_that_reach_every_parameter():
    detector = make_detector()
    losses = detector.compute_loss(clip(), [[EMPTY, EMPTY]] * 4, torch.ones(2), torch.zeros(4, 2, dtype=torch.bool))
    (losses["loc_loss"] + losses["cls_loss"]).backward()
    assert losses["cls_loss"] == 0
    assert all(p.grad is not None and (p.grad == 0).all() for p in detector.parameters())


def test_reset_mask_clears_streams_before_the_batch():
    detector = make_detector().eval()
    targets = [[BOX, BOX]] * 4
    fresh = detector.compute_loss(clip(), targets, torch.zeros(2))
    carried = detector.compute_loss(clip(), targets, torch.ones(2))
    cleared = detector.compute_loss(clip(), targets, torch.zeros(2))
    assert carried["cls_loss"] != fresh["cls_loss"]
    torch.testing.assert_close(cleared, fresh)


def test_two_losses_may_be_added_before_backward():
    detector = make_detector().eval()
    targets = [[BOX, EMPTY]] * 4
    grads = []
    for together in (True, False):
        detector.zero_grad()
        losses = []
        for seed in (0, 1):
            losses.append(sum(detector.compute_loss(clip(seed=seed), targets[::-1], torch.zeros(2)).values()))
            if not together:
                losses.pop().backward()
        if together:
            sum(losses).backward()
        grads.append([p.grad.clone() for p in detector.parameters()])
    torch.testing.assert_close(*grads)


def test_training_learns_a_box():
    detector = make_detector(num_classes=1, base_size=32)
    optimizer = torch.optim.Adam(detector.parameters(), 3e-3)
    x = torch.zeros(2, 1, 2, 64, 96)
    x[..., 8:40, 10:42] = 1.0
    for _ in range(60):
        losses = detector.compute_loss(x, [[BOX], [BOX]], torch.zeros(1))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    detector.eval().reset_all()
    best = detector.get_boxes(x, score_thresh=0.3)[1][0]
    assert best["labels"][0] == 1
    torch.testing.assert_close(best["boxes"][0], BOX[0, :4], atol=3.0, rtol=0)


def test_get_boxes_sorts_scores_and_labels_from_one():
    detector = make_detector().eval()
    boxes = detector.get_boxes(clip(), score_thresh=0.001)
    assert len(boxes) == 4 and len(boxes[0]) == 2
    first = boxes[0][0]
    assert (first["scores"].diff() <= 0).all() and set(first["labels"].tolist()) <= {1, 2}


def test_class_rows_are_copied_by_name():
    old, new = make_detector(num_classes=2, nlayers=1), make_detector(num_classes=3, nlayers=1)
    with torch.no_grad():
        old.rpn.cls_head[-1].bias.copy_(torch.arange(18.0))  # 6 anchors x (background, car, person)
        new.rpn.cls_head[-1].bias.fill_(-1.0)
    new.map_cls_weights(old, ["car", "person"], ["person", "bus", "car"])
    bias = new.rpn.cls_head[-1].bias.view(6, 4)
    expected = torch.tensor([[3.0 * a, 3.0 * a + 2, -1.0, 3.0 * a + 1] for a in range(6)])
    assert torch.equal(bias, expected)
    rows_old = old.rpn.cls_head[-1].weight.view(6, 3, 8, 3, 3)
    rows_new = new.rpn.cls_head[-1].weight.view(6, 4, 8, 3, 3)
    assert torch.equal(rows_new[:, 3], rows_old[:, 1])


def test_unknown_backbone_is_refused():
    with pytest.raises(
        ValueError,
        match="model.feature_extractor: got 'ResNet', allowed: Vanilla, Vanilla_VGG, Vanilla_VGGRU, .*import path",
    ):
        SingleStageDetector("ResNet", 2, 2, 4, 8, "PSEE_ANCHORS")


def frozen_in_part():
    detector = make_detector().train()
    detector.feature_extractor.blocks[0].eval()
    return detector


def test_boxes_are_those_of_evaluation_mode_and_the_mode_is_restored():
    detector = frozen_in_part()
    before, state = [m.training for m in detector.modules()], {k: v.clone() for k, v in detector.state_dict().items()}
    found = detector.get_boxes(clip(), 0.001)
    assert [m.training for m in detector.modules()] == before
    assert all(torch.equal(value, state[key]) for key, value in detector.state_dict().items())
    detector.eval().reset_all()
    expected = detector.get_boxes(clip(), 0.001)
    assert sum(len(frame["scores"]) for step in expected for frame in step) > 0
    for ours, theirs in zip(sum(found, []), sum(expected, []), strict=True):
        assert torch.equal(ours["boxes"], theirs["boxes"]) and torch.equal(ours["scores"], theirs["scores"])


def test_the_mode_is_restored_where_detection_fails():
    detector = frozen_in_part()
    before = [m.training for m in detector.modules()]
    with pytest.raises(RuntimeError):
        detector.get_boxes(torch.zeros(1, 1, 9, 64, 96))
    assert [m.training for m in detector.modules()] == before


def test_no_boxes_where_none_are_asked_for():
    found = make_detector().get_boxes(clip(), 0.0, max_boxes=0)
    assert [len(frame["scores"]) for step in found for frame in step] == [0] * 8


def test_a_label_above_the_classes_is_refused_with_the_frame_of_the_batch():
    targets = [[EMPTY, EMPTY] for _ in range(4)]
    targets[2][1] = torch.cat([BOX[:, :4], torch.tensor([[3.0]])], dim=1)
    labelled = torch.zeros(4, 2, dtype=torch.bool)
    labelled[2] = True
    with pytest.raises(ValueError, match="targets: frame 5 holds label 3, allowed: whole numbers from 1 to 2"):
        make_detector().compute_loss(clip(), targets, torch.ones(2), labelled)


@pytest.mark.parametrize("extractor", ["Vanilla", "Vanilla_VGGRU"])
def test_training_goes_on_after_detection_in_inference_mode(extractor):
    torch.manual_seed(0)
    detector = SingleStageDetector(extractor, 2, 2, 4, 8, "PSEE_ANCHORS", num_levels=2)
    targets = [[BOX, BOX]] * 4
    with torch.inference_mode():
        detector.get_boxes(clip())
        detector.compute_loss(clip(), targets, torch.ones(2))
    loc, logits = detector(clip())  # the state is carried over
    (loc.sum() + logits.sum()).backward()
    losses = detector.compute_loss(clip(), targets, torch.ones(2))
    (losses["loc_loss"] + losses["cls_loss"]).backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters())


def test_values_by_default():
    detector = SingleStageDetector("Vanilla", 2, 2, 4, 8, "PSEE_ANCHORS")
    coder = detector.box_coder
    assert coder.strides == detector.feature_extractor.strides == [16, 32, 64, 128, 256]
    assert (coder.fg_iou_threshold, coder.bg_iou_threshold, coder.allow_low_quality_matches) == (0.5, 0.3, True)
    assert (coder.base_size, coder.variances, coder.num_classes) == (32, [0.1, 0.2], 2)
    assert len(detector.rpn.cls_head) == 1 and detector.max_boxes_per_input == 500


def test_thresholds_of_detections(monkeypatch):
    detector, seen = make_detector(max_boxes_per_input=77), []
    monkeypatch.setattr(type(detector.box_coder), "decode", lambda *_, **options: seen.append(options))
    detector.get_boxes(clip())
    detector.get_boxes(clip(steps=1, streams=3), 0.1, 0.2, 9)
    names = ("batch_size", "score_thresh", "nms_thresh", "max_boxes_per_input")
    assert [tuple(options[name] for name in names) for options in seen] == [(2, 0.4, 0.5, 77), (3, 0.1, 0.2, 9)]


def test_a_backbone_of_settings_is_checked(monkeypatch):
    config = Config().with_overrides({"model.first_stride": 8, "model.num_levels": 3})
    check_backbone(config)
    with pytest.raises(ValueError, match="first_stride: got 4, allowed: 8 or 16"):
        check_backbone(Config().with_overrides({"model.first_stride": 4}))
    wrong = "model.feature_extractor torch.nn:Identity: got 'a module without strides, cout, reset, reset_all', allowed"
    with pytest.raises(ValueError, match=wrong):
        check_backbone(config.with_overrides({"model.feature_extractor": "torch.nn:Identity"}))
    other = SimpleNamespace(strides=[8, 16], cout=8, reset=None, reset_all=None)
    monkeypatch.setattr(
        "detector.single_stage_detector.FEATURE_EXTRACTORS", SimpleNamespace(make=lambda *_, **__: other)
    )
    wanted = r"strides: got \[8, 16\], allowed: \[8, 16, 32\], from model.first_stride 8 and model.num_levels 3"
    with pytest.raises(ValueError, match=wanted):
        check_backbone(config)
