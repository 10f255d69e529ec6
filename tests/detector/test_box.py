"""Boxes: numbers worked out by hand, and torchvision where it has the same function."""

import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou as torchvision_iou
from torchvision.ops import nms as torchvision_nms

from detector import box
from detector.box import assign_priors, bbox_to_deltas, box_iou, deltas_to_bbox, match_each_box

BBOX_DTYPE = np.dtype(
    {
        "names": ["t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", "<f4", "<f4", "<f4", "<f4", "<u4", "<u4", "<f4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)


def random_boxes(count: int, generator: torch.Generator, extent: float = 100) -> torch.Tensor:
    corner = torch.rand(count, 2, generator=generator) * extent
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * extent / 2], dim=1)


def labels_array(*rows: tuple[float, float, float, float, int]) -> np.ndarray:
    array = np.zeros(len(rows), BBOX_DTYPE)
    for row, (x, y, w, h, class_id) in zip(array, rows, strict=True):
        row["x"], row["y"], row["w"], row["h"], row["class_id"] = x, y, w, h, class_id
    return array


def test_formats_turn_into_each_other():
    xyxy = torch.tensor([[10.0, 20, 30, 60]])
    xywh = torch.tensor([[20.0, 40, 20, 40]])
    assert torch.equal(box.xyxy2xywh(xyxy), xywh)
    assert torch.equal(box.xywh2xyxy(xywh), xyxy)
    assert box.xywh2xyxy(torch.zeros(0, 4)).shape == (0, 4)


def test_box_clamp_crops_and_leaves_its_argument():
    boxes = torch.tensor([[-5.0, 2, 20, 9], [30, 30, 40, 40]])
    before = boxes.clone()
    assert box.box_clamp(boxes, 0, 1, 10, 8).tolist() == [[0, 2, 10, 8], [10, 8, 10, 8]]
    assert torch.equal(boxes, before)


def test_box_select_takes_boxes_inside_the_frame_border_included():
    boxes = torch.tensor([[0.0, 0, 10, 8], [-0.1, 0, 5, 5], [1, 1, 10.1, 5], [2, 2, 3, 8.1], [1, 1, 2, 2]])
    selected, mask = box.box_select(boxes, 0, 0, 10, 8)
    assert mask.tolist() == [True, False, False, False, True]
    assert torch.equal(selected, boxes[[0, 4]])


def test_box_iou_by_hand():
    # 10 x 10 boxes: half shared -> 50 / 150; a quarter of one inside -> 25 / 100; touching -> 0.
    one = torch.tensor([[0.0, 0, 10, 10]])
    others = torch.tensor([[5.0, 0, 15, 10], [0, 0, 5, 5], [10, 0, 20, 10], [0, 0, 10, 10]])
    assert box_iou(one, others)[0].tolist() == pytest.approx([1 / 3, 0.25, 0, 1])
    assert box_iou(one.half(), others.half()).dtype == torch.float32
    assert box_iou(torch.ones(1, 4), torch.ones(1, 4)).item() == 0


def test_box_iou_equals_torchvision_and_batches():
    generator = torch.Generator().manual_seed(0)
    box1, box2 = random_boxes(7, generator), random_boxes(10, generator)
    assert torch.equal(box_iou(box1, box2), torchvision_iou(box1, box2))
    batch = box.batch_box_iou(box1, box2.view(2, 5, 4))
    assert batch.shape == (2, 7, 5)
    assert torch.equal(torch.cat([batch[0], batch[1]], dim=1), box_iou(box1, box2))
    assert box_iou(box1, box2[:0]).shape == (7, 0)
    assert box.batch_box_iou(box1, torch.zeros(3, 0, 4)).shape == (3, 7, 0)


def test_box_nms_keeps_the_best_of_overlapping_boxes():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])  # the first two overlap by 90 / 110
    scores = torch.tensor([0.5, 0.9, 0.6])
    assert box.box_nms(boxes, scores).tolist() == [1, 2]
    assert box.box_nms(boxes, scores, threshold=0.85).tolist() == [1, 2, 0]
    assert box.box_nms(boxes.half(), scores.half()).tolist() == [1, 2]


def test_deltas_by_hand():
    # Centre 5 right of the anchor's, of width 10: 5 / (0.1 * 10) = 5. Width twice the anchor's: ln 2 / 0.2.
    anchor = torch.tensor([[50.0, 50, 10, 20]])
    boxes = torch.tensor([[45.0, 44, 65, 64]])
    deltas = bbox_to_deltas(boxes, anchor)
    assert deltas[0].tolist() == pytest.approx([5, 4 / (0.1 * 20), np.log(2) / 0.2, 0], abs=1e-6)
    assert torch.allclose(deltas_to_bbox(deltas, anchor), boxes)
    wide = bbox_to_deltas(boxes, anchor, variances=[1, 1], max_width=5)
    assert wide[0].tolist() == pytest.approx([0.5, 0.2, np.log(0.5), np.log(0.25)])


