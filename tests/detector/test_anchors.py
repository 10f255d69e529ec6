"""Anchors: geometry by hand, targets, and decoded boxes against one frame and class at a time."""

import io
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from detector.anchors import ANCHOR_LISTS, AnchorLayer, Anchors
from detector.box import assign_priors, batch_box_iou, deltas_to_bbox, pack_boxes_list, xywh2xyxy


def feature_maps(coder: Anchors, num_frames: int, height: int, width: int) -> list[Tensor]:
    return [torch.zeros(num_frames, 1, -(-height // stride), -(-width // stride)) for stride in coder.strides]


def random_predictions(seed: int, num_frames: int, num_anchors: int, num_classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    loc = torch.randn(num_frames, num_anchors, 4, generator=generator)
    return loc, torch.rand(num_frames, num_anchors, num_classes, generator=generator)


# Geometry


def test_generate_anchors_by_hand():
    sizes = AnchorLayer.generate_anchors(32, [(1, 1), (4, 1), (0.25, 1.5)])
    assert sizes.tolist() == [[32, 32], [16, 64], [96, 24]]  # ratio = height / width at constant area


def test_named_lists():
    assert ANCHOR_LISTS["PSEE_ANCHORS"] == [(1 / 3, 1), (0.5, 1), (1, 1), (1, 1.5), (2, 1), (3, 1)]
    coco = ANCHOR_LISTS["COCO_ANCHORS"]
    assert len(coco) == 9
    assert {ratio for ratio, _ in coco} == {0.5, 1, 2}
    assert sorted({scale for _, scale in coco}) == pytest.approx([1, 2 ** (1 / 3), 2 ** (2 / 3)])


def test_layer_by_hand():
    layer = AnchorLayer(32, [(1, 1), (4, 1)])
    centres = layer.make_grid(2, 3, 16)
    assert centres.shape == (2, 3, 2, 2)
    assert centres[1, 2].tolist() == [[40, 24]] * 2
    grid = layer(torch.tensor([5, 7, 2, 3]), 16)
    assert grid.shape == (2, 3, 2, 4)
    assert grid[1, 0].tolist() == [[8, 24, 32, 32], [8, 24, 16, 64]]


def test_layer_caches_until_size_or_stride_change():
    layer = AnchorLayer()
    grid = layer(torch.tensor([4, 4]), 8)
    assert layer(torch.tensor([4, 4]), 8) is grid
    assert layer(torch.tensor([4, 4]), 16)[0, 0, 0, 0] == 8
    assert layer(torch.tensor([2, 4]), 16).shape[:2] == (2, 4)


def test_anchors_are_ordered_by_level_row_column_shape():
    coder = Anchors(2, 32, [(1, 1), (4, 1)], first_stride=8)
    x = torch.zeros(3, 1, 16, 24)
    anchors = coder(feature_maps(coder, 3, 16, 24), x)
    assert anchors.shape == (3, (2 * 3 + 1 * 2) * 2, 4)
    assert anchors[2, 1].tolist() == [4, 4, 16, 64]
    assert anchors[2, 2].tolist() == [12, 4, 32, 32]
    assert anchors[2, 6].tolist() == [4, 12, 32, 32]
    assert anchors[2, 12].tolist() == [8, 8, 64, 64]  # level 1 has twice the size and the stride


def test_anchors_are_cached_until_shapes_or_batch_change():
    coder = Anchors(2)
    x, features = torch.zeros(2, 1, 64, 96), feature_maps(Anchors(2), 2, 64, 96)
    assert coder.has_changed(features, x)
    anchors = coder(features, x)
    assert not coder.has_changed(features, x)
    assert coder(features, x).data_ptr() == anchors.data_ptr()
    assert coder.has_changed([feature[:1] for feature in features], x[:1])
    assert coder.has_changed([features[0], features[1][..., :1]], x)
    assert coder([feature[:1] for feature in features], x[:1]).shape[0] == 1


def test_anchors_stay_float32_and_out_of_checkpoints():
    coder = Anchors(2, 33.3).bfloat16()
    features = [feature.bfloat16() for feature in feature_maps(coder, 1, 700, 1280)]
    anchors = coder(features, torch.zeros(1, 1, 700, 1280))
    assert anchors.dtype == torch.float32
    assert torch.equal(anchors, Anchors(2, 33.3)(features, torch.zeros(1, 1, 700, 1280)))
    assert coder.state_dict() == {}


def test_scripted_equals_eager():
    coder = Anchors(3, first_stride=8)
    scripted = torch.jit.script(coder)
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    for height, width, num_frames in ((96, 160, 2), (96, 160, 2), (50, 70, 2), (50, 70, 3)):
        features, x = feature_maps(coder, num_frames, height, width), torch.zeros(num_frames, 1, height, width)
        assert scripted.has_changed(features, x) == coder.has_changed(features, x)
        assert torch.equal(scripted(features, x), coder(features, x))
        assert not scripted.has_changed(features, x)
    assert torch.equal(torch.jit.load(file)(features, x), coder(features, x))
    layer = AnchorLayer(48)
    assert torch.equal(torch.jit.script(layer)(torch.tensor([3, 5]), 8), layer(torch.tensor([3, 5]), 8))
    with pytest.raises(torch.jit.Error, match="xs: got 1 feature maps, allowed: 3"):
        scripted(features[:1], x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anchor_list": "COCO"}, "anchor_list: got 'COCO', allowed: one of PSEE_ANCHORS, COCO_ANCHORS"),
        ({"anchor_list": []}, r"anchor_list: got \[\]"),
        ({"anchor_list": [(1, 0)]}, r"anchor_list: got \[\(1, 0\)\]"),
        ({"num_levels": 0}, "num_levels: got 0, allowed: a number of at least 1"),
        ({"base_size": -1}, "base_size: got -1"),
        ({"first_stride": 0}, "first_stride: got 0"),
        ({"variances": [0.1]}, r"variances: got \[0.1\]"),
        ({"fg_iou_threshold": 0}, "fg_iou_threshold: got 0, allowed: a number above 0"),
        ({"bg_iou_threshold": 0.6}, r"bg_iou_threshold: got 0.6, allowed: at most anchors.fg_iou_threshold \(0.5\)"),
    ],
)
def test_arguments_outside_their_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Anchors(**arguments)


def test_as_many_feature_maps_as_levels():
    with pytest.raises(ValueError, match="xs: got 1 feature maps, allowed: 2"):
        Anchors(2)([torch.zeros(1, 1, 4, 4)], torch.zeros(1, 1, 64, 64))


# Targets. That `encode` equals `assign_priors` frame by frame stands in test_assignment.


def test_encode_by_hand():
    # One 32 px anchor at (8, 8), (24, 8), ... The box fits the second but for 4 px to the right, overlap
    # 28 / 36 = 0.78. With the third it shares 20 of 44 px (0.45: ignored), with the first 12 of 52 (background).
    coder = Anchors(1, 32, [(1, 1)])
    features, x = feature_maps(coder, 2, 16, 64), torch.zeros(1, 2, 1, 16, 64)
    box = torch.tensor([[12.0, -8, 44, 24, 2]])
    loc, labels = coder.encode(features, x, [[box, box[:0]]])
    assert labels.tolist() == [[0, 2, -1, 0], [0, 0, 0, 0]]
    assert labels.dtype == torch.int64
    assert loc.dtype == torch.float32
    assert loc[0, 1].tolist() == pytest.approx([4 / (0.1 * 32), 0, 0, 0])
    assert loc.count_nonzero() == 1


def test_encode_takes_arrays_and_tensors_and_leaves_them():
    coder = Anchors(2)
    features, x = feature_maps(coder, 2, 96, 96), torch.zeros(2, 1, 1, 96, 96)
    array = np.zeros(1, [("class_id", "u4"), ("h", "f4"), ("w", "f4"), ("y", "f4"), ("x", "f4"), ("t", "i8")])
    array["x"], array["y"], array["w"], array["h"], array["class_id"] = 10, 20, 40, 30, 3
    rows = torch.tensor([[10.0, 20, 50, 50, 3, 77]], dtype=torch.float64)
    loc, labels = coder.encode(features, x, [[array], [rows]])
    assert (labels[0] == 3).any()
    assert torch.equal(loc[0], loc[1])
    assert torch.equal(labels[0], labels[1])
    assert rows.tolist() == [[10, 20, 50, 50, 3, 77]]


def test_encode_takes_the_memory_of_an_earlier_result_if_it_fits():
    coder = Anchors(2)
    features, x = feature_maps(coder, 2, 96, 96), torch.zeros(2, 1, 1, 96, 96)
    box, none = torch.tensor([[10.0, 20, 50, 50, 3]]), torch.zeros(0, 5)
    first = coder.encode(features, x, [[box], [box]])
    expected = coder.encode(features, x, [[none], [box]])
    again = coder.encode(features, x, [[none], [box]], out=first)
    assert again is first
    assert torch.equal(again[0], expected[0]) and torch.equal(again[1], expected[1])
    one = coder.encode([feature[:1] for feature in features], x[:1], [[box]], out=first)
    assert len(one[0]) == 1


def test_encode_wants_a_target_a_frame():
    coder = Anchors(1)
    with pytest.raises(ValueError, match="targets: got 1 frames, allowed: one for each of the 2 frames"):
        coder.encode(feature_maps(coder, 2, 32, 32), torch.zeros(2, 1, 1, 32, 32), [[torch.zeros(0, 5)]])


def test_encode_is_float32_under_autocast():
    coder = Anchors(5)
    features, x = feature_maps(coder, 1, 720, 1280), torch.zeros(1, 1, 1, 720, 1280)
    targets = [[torch.tensor([[1200.3, 600.1, 1271.9, 699.7, 1]])]]
    expected = coder.encode(features, x, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loc, labels = coder.encode([feature.bfloat16() for feature in features], x.bfloat16(), targets)
    assert torch.equal(loc, expected[0])
    assert torch.equal(labels, expected[1])


def test_encode_after_decode_in_inference_mode():
    coder = Anchors(1)
    features, x = feature_maps(coder, 1, 32, 32), torch.zeros(1, 1, 1, 32, 32)
    with torch.inference_mode():
        coder.decode(features, x, *random_predictions(0, 1, 24, 2), batch_size=1)
    loc, _ = coder.encode(features, x, [[torch.tensor([[0.0, 0, 30, 30, 1]])]])
    assert not loc.is_inference()


def test_encode_anchors_takes_any_anchors():
    anchors = torch.tensor([[5.0, 5, 10, 10], [100, 50, 20, 40], [5, 4, 10, 8]])
    targets = [torch.tensor([[0.0, 0, 10, 10, 4]]), torch.zeros(0, 5)]
    loc, labels = Anchors(bg_iou_threshold=0.1).encode_anchors(anchors, xywh2xyxy(anchors), targets)
    assert labels.tolist() == [[4, 0, 4], [0, 0, 0]]
    assert loc[0].flatten().tolist() == pytest.approx([0] * 9 + [1 / 0.8, 0, math.log(10 / 8) / 0.2])


def test_set_low_quality_matches_changes_its_arguments_as_assign_priors_does():
    torch.manual_seed(0)
    coder = Anchors(2, first_stride=8)
    corners = xywh2xyxy(coder(feature_maps(coder, 1, 64, 64), torch.zeros(1, 1, 64, 64))[0])
    corner = torch.rand(3, 6, 2) * 50
    boxes = torch.cat([corner, corner + 5 + torch.rand(3, 6, 2) * 30, torch.ones(3, 6, 1)], dim=2)
    sizes = [6, 0, 2]
    packed, counts = pack_boxes_list([frame[:size] for frame, size in zip(boxes, sizes, strict=True)])
    assert counts == sizes
    ious = batch_box_iou(corners, packed[..., :4])
    best_iou, best = ious.max(dim=2)
    returned = coder.set_low_quality_matches(ious, best, best_iou, sizes)
    assert returned[0] is best
    assert returned[1] is best_iou
    assert (best_iou == 2).sum(dim=1).tolist() == sizes
    for frame, size in ((0, 6), (2, 2)):
        assigned, labels = assign_priors(packed[frame, :size, :4], torch.arange(1, size + 1), corners, 0.5, 0.3)
        positive = best_iou[frame] >= 0.5
        assert torch.equal(labels[positive], best[frame][positive] + 1)
        assert torch.equal(assigned[positive], packed[frame, best[frame][positive], :4])


# Boxes


def test_decode_undoes_encode():
    coder = Anchors(3)
    features, x = feature_maps(coder, 4, 96, 160), torch.zeros(2, 2, 1, 96, 160)
    frames: list[list[float]] = [[10, 10, 40, 50, 1], [60, 20, 150, 90, 3], [100, 5, 120, 25, 2], [0, 0, 96, 96, 3]]
    targets = [[torch.tensor([frames[0]]), torch.tensor([frames[1]])], [torch.tensor([row]) for row in frames[2:]]]
    loc, labels = coder.encode(features, x, targets)
    scores = torch.nn.functional.one_hot(labels.clamp(min=0), 4)[..., 1:] * 0.9
    decoded = coder.decode(features, x, loc, scores, batch_size=2)
    assert [len(step) for step in decoded] == [2, 2]
    for found, row in zip([frame for step in decoded for frame in step], frames, strict=True):
        assert found["labels"].tolist() == [row[4]]
        assert found["scores"].tolist() == pytest.approx([0.9])
        assert found["boxes"][0].tolist() == pytest.approx(row[:4], abs=1e-3)


def decode_one_by_one(boxes: Tensor, scores: Tensor, score_thresh: float, nms_thresh: float, topk: int) -> list[tuple]:
    """One frame at a time, one class at a time: (score, label, box) by descending score."""
    pairs = [(score.item(), anchor, label) for anchor, row in enumerate(scores) for label, score in enumerate(row)]
    pairs = sorted((pair for pair in pairs if pair[0] > score_thresh), reverse=True)[:topk]
    found = []
    for label in range(scores.shape[1]):
        mine = [(score, anchor) for score, anchor, other in pairs if other == label]
        if mine:
            group = boxes[[anchor for _, anchor in mine]]
            for kept in nms(group, torch.tensor([score for score, _ in mine]), nms_thresh).tolist():
                found.append((mine[kept][0], label + 1, group[kept].tolist()))
    return sorted(found, reverse=True)


@pytest.mark.parametrize(("score_thresh", "topk"), [(0.001, 40), (0.7, 500), (0.999999, 500)])
def test_decode_equals_one_frame_and_class_at_a_time(score_thresh, topk):
    coder = Anchors(2)
    features, x = feature_maps(coder, 6, 48, 64), torch.zeros(3, 2, 1, 48, 64)
    anchors = coder(features, x)
    loc, scores = random_predictions(1, 6, anchors.shape[1], 3)
    loc *= 3
    decoded = coder.decode(features, x, loc, scores, 2, score_thresh, 0.3, topk)
    boxes = deltas_to_bbox(loc, anchors)
    boxes = torch.stack([boxes[..., i].clamp(0, (64, 48)[i % 2]) for i in range(4)], dim=-1)
    for n, found in enumerate([frame for step in decoded for frame in step]):
        expected = decode_one_by_one(boxes[n], scores[n], score_thresh, 0.3, topk)
        expected = [row for row in expected if row[2][0] < row[2][2] and row[2][1] < row[2][3]]  # seen in the frame
        assert found["scores"].tolist() == [score for score, _, _ in expected]
        assert found["labels"].tolist() == [label for _, label, _ in expected]
        assert torch.allclose(found["boxes"], torch.tensor([box for _, _, box in expected]).view(-1, 4), atol=1e-4)


def test_batched_decode_keeps_the_topk_before_suppression():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]])
    scores = torch.tensor([[[0.9, 0.0], [0.8, 0.7], [0.6, 0.0]]])
    coder = Anchors()
    found = coder.batched_decode(boxes, scores, 0.1, 0.5)[0]
    assert found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert found["labels"].tolist() == [1, 2, 1]
    assert found["boxes"].tolist() == boxes[0].tolist()
    found = coder.batched_decode(boxes, scores, 0.1, 0.5, topk=2)[0]  # 0.9 and 0.8, which overlap
    assert found["scores"].tolist() == pytest.approx([0.9])


def test_max_decode_takes_the_best_class_of_an_anchor():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [20, 20, 30, 30]]])
    scores = torch.tensor([[[0.9, 0.8], [0.3, 0.4]]])
    found = Anchors(max_decode=True).batched_decode(boxes, scores, 0.1, 0.5)[0]
    assert found["labels"].tolist() == [1, 2]
    assert len(Anchors().batched_decode(boxes, scores, 0.1, 0.5)[0]["labels"]) == 4


