import numpy as np
import pytest

from detector.data.check.alignment.activity import ActivityBuilder
from detector.data.check.alignment.score import BoxSet, box_scores, choose_boxes, is_large, significance
from detector.events import BBOX_dtype


def activity_of(x, y, size=(40, 60)):
    builder = ActivityBuilder(size, (0, 20_000))
    x, y = np.array(x, np.uint16), np.array(y, np.uint16)
    builder.add_events((x, y, np.zeros(x.size, np.int8), np.full(x.size, 10_000)))
    return builder.build()


def test_a_score_by_hand():
    # 18 events in the box of 4 x 2 px, 4 more in its neighbourhood of 8 x 4 px, 1 outside of both.
    activity = activity_of([20] * 18 + [18] * 4 + [5], [10] * 18 + [12] * 4 + [5])
    (found,) = box_scores(activity, np.array([[20.0, 10, 4, 2]]), np.array([10_000.0]), 20_000, 2.0)
    share = (18 + 2 * 0.25) / (22 + 2)
    assert found == pytest.approx(share * np.log(share / 0.25) + (1 - share) * np.log((1 - share) / 0.75))


def test_fewer_events_inside_than_around_give_a_negative_score():
    activity = activity_of([18] * 20, [12] * 20)
    assert box_scores(activity, np.array([[20.0, 10, 4, 2]]), np.array([10_000.0]), 20_000, 2.0) < -0.1


def test_no_evidence_is_no_score():
    activity = activity_of([20], [10])
    boxes = np.array([[40.0, 30, 4, 2], [58, 10, 10, 4], [70, 10, 4, 4], [20, 10, 0, 0]])
    found = box_scores(activity, boxes, np.full(4, 10_000.0), 20_000, 2.0)
    assert found.tolist() == pytest.approx([0, 0, 0, 0], abs=1e-12)


def test_the_score_is_highest_for_the_exact_box(scene, activity):
    boxes = BoxSet.of(scene[1])

    def mean(xywh):
        return box_scores(activity, xywh, boxes.times, 100_000, 4.0).mean()

    x, y, w, h = boxes.xywh.T
    exact = mean(boxes.xywh)
    changed = [(x + 3, y, w, h), (x, y - 3, w, h), (x - w / 4, y - h / 4, 1.5 * w, 1.5 * h), (x, y, w / 2, h)]
    assert exact > 0.8
    assert all(mean(np.stack(columns, axis=1)) < 0.85 * exact for columns in changed)


def test_significance_by_hand():
    # Sums of the groups are 3, 5 and 1 of 2, 2 and 1 values; the mean is 1.8, deviations are -0.6, 1.4 and -0.8.
    found = significance(np.array([1, 2, 2, 3, 1.0]), np.array([7, 7, 4, 4, 9]))
    error = np.sqrt((0.36 + 1.96 + 0.64) * 3 / 2) / 5
    assert found.mean == pytest.approx(1.8)
    assert found.ratio == pytest.approx(1.8 / error)
    assert found.num_blocks == 3


def test_nothing_is_significant_in_one_group():
    assert significance(np.array([1.0, 2]), np.array([5, 5])) == (1.5, 0.0, 1)
    assert significance(np.empty(0), np.empty(0)) == (0.0, 0.0, 0)


def test_two_groups_are_enough_for_a_significance():
    # Sums of the groups are 2 and 9 of 2 and 3 values; the mean is 2.2, deviations are -2.4 and 2.4.
    found = significance(np.array([1.0, 1, 2, 3, 4]), np.array([0, 0, 1, 1, 1]))
    assert found == (2.2, pytest.approx(2.2 / (np.sqrt(2 * 2.4**2 * 2) / 5)), 2)


def test_boxes_of_the_size_of_a_cell_are_large():
    activity = activity_of([20], [10])
    height, width = activity.cell
    labels = np.zeros(3, BBOX_dtype)
    labels["w"], labels["h"] = (width, width - 0.25, width), (height, height, height - 0.25)
    assert is_large(labels, activity).tolist() == [True, False, False]


def test_boxes_of_a_track_in_a_second_are_one_group():
    labels = np.zeros(4, BBOX_dtype)
    labels["t"], labels["track_id"] = [900_000, 999_999, 1_000_000, 999_999], [1, 1, 1, 2]
    blocks = BoxSet.of(labels).blocks
    assert blocks[0] == blocks[1]
    assert len({*blocks.tolist()}) == 3


def test_groups_without_track_ids_are_ranks_from_the_left():
    labels = np.zeros(5, BBOX_dtype)
    labels["t"], labels["x"] = [100_000, 100_000, 200_000, 200_000, 1_300_000], [50, 10, 13, 50, 16]
    labels["track_id"] = 4
    boxes = BoxSet.of(labels)
    first, second, third, fourth, fifth = boxes.blocks.tolist()
    assert first == fourth
    assert second == third
    assert len({first, second, fifth}) == 3
    assert boxes.motion.tolist() == [[0, 0], [1, 0], [1, 0], [0, 0], [0, 0]]


def test_chosen_boxes(activity):
    labels = np.zeros(9000, BBOX_dtype)
    labels["t"], labels["w"], labels["h"] = np.arange(9000) * 2000, 5, 0.5
    assert choose_boxes(labels, activity).times.size == 0  # below a cell of 1 px
    labels["h"] = 1
    times = choose_boxes(labels, activity).times
    assert times[:2].tolist() == [0, 6000]  # 8501 boxes up to 17 s, 5 s after the last event
    assert times[-1] == 16_998_000


def test_the_direction_of_motion_of_a_track_by_hand():
    labels = np.zeros(5, BBOX_dtype)
    labels["t"] = [0, 0, 100_000, 200_000, 2_000_000]
    labels["track_id"] = [1, 2, 1, 1, 1]
    labels["x"], labels["y"] = [10, 50, 13, 16, 90], [20, 5, 16, 12, 3]  # 3 px right and 4 px up per step, then a gap
    assert np.allclose(BoxSet.of(labels).motion, [(0.6, -0.8), (0, 0), (0.6, -0.8), (0.6, -0.8), (0, 0)])
    assert BoxSet.of(labels[:0]).motion.shape == (0, 2)
