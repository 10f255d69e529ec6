"""The compiled assignment against a dense one in float64, which compares every box with every anchor."""

import numpy as np
import pytest

from detector.matching.kernels import fill_targets

SETTINGS = (0.5, 0.3, 0.1, 0.2)


class Grid:
    """Anchors of several shapes on levels with cells of `stride` pixels; `levels` is a dict from strides to shapes."""

    def __init__(self, height, width, levels):
        self.anchors, self.shapes, self.cells, first = [], [], [], 0
        for stride, sizes in levels.items():
            rows, columns = -(-height // stride), -(-width // stride)
            for index, size in enumerate(sizes):
                self.shapes.append((*size, stride))
                self.cells.append((columns, rows, first + index, len(sizes)))
            for y, x in np.ndindex(rows, columns):
                self.anchors += [((x + 0.5) * stride, (y + 0.5) * stride, *size) for size in sizes]
            first += rows * columns * len(sizes)

    def fill(self, frames, low_quality, settings=SETTINGS):
        """The offsets and the labels; `frames` has rows x1, y1, x2, y2, label."""
        rows = np.concatenate([np.reshape(frame, (-1, 5)) for frame in frames])
        starts = np.cumsum([0, *(len(frame) for frame in frames)])
        loc = np.full((len(frames), len(self.anchors), 4), 9, np.float32)
        cls = np.full(loc.shape[:2], 9, np.int64)
        boxes, labels = rows[:, :4].astype(np.float32), rows[:, 4].astype(np.int64)
        tables = (np.array(self.anchors, "f4"), np.array(self.shapes, "f4"), np.array(self.cells))
        fill_targets(boxes, labels, starts, *tables, np.array(settings, np.float32), low_quality, loc, cls)
        return loc, cls

    def ious(self, boxes):
        centre, size = np.array(self.anchors)[None, :, :2], np.array(self.anchors)[None, :, 2:]
        boxes = np.asarray(boxes, float)[:, None]
        low = np.maximum(centre - size / 2, boxes[..., :2])
        high = np.minimum(centre + size / 2, boxes[..., 2:4])
        shared = np.clip(high - low, 0, None).prod(2)
        return shared / (size.prod(2) + (boxes[..., 2:4] - boxes[..., :2]).prod(2) - shared)


def dense(ious, low_quality, fg, bg):
    """(A,) index of the box of each anchor, -1 for background and -2 for ignored anchors."""
    best = ious.max(axis=0)
    owner = np.where(best >= fg, ious.argmax(axis=0), np.where(best < bg, -1, -2))
    if low_quality:  # each box holds one anchor: the pair with the highest IoU first
        held: dict[int, int] = {}
        for box, anchor in sorted(np.ndindex(ious.shape), key=lambda pair: -ious[pair]):
            if box not in held and anchor not in held.values():
                held[box] = anchor
        for box, anchor in held.items():
            owner[anchor] = box
    return owner


def test_labels_and_offsets_by_hand():
    # One row of cells at x = 8, 24, 40 with an anchor of 16 x 8 each.
    grid = Grid(16, 48, {16: [(16, 8)]})
    # The box of 16 x 8 is 4 pixels to the right of the second anchor: IoU 12 * 8 / (2 * 128 - 96) = 0.6, 4 / 28 = 0.14.
    loc, cls = grid.fill([[(20, 4, 36, 12, 7)]], False)
    assert cls.tolist() == [[0, 7, 0]]
    np.testing.assert_allclose(loc[0], [[0] * 4, [4 / (0.1 * 16), 0, 0, 0], [0] * 4], rtol=1e-5)
    # Half as wide and a pixel lower: centre 24, 9; IoU 8 * 7 / (128 + 64 - 56) = 0.41, between both thresholds.
    loc, cls = grid.fill([[(20, 5, 28, 13, 7)]], False)
    assert cls.tolist() == [[0, -1, 0]] and not loc.any()
    loc, cls = grid.fill([[(20, 5, 28, 13, 7)]], True)
    assert cls.tolist() == [[0, 7, 0]]
    np.testing.assert_allclose(loc[0, 1], [0, 1 / (0.1 * 8), np.log(0.5) / 0.2, 0], rtol=1e-5, atol=1e-6)


def test_an_anchor_belongs_to_the_box_with_the_higher_overlap_and_the_other_box_gets_the_next():
    grid = Grid(16, 48, {16: [(16, 16)]})
    boxes = [(2, 0, 18, 16, 3), (1, 0, 17, 16, 5)]  # IoU with the first anchor: 14 / 18 and 15 / 17
    assert grid.fill([boxes], False)[1].tolist() == [[5, 0, 0]]
    assert grid.fill([boxes], True)[1].tolist() == [[5, 3, 0]]


def test_of_equal_overlaps_the_first_box_wins():
    grid = Grid(16, 48, {16: [(16, 16)]})
    assert grid.fill([[(0, 0, 16, 16, 4), (0, 0, 16, 16, 2)]], False)[1].tolist() == [[4, 0, 0]]
    assert grid.fill([[(0, 0, 16, 16, 4), (0, 0, 16, 16, 2)]], True)[1].tolist() == [[4, 2, 0]]


def test_frames_do_not_mix_and_a_frame_without_boxes_is_background():
    grid = Grid(16, 48, {16: [(16, 16)]})
    _, cls = grid.fill([[(0, 0, 16, 16, 4)], [], [(32, 0, 48, 16, 6)]], True)
    assert cls.tolist() == [[4, 0, 0], [0, 0, 0], [0, 0, 6]]


def test_without_a_background_threshold_other_anchors_of_a_frame_with_boxes_are_ignored():
    grid = Grid(16, 48, {16: [(16, 16)]})
    _, cls = grid.fill([[(0, 0, 16, 16, 4)], []], False, (0.5, 0.0, 0.1, 0.2))
    assert cls.tolist() == [[4, -1, -1], [0, 0, 0]]


def test_a_box_that_overlaps_no_anchor_gets_the_first_free_one():
    grid = Grid(16, 48, {16: [(16, 16)]})
    assert grid.fill([[(0, 0, 16, 16, 4), (90, 90, 99, 99, 2)]], True)[1].tolist() == [[4, 2, 0]]


def test_sides_of_boxes_are_limited_in_offsets():
    grid = Grid(16, 48, {16: [(16, 16)]})
    loc, _ = grid.fill([[(8, 8, 8, 9, 4)]], True)
    np.testing.assert_allclose(loc[0, 0, 2:], [np.log(0.001 / 16) / 0.2, np.log(1 / 16) / 0.2], rtol=1e-5)
    loc, _ = grid.fill([[(-9_000, -4_990, 9_000, 5_000, 4)]], True)
    np.testing.assert_allclose(loc[0, 0, 2:], [np.log(10_000 / 16) / 0.2, np.log(9_990 / 16) / 0.2], rtol=1e-6)


def test_boxes_across_the_border_get_anchors_of_the_grid():
    grid = Grid(32, 48, {16: [(16, 16)]})  # two rows of three anchors
    # 4 of 16 columns are inside the last cell of the first row, and 4 rows inside the last row.
    assert grid.fill([[(44, 0, 60, 16, 5)]], True)[1].tolist() == [[0, 0, 5, 0, 0, 0]]
    assert grid.fill([[(-12, 16, 4, 32, 5)]], True)[1].tolist() == [[0, 0, 0, 5, 0, 0]]
    assert grid.fill([[(16, 28, 32, 44, 5)]], True)[1].tolist() == [[0, 0, 0, 0, 5, 0]]
    assert grid.fill([[(16, -12, 32, 4, 5)]], True)[1].tolist() == [[0, 5, 0, 0, 0, 0]]
    # 10 of 16: IoU 10 / 22, between the thresholds.
    assert grid.fill([[(38, 0, 54, 16, 5)]], False)[1].tolist() == [[0, 0, -1, 0, 0, 0]]
    assert grid.fill([[(0, 22, 16, 38, 5)]], False)[1].tolist() == [[0, 0, 0, -1, 0, 0]]


def test_thresholds_are_inclusive():
    grid = Grid(16, 16, {16: [(16, 16)]})
    assert grid.fill([[(0, 0, 16, 8, 4)]], False)[1].tolist() == [[4]]  # IoU 1/2
    assert grid.fill([[(0, 0, 16, 8, 4)]], False, (0.75, 0.5, 0.1, 0.2))[1].tolist() == [[-1]]
    assert grid.fill([[(0, 0, 16, 7, 4)]], False, (0.75, 0.5, 0.1, 0.2))[1].tolist() == [[0]]


def test_a_box_that_loses_its_anchor_later_gets_the_best_free_one():
    grid = Grid(16, 64, {16: [(16, 16)]})
    # The first box takes anchor 1, which the second overlaps more; the first then takes anchor 0, which it shares
    # 7 columns with, rather than anchor 2 without any.
    boxes = [(9, 0, 25, 16, 3), (15, 0, 31, 16, 5), (16, 0, 32, 16, 6)]
    assert grid.fill([boxes], True)[1].tolist() == [[3, 6, 5, 0]]


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize(("fg", "bg"), [(0.5, 0.3), (0.4, 0.4), (0.7, 0.1)])
@pytest.mark.parametrize("seed", range(4))
def test_random_boxes_are_assigned_as_in_a_dense_comparison(seed, fg, bg, low_quality):
    rng = np.random.default_rng(seed)
    grid = Grid(60, 100, {8: [(8, 16), (11, 9)], 16: [(16, 32), (25, 21)]})
    frames = []
    for count in (5, 9, 1):
        centre, size = rng.uniform(0, (100, 60), (count, 2)), np.exp(rng.uniform(1.6, 4, (count, 2)))
        labels = rng.integers(1, 9, (count, 1))
        frames.append(np.concatenate([centre - size / 2, centre + size / 2, labels], axis=1).astype(np.float32))
    loc, cls = grid.fill(frames, low_quality, (fg, bg, 0.1, 0.2))
    for boxes, offsets, labels in zip(frames, loc, cls, strict=True):
        owner = dense(grid.ious(boxes), low_quality, fg, bg)
        wanted = [boxes[box, 4] if box >= 0 else box + 1 for box in owner]  # 0 background, -1 ignored
        assert np.array_equal(labels, wanted)
        positive = np.flatnonzero(owner >= 0)
        corners, anchors = boxes[owner[positive]].astype(float), np.array(grid.anchors)[positive]
        moved = ((corners[:, :2] + corners[:, 2:4]) / 2 - anchors[:, :2]) / (0.1 * anchors[:, 2:])
        scaled = np.log((corners[:, 2:4] - corners[:, :2]) / anchors[:, 2:]) / 0.2
        np.testing.assert_allclose(offsets[positive], np.concatenate([moved, scaled], 1), rtol=1e-4, atol=1e-3)
        assert not np.delete(offsets, positive, axis=0).any()