def test_frames_and_classes_never_suppress_each_other():
    # The same box in 1000 frames and 7 classes, its coordinates on both sides of 0 and beyond any frame.
    boxes = torch.tensor([-5000.0, -20, 5000.4, 9000]).expand(1000, 1, 4)
    scores = torch.linspace(0.1, 0.9, 7).expand(1000, 1, 7)
    found = Anchors().batched_decode(boxes, scores, 0.05, 0.5)
    assert all(frame["labels"].tolist() == [7, 6, 5, 4, 3, 2, 1] for frame in found)


def test_decode_crops_to_the_frame_and_drops_what_is_outside():
    coder = Anchors(1, 32, [(1, 1)])
    features, x = feature_maps(coder, 1, 16, 32), torch.zeros(1, 1, 16, 32)  # anchors at (8, 8) and (24, 8)
    loc = torch.zeros(1, 2, 4)
    loc[0, 1, 0] = 20  # 64 px to the right
    found = coder.decode(features, x, loc, torch.full((1, 2, 1), 0.9), 1)[0][0]
    assert found["boxes"].tolist() == [[0, 0, 24, 16]]


def test_decode_of_nothing():
    coder = Anchors(1)
    features, x = feature_maps(coder, 2, 32, 32), torch.zeros(2, 1, 1, 32, 32)
    loc, scores = random_predictions(2, 2, 24, 3)
    decoded = coder.decode(features, x, loc, scores * 0.1, 1)
    assert [len(step) for step in decoded] == [1, 1]
    assert decoded[1][0]["boxes"].shape == (0, 4)
    assert decoded[1][0]["scores"].shape == decoded[1][0]["labels"].shape == (0,)
    with pytest.raises(ValueError, match="batch_size: got 3, allowed: a divisor of the 2 frames"):
        coder.decode(features, x, loc, scores, 3)


