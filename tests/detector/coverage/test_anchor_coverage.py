import numpy as np
import pytest
import torch

from detector.anchors import Anchors
from detector.box import box_iou
from detector.coverage import anchor_coverage
from detector.coverage.anchor_coverage import SIZES, THRESHOLDS, AnchorPyramid, LabelBoxes, measure_coverage

SQUARE = [(1.0, 1.0)]
AT = {threshold: index for index, threshold in enumerate(THRESHOLDS)}


def boxes_of(rows, labels=None, num_classes=1, height=64, width=64):
    labels = np.ones(len(rows), np.int64) if labels is None else labels
    return LabelBoxes.from_corners(np.array(rows, np.float64), labels, num_classes, height, width)


def random_boxes(count, height, width, num_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.uniform(0, 1, (count, 2)) * (width - 4, height - 4)
    last = first + 3 + rng.uniform(0, 1, (count, 2)) ** 2 * ((width, height) - first - 3)
    corners = np.concatenate([first, last], axis=1).astype(np.float32)
    return corners, rng.integers(1, num_classes + 1, count)


def dense_overlaps(corners, pyramid, height, width):
    """(A, n) overlaps with every anchor of the detector."""
    stride = pyramid.first_stride
    anchors = Anchors(pyramid.num_levels, pyramid.base_size, pyramid.anchor_list, first_stride=stride)
    features = [torch.zeros(1, 1, -(-height // step), -(-width // step)) for step in anchors.strides]
    centre_size = anchors(features, torch.zeros(1, 1, height, width))[0].double()
    xyxy = torch.cat([centre_size[:, :2] - centre_size[:, 2:] / 2, centre_size[:, :2] + centre_size[:, 2:] / 2], dim=1)
    return box_iou(xyxy, torch.from_numpy(corners).double()).numpy()


def test_one_box_worked_by_hand():
    # The anchor is 16 x 16 in cells of 16; the box fills the right half of one cell and the left half of the next:
    # it shares 8 x 16 with both, IoU 128 / 384 = 1/3, and nothing with the others.
    found = measure_coverage(boxes_of([[8, 0, 24, 16]]), AnchorPyramid(SQUARE, 16, 16, 1), 0.3, 0.2)
    assert found.mean_iou == pytest.approx(1 / 3)
    assert found.recall[AT[0.3]] == 1 and found.recall[AT[0.35]] == 0
    assert (found.covered, found.positives) == (1, 2)
    strict = measure_coverage(boxes_of([[8, 0, 24, 16]]), AnchorPyramid(SQUARE, 16, 16, 1), 0.5, 0.3)
    assert (strict.covered, strict.positives, strict.ignored_share) == (0, 0, 1)


@pytest.mark.parametrize("side", [8, 32])
def test_a_box_of_another_size_at_exactly_the_lower_threshold_is_ignored(side):
    # The box is in the middle of an anchor of 16 x 16, or around it: IoU 1/4.
    corner = 24 - side / 2
    found = measure_coverage(
        boxes_of([[corner, corner] + [corner + side] * 2]), AnchorPyramid(SQUARE, 16, 16, 1), 0.5, 0.25
    )
    assert (found.mean_iou, found.covered, found.positives, found.ignored_share) == (0.25, 0, 0, 1)


def test_a_selection_keeps_everything_else():
    labels = boxes_of([[0, 0, 8, 8], [4, 4, 20, 24]], np.array([1, 2]), 2, 48, 64).take(np.array([1]))
    assert (labels.num_classes, labels.height, labels.width) == (2, 48, 64)
    assert (labels.boxes.tolist(), labels.groups.tolist()) == ([[12, 14, 16, 20]], [3])


def test_a_finer_grid_finds_the_box():
    # In cells of 8 an anchor of 16 lies exactly on the box; its four neighbours in x and y share half of it (IoU 1/3),
    # those at the corners a quarter (IoU 1/7).
    found = measure_coverage(boxes_of([[4, 4, 20, 20]]), AnchorPyramid(SQUARE, 16, 8, 1), 0.5, 0.3)
    assert found.recall.tolist() == [1.0] * 20
    assert (found.positives, found.ignored_share) == (1, 0.8)


def test_the_nearest_cell_is_inside_the_frame():
    # 20 pixels are 2 cells of 16, whose last centre is 24: an anchor of 16 there spans 16 to 32 and shares
    # 4 x 16 with a box at the edge that spans 12 to 20: IoU 64 / (128 + 256 - 64) = 0.2.
    found = measure_coverage(boxes_of([[12, 0, 20, 16]], width=20, height=16), AnchorPyramid(SQUARE, 16, 16, 1))
    # The first cell's anchor spans 0 to 16 and shares 4 x 16, too.
    assert found.mean_iou == pytest.approx(0.2)


def test_higher_levels_hold_larger_boxes():
    # 32 x 32 at the centre of the one cell of 32: level 1 has it, level 0 (16 x 16) lies within: 256 / 1024.
    labels = boxes_of([[0, 0, 32, 32]], height=32, width=32)
    assert measure_coverage(labels, AnchorPyramid(SQUARE, 16, 16, 1)).mean_iou == pytest.approx(0.25)
    assert measure_coverage(labels, AnchorPyramid(SQUARE, 16, 16, 2)).mean_iou == 1


@pytest.mark.parametrize("anchors", ["PSEE_ANCHORS", "COCO_ANCHORS", [(2.0, 0.4), (0.3, 3.0)]])
@pytest.mark.parametrize(("stride", "levels", "base"), [(16, 3, 32), (8, 4, 20), (8, 1, 64)])
@pytest.mark.parametrize(("fg", "bg"), [(0.5, 0.3), (0.45, 0.45), (0.6, 0)])
def test_equal_to_all_overlaps(anchors, stride, levels, base, fg, bg):
    height, width, (corners, label) = 90, 130, random_boxes(60, 90, 130)
    pyramid = AnchorPyramid(anchors, base, stride, levels)
    overlaps = dense_overlaps(corners, pyramid, height, width)
    labels = LabelBoxes.from_corners(corners, label, 2, height, width)
    sizes = np.digitize((corners[:, 2:] - corners[:, :2]).astype(float).prod(1), [32**2, 96**2])
    whole = measure_coverage(labels, pyramid, fg, bg)
    for part, mine in [
        (whole, np.ones(len(label), bool)),
        *((whole.part(k), label == k) for k in (1, 2)),
        *((whole.part(2, name), (label == 2) & (sizes == size)) for size, name in enumerate(SIZES)),
    ]:
        own = overlaps[:, mine]
        assert part.num_boxes == mine.sum()
        if not mine.any():
            continue
        best, positive = own.max(0), own >= fg
        np.testing.assert_allclose(part.recall, [(best >= threshold).mean() for threshold in THRESHOLDS])
        assert part.mean_iou == pytest.approx(best.mean(), rel=1e-6)
        assert part.covered == pytest.approx((best >= fg).mean())
        assert part.positives == pytest.approx(positive.sum(0).mean())
        ignored = (own >= bg).sum() - positive.sum()
        share = ignored / (ignored + positive.sum()) if ignored + positive.sum() else np.nan
        assert part.ignored_share == pytest.approx(share, nan_ok=True)


def test_the_loop_as_plain_python(monkeypatch):
    corners, label = random_boxes(4, 40, 60)
    labels, pyramid = LabelBoxes.from_corners(corners, label, 2, 40, 60), AnchorPyramid("PSEE_ANCHORS", 16, 8, 2)
    expected = measure_coverage(labels, pyramid)
    for name in ("_survey", "_to_nearest", "_shared", "_patch"):
        function = getattr(anchor_coverage, name)
        monkeypatch.setattr(anchor_coverage, name, getattr(function, "py_func", function))
    found = measure_coverage(labels, pyramid)
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_allclose(found.sums, expected.sums)


def test_of_many_boxes_a_share_is_counted(monkeypatch):
    monkeypatch.setattr(anchor_coverage, "COUNTED_BOXES", 10)
    # Two kinds of boxes in turn: one that an anchor fits, one that none does. Both are counted equally often.
    labels = boxes_of([[0, 0, 16, 16], [0, 0, 2, 2]] * 50)
    found = measure_coverage(labels, AnchorPyramid(SQUARE, 16, 16, 1))
    assert found.num_boxes == 100
    assert (found.covered, found.positives) == (0.5, pytest.approx(0.5, abs=0.05))


def test_sizes_are_those_of_coco():
    sides = (31.9, 32, 96, 96.1)
    labels = boxes_of([[0, 0, side, side] for side in sides] * 2, np.repeat([1, 2], 4), 2, height=128, width=128)
    assert labels.groups.tolist() == [0, 1, 1, 2, 3, 4, 4, 5]


def test_no_boxes():
    found = measure_coverage(boxes_of(np.zeros((0, 4))), AnchorPyramid(SQUARE, 16, 16, 1))
    assert found.num_boxes == 0
    assert np.isnan([*found.recall, found.covered, found.positives, found.ignored_share, found.mean_iou]).all()


@pytest.mark.parametrize(
    ("row", "label", "message"),
    [
        ([0, 0, 70, 10], 1, "xyxy: got .*70.*allowed: boxes inside 64x64"),
        ([5, 5, 5, 9], 1, "xyxy"),
        ([-1, 0, 5, 9], 1, "xyxy"),
        ([0, 0, float("nan"), 9], 1, "xyxy"),
        ([0, 0, 5, 9], 2, "labels: got 2 to 2, allowed: 1 to 1"),
    ],
)
def test_boxes_are_checked(row, label, message):
    with pytest.raises(ValueError, match=message):
        boxes_of([row], np.array([label]))