def test_deltas_invert_each_other_and_stay_finite():
    generator = torch.Generator().manual_seed(1)
    boxes = random_boxes(50, generator)
    anchors = box.xyxy2xywh(random_boxes(50, generator))
    back = deltas_to_bbox(bbox_to_deltas(boxes, anchors, [0.3, 0.7]), anchors, [0.3, 0.7])
    assert torch.allclose(back, boxes, atol=1e-3)
    assert bbox_to_deltas(torch.tensor([3.0, 3, 3, 3]), anchors[0]).isfinite().all()


def test_pack_boxes_list_pads_with_zeros():
    two = labels_array((10, 20, 5, 6, 1), (0, 1, 2, 3, 7))
    packed, counts = box.pack_boxes_list([two, two[:0], two[1:]])
    assert counts == [2, 0, 1]
    assert packed.tolist() == [
        [[10, 20, 15, 26, 1], [0, 1, 2, 4, 7]],
        [[0] * 5, [0] * 5],
        [[0, 1, 2, 4, 7], [0] * 5],
    ]
    assert box.pack_boxes_list([])[0].shape == (0, 0, 5)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(2, 4), r"targets: got shape \(2, 4\)"),
        (torch.zeros(5), r"targets: got shape \(5,\)"),
        (np.zeros(1, [("x", "f4"), ("y", "f4")]), r"lack \['class_id', 'h', 'w'\]"),
    ],
)
def test_to_box_tensor_names_what_is_wrong(target, message):
    with pytest.raises(ValueError, match=message):
        box.to_box_tensor(target)


def test_assign_priors_by_thresholds():
    priors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 3], [0, 0, 10, 2], [50, 50, 60, 60]])
    boxes, labels = assign_priors(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([3]), priors, 0.5, 0.3, False)
    assert labels.tolist() == [3, 3, -1, 0, 0]  # overlaps 1, 0.5, 0.3, 0.2, 0: the thresholds are inclusive
    assert boxes[:2].tolist() == [[0, 0, 10, 10]] * 2


def test_assign_priors_without_boxes_is_background():
    boxes, labels = assign_priors(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.rand(6, 4), 0.5, 0.3)
    assert labels.tolist() == [0] * 6
    assert boxes.shape == (6, 4)


def test_assign_priors_equals_torchvisions_matcher():
    generator = torch.Generator().manual_seed(2)
    for thresholds in ((0.5, 0.3), (0.4, 0.4), (0.6, 0.0)):
        gt_boxes, priors = random_boxes(8, generator), random_boxes(200, generator)
        gt_labels = torch.arange(1, 9)
        boxes, labels = assign_priors(gt_boxes, gt_labels, priors, *thresholds, False)
        match = Matcher(*thresholds)(torchvision_iou(gt_boxes, priors))
        positive = match >= 0
        assert positive.any()
        assert torch.equal(labels[positive], gt_labels[match[positive]])
        assert torch.equal(boxes[positive], gt_boxes[match[positive]])
        assert torch.equal(labels[~positive], torch.where(match[~positive] == -1, 0, -1))


def test_low_quality_match_takes_an_anchor_of_any_kind():
    # The second box overlaps best with the anchor that the first box holds too, and which is not its last one.
    priors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 0, 60, 10]])
    gt_boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 4], [50, 0, 51, 1]])
    labels = assign_priors(gt_boxes, torch.tensor([1, 2, 3]), priors, 0.5, 0.3)[1]
    assert labels.tolist() == [1, 2, 3]
    assert assign_priors(gt_boxes, torch.tensor([1, 2, 3]), priors, 0.5, 0.3, False)[1].tolist() == [1, 1, 0]


def test_conflicting_boxes_keep_one_anchor_each():
    # Boxes 0 and 1 want anchor 0; box 1 overlaps it more. Box 0's next is anchor 1, which box 2 wants more;
    # so box 0 takes anchor 2.
    ious = torch.tensor([[0.5, 0.4, 0.1, 0.0], [0.6, 0.5, 0.0, 0.0], [0.0, 0.45, 0.3, 0.0]])
    before = ious.clone()
    assert match_each_box(ious).tolist() == [2, 0, 1]
    assert torch.equal(ious, before)


