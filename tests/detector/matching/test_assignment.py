"""The sparse assignment of a batch equals its definition, `assign_priors` run frame by frame."""

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from detector.anchors import Anchors
from detector.box import assign_priors, bbox_to_deltas, box_iou, xywh2xyxy
from detector.events.types import BBOX_dtype
from detector.matching import encoding
from detector.matching.assignment import BatchBoxes, pack_frames

TIE = 1e-6


def feature_maps(coder: Anchors, num_frames: int, height: int, width: int) -> list[Tensor]:
    return [torch.zeros(num_frames, 1, -(-height // stride), -(-width // stride)) for stride in coder.strides]


def random_targets(kind: str, count: int, height: int, width: int) -> Tensor:
    """Boxes of one frame whose labels 1..M name them."""
    extent = torch.tensor([width, height])
    centre, size = torch.rand(count, 2) * extent, torch.exp(2.5 + torch.rand(count, 2) * 2)
    if kind == "tiny":
        size = torch.rand(count, 2) * 6 + 0.1
    elif kind == "huge":
        size = torch.rand(count, 2) * 1000 + 50
    elif kind == "across the border":
        centre = centre * 2 - extent / 2
    elif kind == "crowd":
        centre, size = centre * 0.1 + 20, torch.tensor([14.0, 38.0]) * (1 + 0.1 * torch.rand(count, 2))
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    if kind == "duplicates":
        boxes = boxes[torch.randint(0, max(1, count // 5), (count,))] if count else boxes
    return torch.cat([boxes, torch.arange(1.0, count + 1)[:, None]], dim=1)


def best_held(ious: Tensor, labels: Tensor) -> Tensor:
    """(M,) highest overlap of each box with an anchor it holds, -1 without one."""
    return torch.where(labels == torch.arange(1, len(ious) + 1)[:, None], ious, -1.0).amax(dim=1)


def has_ties(ious: Tensor, labels: Tensor) -> bool:
    """Whether a box had to choose between anchors that it overlaps equally."""
    best = ious.sort(dim=1, descending=True).values
    looked_at = best[:, 1:] >= best_held(ious, labels)[:, None] - TIE
    return bool(((best[:, :-1] - best[:, 1:] <= TIE) & looked_at).any())


def assert_rules_hold(coder: Anchors, target: Tensor, corners: Tensor, labels: Tensor) -> None:
    """What every right assignment fulfils, however ties were broken."""
    gt_boxes, gt_labels = target[:, :4], target[:, 4].long()
    ious = box_iou(gt_boxes, corners)
    thresholds = (coder.fg_iou_threshold, coder.bg_iou_threshold)
    by_threshold = assign_priors(gt_boxes, gt_labels, corners, *thresholds, False)[1]
    forced = (labels != by_threshold).nonzero()[:, 0]
    owner = labels[forced] - 1
    assert (owner >= 0).all()
    assert len(owner) == len(owner.unique())
    held = best_held(ious, labels)
    assert (held >= 0).sum() == min(len(target), len(corners))
    # A forced anchor is its box's best one.
    assert (ious[owner, forced] >= held[owner] - TIE).all()
    # An anchor that a box overlaps more than its best one is held by a box that overlaps it even more.
    for box, anchor in (ious > held[:, None] + TIE).nonzero().tolist():
        holder = int(labels[anchor]) - 1
        assert holder >= 0
        assert ious[holder, anchor] >= ious[box, anchor] - TIE


@pytest.mark.parametrize("has_compiler", [True, False])
@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize(("fg", "bg"), [(0.5, 0.3), (0.4, 0.4), (0.5, 0.0), (1.0, 0.05), (1.0, 1.0)], ids=str)
def test_encode_equals_assign_priors(fg, bg, low_quality, has_compiler, monkeypatch):
    monkeypatch.setattr(encoding, "HAS_COMPILER", has_compiler)
    random.seed(0)
    torch.manual_seed(0)
    exact = 0
    for height, width, first_stride, levels, anchor_list in (
        (96, 160, 8, 3, "PSEE_ANCHORS"),
        (120, 128, 16, 5, "COCO_ANCHORS"),
        (33, 40, 16, 2, [(1, 0.2), (3, 0.3)]),
        (240, 304, 16, 4, "PSEE_ANCHORS"),
    ):
        coder = Anchors(levels, 24, anchor_list, fg, bg, low_quality, first_stride=first_stride)
        kinds = ["any"] * 6 + ["tiny", "huge", "across the border", "crowd", "duplicates"]
        targets = [random_targets(kind, random.choice([1, 2, 5, 30]), height, width) for kind in kinds]
        targets.append(torch.zeros(0, 5))
        features = feature_maps(coder, len(targets), height, width)
        x = torch.zeros(3, 4, 2, height, width)
        loc, labels = coder.encode(features, x, [targets[:4], targets[4:8], targets[8:]])
        anchors = coder(features, x)[0]
        corners = xywh2xyxy(anchors)
        for frame, target in enumerate(targets):
            boxes, expected = assign_priors(target[:, :4], target[:, 4].long(), corners, fg, bg, low_quality)
            positive = labels[frame] > 0
            mine = target[labels[frame][positive] - 1, :4]
            torch.testing.assert_close(loc[frame, positive], bbox_to_deltas(mine, anchors[positive]))
            assert not loc[frame, ~positive].any()
            if torch.equal(labels[frame], expected):
                exact += 1
                assert torch.equal(mine, boxes[positive])
            else:
                assert low_quality
                assert has_ties(box_iou(target[:, :4], corners), expected)
            if low_quality and len(target) > 0:
                assert_rules_hold(coder, target, corners, labels[frame])
    assert exact >= 30  # of 48; with low-quality matches some frames hold ties


def test_a_box_far_from_every_anchor_holds_the_nearest_one():
    # Level 0 has cells at 8, 24, ... of 32 px anchors. The 2 x 2 box at the corner is far below bg everywhere.
    coder = Anchors(1, 32, [(1, 1)])
    features = feature_maps(coder, 1, 64, 64)
    labels = coder.encode(features, torch.zeros(1, 1, 2, 64, 64), [[torch.tensor([[62.0, 62, 64, 64, 5]])]])[1]
    assert labels[0].nonzero()[:, 0].tolist() == [15]
    assert labels[0, 15] == 5


def test_many_equal_tiny_boxes_all_find_an_anchor():
    # More equal boxes than anchors around them: each round looks further until all 16 anchors are taken.
    coder = Anchors(1, 16, [(1, 1)])
    features = feature_maps(coder, 1, 64, 64)
    target = torch.tensor([[30.0, 30, 31, 31]]).repeat(20, 1)
    target = torch.cat([target, torch.arange(1.0, 21)[:, None]], dim=1)
    labels = coder.encode(features, torch.zeros(1, 1, 2, 64, 64), [[target]])[1]
    assert sorted(labels[0].tolist()) == list(range(1, 17))


def test_pack_frames_by_hand():
    row = torch.tensor([[1.0, 2, 3, 4, 7, 99]])
    packed = pack_frames([row, row[:0], row.repeat(2, 1)], 3, torch.device("cpu"))
    assert isinstance(packed, BatchBoxes)
    assert packed.xyxy.tolist() == [[1, 2, 3, 4]] * 3
    assert packed.labels.tolist() == [7, 7, 7]
    assert packed.frames.tolist() == [0, 2, 2]
    assert packed.num_frames == 3


def test_pack_frames_refuses_what_cannot_be_assigned():
    with pytest.raises(ValueError, match="targets: got 1 frames, allowed: one for each of the 2 frames"):
        pack_frames([torch.zeros(0, 5)], 2, torch.device("cpu"))
    with pytest.raises(ValueError, match="targets: frame 1 holds .*nan.* finite"):
        pack_frames([torch.ones(1, 5), torch.full((1, 5), torch.nan)], 2, torch.device("cpu"))


def encode_rows(*rows: tuple, **options: object) -> tuple[Tensor, Tensor]:
    coder = Anchors(2, num_classes=2)
    frames = [torch.zeros(0, 5), torch.tensor(rows)]
    return coder.encode(feature_maps(coder, 2, 64, 96), torch.zeros(2, 1, 1, 64, 96), [frames], **options)


@pytest.mark.parametrize("label", [3.0, 0.0, -1.0, 1.7, float("nan"), float("inf")])
def test_a_label_outside_the_classes_is_refused_with_its_frame(label):
    message = rf"targets: frame 1 holds label {label:g}, allowed: whole numbers from 1 to 2"
    with pytest.raises(ValueError, match=message):
        encode_rows((1.0, 2.0, 30.0, 40.0, 2.0), (1.0, 2.0, 30.0, 40.0, label))


@pytest.mark.parametrize(
    "box",
    [
        (30.0, 2.0, 1.0, 40.0),
        (1.0, 40.0, 30.0, 2.0),
        (1.0, 2.0, math.nan, 4.0),
        (1.0, 2.0, math.inf, 9.0),
        (3e9, 1.0, 4e9, 9.0),
    ],
)
def test_a_box_that_is_none_is_refused_with_its_frame(box):
    with pytest.raises(ValueError, match=rf"targets: frame 7 holds box \[.*{box[2]}.*allowed: finite x1, y1"):
        encode_rows((*box, 1.0), numbers=[5, 7])


def test_structured_arrays_are_checked_too():
    rows = np.zeros(1, BBOX_dtype)
    rows["w"], rows["h"], rows["class_id"] = 9, -9, 1
    with pytest.raises(ValueError, match=r"frame 0 holds box \[0.0, 0.0, 9.0, -9.0\]"):
        Anchors(2).encode_anchors(torch.ones(1, 4), torch.ones(1, 4), [rows])
    rows["h"], rows["class_id"] = 9, 0
    with pytest.raises(ValueError, match="frame 0 holds label 0, allowed: whole numbers from 1"):
        Anchors(2).encode_anchors(torch.ones(1, 4), torch.ones(1, 4), [rows])


@pytest.mark.parametrize("coordinate", [-1e9, 1e9])
def test_coordinates_at_the_limit_are_allowed(coordinate):
    low, high = sorted((coordinate, 0.0))
    encode_rows((low, 2.0, high, 2.0, 2.0), (3.0, low, 3.0, high, 1.0))
    with pytest.raises(ValueError, match="frame 1 holds box"):
        encode_rows((1.002 * low, 2.0, 1.002 * high, 2.0, 2.0))
    with pytest.raises(ValueError, match="frame 1 holds box"):
        encode_rows((1.0, 2.0, 3.0, 4.0, 1.0), (3.0, 1.002 * low, 3.0, 1.002 * high, 1.0))


def test_without_a_number_of_classes_any_label_is_allowed():
    rows = torch.tensor([[1.0, 2, 3, 4, 1_000_000]])
    assert pack_frames([rows], 1, torch.device("cpu")).labels.tolist() == [1_000_000]
    with pytest.raises(ValueError, match="frame 0 holds label 1.5, allowed: whole numbers from 1$"):
        pack_frames([rows[:, [0, 1, 2, 3, 0]] * 1.5], 1, torch.device("cpu"))
    assert pack_frames([], 0, torch.device("cpu")).xyxy.shape == (0, 4)


@pytest.mark.parametrize("has_compiler", [True, False])
def test_thresholds_are_inclusive(has_compiler, monkeypatch):
    monkeypatch.setattr(encoding, "HAS_COMPILER", has_compiler)
    coder = Anchors(1, 16, [(1, 1)], 0.5, 0.25, False)
    features, x = feature_maps(coder, 1, 16, 16), torch.zeros(1, 1, 1, 16, 16)
    for height, label in ((8, 3), (7.75, -1), (4, -1), (3.75, 0)):  # IoU height / 16 with the only anchor
        labels = coder.encode(features, x, [[torch.tensor([[0.0, 0, 16, height, 3]])]])[1]
        assert labels.tolist() == [[label]]