def test_decode_of_half_precision_is_float32():
    coder = Anchors(1)
    features, x = feature_maps(coder, 1, 32, 32), torch.zeros(1, 1, 1, 32, 32)
    loc, scores = random_predictions(3, 1, 24, 3)
    found = coder.decode(features, x, loc.half(), scores.half(), 1)[0][0]
    expected = coder.decode(features, x, loc.half().float(), scores.half().float(), 1)[0][0]
    assert found["boxes"].dtype == found["scores"].dtype == torch.float32
    assert torch.equal(found["boxes"], expected["boxes"])


# Faulty input


@pytest.mark.parametrize("max_decode", [False, True])
def test_nan_displaces_no_detection(max_decode):
    coder = Anchors(2, max_decode=max_decode)
    x, features = torch.zeros(1, 1, 1, 64, 96), feature_maps(coder, 1, 64, 96)
    loc, scores = torch.zeros(1, 180, 4), torch.full((1, 180, 2), 0.01)
    scores[0, 60] = torch.tensor([0.9, math.nan])
    scores[0, 20] = 0.95
    loc[0, 20, 1] = math.nan
    scores[0, 90] = math.nan
    decoded = coder.decode(features, x, loc, scores, 1, 0.1, 0.5, 1)[0][0]
    boxes = deltas_to_bbox(loc, coder(features, x))
    (plain,) = coder.batched_decode(boxes, scores, 0.1, 0.5, 1)
    for found in (decoded, plain):
        assert found["scores"].tolist() == pytest.approx([0.9]) and found["labels"].tolist() == [1]
    assert [len(found["scores"]) for found in coder.batched_decode(boxes, scores, 0.1, 0.5, 0)] == [0]
    assert len(coder.decode(features, x, loc, scores, 1, 0.1, 0.5, 0)[0][0]["scores"]) == 0


def test_boxes_without_area_are_no_detections():
    boxes = torch.tensor([[[5.0, 5, 5, 9], [5, 5, 9, 4], [0, 0, 4, 4]]])
    (found,) = Anchors(1).batched_decode(boxes, torch.tensor([[[0.9], [0.8], [0.7]]]), 0.1, 0.5)
    assert found["boxes"].tolist() == [[0, 0, 4, 4]]


def test_what_was_cached_in_inference_mode_breaks_no_training():
    coder = Anchors(2)
    x, features = torch.zeros(1, 1, 1, 64, 96), feature_maps(coder, 1, 64, 96)
    with torch.inference_mode():
        coder(features, x)
        out = coder.encode(features, x, [[torch.zeros(0, 5)]])
    loc = torch.zeros(1, 180, 4, requires_grad=True)
    deltas_to_bbox(loc, coder(features, x)).sum().backward()
    coder.encode(features, x, [[torch.tensor([[1.0, 2, 30, 40, 1]])]], out=out)
    layer = AnchorLayer()
    with torch.inference_mode():
        layer(torch.tensor([4, 6]), 16)
    deltas_to_bbox(torch.zeros(4, 6, 6, 4, requires_grad=True), layer(torch.tensor([4, 6]), 16)).sum().backward()