def test_a_box_that_keeps_its_anchor_can_still_lose_it():
    # Box 1 loses anchor 0, takes anchor 1 from box 2, which then takes anchor 2.
    ious = torch.tensor([[0.9, 0.0, 0.0], [0.8, 0.7, 0.0], [0.0, 0.6, 0.5]])
    assert match_each_box(ious).tolist() == [0, 1, 2]


def test_equal_boxes_get_different_anchors_and_more_boxes_than_anchors_end():
    ious = torch.tensor([0.3, 0.2, 0.1]).repeat(5, 1)
    assert match_each_box(ious).tolist() == [0, 1, 2, -1, -1]
    assert match_each_box(ious[:0]).tolist() == []
    labels = assign_priors(torch.ones(5, 4), torch.arange(1, 6), torch.zeros(3, 4), 0.5, 0.3)[1]
    assert labels.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "function",
    [box.xywh2xyxy, box.xyxy2xywh, lambda boxes: box.box_clamp(boxes, 10, 10, 60, 50)],
    ids=["xywh2xyxy", "xyxy2xywh", "box_clamp"],
)
def test_functions_do_not_change_their_argument(function):
    boxes = random_boxes(5, torch.Generator().manual_seed(3))
    before = boxes.clone()
    function(boxes)
    assert torch.equal(boxes, before)


def test_scripted_equals_eager():
    generator = torch.Generator().manual_seed(4)
    box1, box2 = random_boxes(20, generator), random_boxes(30, generator)
    scores = torch.rand(30, generator=generator)
    for function, arguments in (
        (box.xywh2xyxy, (box1,)),
        (box.xyxy2xywh, (box1,)),
        (box.box_iou, (box1, box2)),
        (box.batch_box_iou, (box1, box2[None])),
        (box.box_clamp, (box1, 10.0, 10.0, 50.0, 60.0)),
        (box.box_nms, (box2, scores, 0.2)),
    ):
        assert torch.equal(torch.jit.script(function)(*arguments), function(*arguments))


DTYPES = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_gives_what_float64_gives(dtype):
    limit = 120 if dtype == torch.int8 else 250
    generator = torch.Generator().manual_seed(0)
    low, size = (torch.randint(1, limit // 2, (9, 2), generator=generator) for _ in range(2))
    boxes = torch.cat([low, low + size], dim=1).to(dtype)
    exact = boxes.double()
    close = {"atol": 1e-4, "rtol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(box.box_iou(boxes, boxes[:4]), torchvision_iou(exact, exact[:4]), **close)
    batch = box.batch_box_iou(boxes, boxes.view(3, 3, 4))
    torch.testing.assert_close(batch, torch.stack([torchvision_iou(exact, b) for b in exact.view(3, 3, 4)]), **close)
    torch.testing.assert_close(box.xyxy2xywh(boxes), box.xyxy2xywh(exact), **close)
    torch.testing.assert_close(box.xywh2xyxy(boxes), box.xywh2xyxy(exact), **close)
    cropped = box.box_clamp(boxes, -1, 2.5, 77.3, 101)
    torch.testing.assert_close(cropped, box.box_clamp(exact, -1, 2.5, 77.3, 101), **close)
    assert torch.equal(box.box_select(boxes, -1, 2.5, 77.3, 101)[1], box.box_select(exact, -1, 2.5, 77.3, 101)[1])
    anchors = box.xyxy2xywh(exact.flip(0))
    deltas = box.bbox_to_deltas(boxes, anchors.float())
    torch.testing.assert_close(deltas, box.bbox_to_deltas(exact, anchors), **close)
    whole = box.xywh2xyxy(boxes)
    assert whole.dtype == torch.float32
    found = box.deltas_to_bbox((boxes / 100).to(dtype), boxes)
    expected = box.deltas_to_bbox((boxes / 100).to(dtype).double(), exact)
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-4, check_dtype=False)
    scores = torch.arange(9) / 16
    kept = box.box_nms(boxes, scores.half() if dtype == torch.float16 else scores, 0.3)
    assert torch.equal(kept, torchvision_nms(exact, scores.double(), 0.3))
    rows = torch.cat([boxes, torch.ones(9, 1).to(dtype)], dim=1)
    assigned = box.assign_priors(rows[:, :4], rows[:, 4], exact.float() + 1, 0.5, 0.3)
    plain = box.assign_priors(exact, torch.ones(9), exact + 1, 0.5, 0.3)
    assert torch.equal(assigned[1], plain[1])


def test_sizes_are_decoded_up_to_a_limit():
    anchor = torch.tensor([[50.0, 50.0, 16.0, 8.0]])
    found = box.deltas_to_bbox(torch.tensor([[0.0, 0.0, 1000.0, 1e30]]), anchor)
    torch.testing.assert_close(found, torch.tensor([[-450.0, -200.0, 550.0, 300.0]]), atol=0.01, rtol=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_small_whole_numbers_of_structured_arrays_do_not_overflow(dtype):
    fields = [(name, dtype) for name in ("x", "y", "w", "h")] + [("class_id", np.uint8)]
    rows = np.array([(200, 100, 100, 200, 3)], fields)
    assert box.to_box_tensor(rows).tolist() == [[200, 100, 300, 300, 3]]


def test_nan_displaces_no_box():
    nan = float("nan")
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [nan, 0, 10, 10], [0, 0, 10, 9]])
    assert box.box_nms(boxes, torch.tensor([nan, 0.5, 0.9, 0.4])).tolist() == [1]


def test_box_select_has_different_limits_in_x_and_y():
    boxes = torch.tensor([[3.0, 1, 9, 6], [2.9, 1, 9, 6], [3, 0.9, 9, 6], [3, 1, 9.1, 6], [3, 1, 9, 6.1]])
    assert box.box_select(boxes, 3, 1, 9, 6)[1].tolist() == [True, False, False, False, False]


def test_widths_are_limited_before_they_are_encoded():
    anchor = torch.tensor([[0.0, 0, 10, 10]])
    deltas = bbox_to_deltas(torch.tensor([[-9_000.0, -4_999, 9_000, 5_000]]), anchor, [1, 1])
    assert deltas[0].tolist() == pytest.approx([0, 0.05, np.log(1000), np.log(999.9)], abs=1e-5)
    flat = bbox_to_deltas(torch.tensor([[5.0, 5, 5, 5.002]]), anchor, [1, 1])
    assert flat[0, 2:].tolist() == pytest.approx([np.log(1e-4), np.log(2e-4)], abs=1e-3)


def test_box_vectors_keep_or_add_the_track_id():
    rows = np.zeros(1, BBOX_DTYPE)
    rows["x"], rows["y"], rows["w"], rows["h"], rows["class_id"], rows["track_id"] = 1, 2, 30, 40, 5, 6
    assert box.bboxes_to_box_vectors(rows).tolist() == [[1, 2, 31, 42, 5, 6]]
    assert rows["w"].tolist() == [30]
    plain = np.array([[1.0, 2, 3, 4, 5]])
    assert box.bboxes_to_box_vectors(plain).tolist() == [[1, 2, 3, 4, 5, 0]]
    found = box.bboxes_to_box_vectors(torch.from_numpy(plain))
    assert isinstance(found, torch.Tensor) and found.tolist() == [[1, 2, 3, 4, 5, 0]]
    whole = np.arange(6.0)[None]
    assert box.bboxes_to_box_vectors(whole) is whole
    for wrong in (np.zeros((2, 7)), np.zeros((2, 4)), np.zeros(5)):
        with pytest.raises(ValueError, match="bbox: got shape"):
            box.bboxes_to_box_vectors(wrong)


def test_rows_of_boxes_are_copied_only_if_necessary():
    rows = torch.tensor([[1.0, 2, 3, 4, 5]])
    assert box.to_box_tensor(rows) is rows
    for other in (rows.double(), torch.cat([rows, rows], dim=1), rows.numpy().astype(np.int64)):
        found = box.to_box_tensor(other)
        assert found.dtype == torch.float32 and found.tolist() == [[1, 2, 3, 4, 5]]
    for none in (torch.zeros(0), torch.zeros(0, 7), torch.zeros(0, 5, dtype=torch.int64)):
        assert box.to_box_tensor(none).shape == (0, 5) and box.to_box_tensor(none).dtype == torch.float32


def test_claims_of_equal_strength_are_accepted_in_their_order():
    refused = box.contested_claims(torch.tensor([4, 1, 4, 1, 4]), torch.tensor([0.5, 0.2, 0.7, 0.2, 0.7]))
    assert sorted(refused.tolist()) == [0, 3, 4]


def test_boxes_may_have_any_number_of_leading_dimensions():
    boxes = random_boxes(30, torch.Generator().manual_seed(5))
    anchors = box.xyxy2xywh(boxes.flip(0))
    for function in (
        box.xyxy2xywh,
        box.xywh2xyxy,
        lambda rows: box.box_clamp(rows, 3, 5, 60, 50),
        lambda rows: bbox_to_deltas(rows, anchors.view(rows.shape)),
        lambda rows: deltas_to_bbox(rows / 100, anchors.view(rows.shape)),
        lambda rows: box.pairwise_iou(rows, boxes.flip(0).view(rows.shape)),
    ):
        flat = function(boxes)
        for shape in ((5, 6, 4), (3, 5, 2, 4)):
            assert torch.equal(function(boxes.view(shape)), flat.view(*shape[:-1], *flat.shape[1:]))
