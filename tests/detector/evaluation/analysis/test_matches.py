import numpy as np
import pytest

from detector.evaluation.analysis.matches import calibrate, confusion_matrix, match_boxes, threshold_curve
from tests.helpers.measured_boxes import frame_boxes

CLASSES = {3: "car", 5: "bus"}


def test_the_higher_score_chooses_first_and_takes_the_larger_overlap():
    boxes = frame_boxes([(0, 0, 3), (0, 4, 3)], [(0, 1, 3, 0.5), (0, 1, 3, 0.9), (0, 30, 3, 0.99)])
    matches = match_boxes(boxes, iou=0.5)
    # x 1 overlaps x 0 by 9 of 11 and x 4 by 7 of 13: the second takes the former, the first is left with the latter.
    assert matches.detection.tolist() == [1, 0, -1]
    assert matches.label.tolist() == [1, 0]
    assert match_boxes(boxes, iou=0.6).detection.tolist() == [-1, 0, -1]
    assert match_boxes(boxes, min_score=0.9).detection.tolist() == [-1, 0, -1]


def test_frames_and_classes_do_not_mix():
    boxes = frame_boxes([(1, 0, 3)], [(0, 0, 3, 0.9), (1, 0, 5, 0.8)])
    assert match_boxes(boxes).detection.tolist() == [-1, -1]
    assert match_boxes(boxes, same_class=False).detection.tolist() == [-1, 0]


def test_nothing_to_match():
    assert not any(map(len, match_boxes(frame_boxes([], []))))
    assert match_boxes(frame_boxes([(0, 0, 3)], [])).label.tolist() == [-1]
    assert match_boxes(frame_boxes([], [(0, 0, 3, 0.5)])).detection.tolist() == [-1]


def test_operating_point():
    """Of 4 labels the detections hit 1, 1, 0, 1 by falling score: F1 is 2/5, 4/6, 4/7, 6/8."""
    boxes = frame_boxes(
        [(0, 0, 3), (0, 100, 3), (0, 200, 3), (0, 300, 3)],
        [(0, 0, 3, 0.9), (0, 100, 3, 0.8), (0, 400, 3, 0.7), (0, 200, 3, 0.6)],
    )
    found = threshold_curve([(boxes, match_boxes(boxes))])
    assert found.best == pytest.approx((0.6, 0.75, 0.75, 0.75))
    assert found.labels == 4
    assert found.scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert found.precision.tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert found.recall.tolist() == [0.25, 0.5, 0.5, 0.75]
    assert found.f1.tolist() == pytest.approx([2 / 5, 4 / 6, 4 / 7, 6 / 8])
    tied = boxes._replace(score=np.array([0.9, 0.8, 0.5, 0.5]))
    assert threshold_curve([(tied, match_boxes(tied))]).best.score == 0.5
    nothing = frame_boxes([], [])
    assert threshold_curve([(nothing, match_boxes(nothing))]).best == (None, None, None, None)
    missed = frame_boxes([(0, 0, 3)], [])
    assert threshold_curve([(missed, match_boxes(missed))]).best == (None, 0.0, None, 0.0)


def test_threshold_curves_of_classes():
    """Car: found at 0.9, one of two; bus: wrong at 0.8, found at 0.3. Bicycles have no label and no detection."""
    first = frame_boxes([(0, 0, 3), (0, 100, 3)], [(0, 0, 3, 0.9), (0, 50, 5, 0.8)])
    second = frame_boxes([(1, 0, 5)], [(1, 0, 5, 0.3)])
    parts = [(boxes, match_boxes(boxes)) for boxes in (first, second)]
    car, bus, bicycle = (threshold_curve(parts, key) for key in (3, 5, 7))
    assert (car.labels, car.best) == (2, pytest.approx((0.9, 2 / 3, 1.0, 0.5)))
    assert (bus.labels, bus.best) == (1, pytest.approx((0.3, 2 / 3, 0.5, 1.0)))
    assert (bus.scores.tolist(), bus.precision.tolist(), bus.recall.tolist()) == ([0.8, 0.3], [0, 0.5], [0, 1])
    assert (bicycle.labels, bicycle.best, len(bicycle.scores)) == (0, (None, None, None, None), 0)


def test_confusion():
    """A car found, a car taken for a bus, a bus missed, a car where there is none; scores below 0.5 do not count."""
    boxes = frame_boxes(
        [(0, 0, 3), (0, 100, 3), (1, 0, 5)],
        [(0, 0, 3, 0.9), (0, 100, 5, 0.8), (1, 100, 3, 0.7), (1, 0, 5, 0.4)],
    )
    found = confusion_matrix([boxes], CLASSES, 0.5)
    assert found.names == ["car", "bus", "(background)"]
    assert found.counts == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert confusion_matrix([frame_boxes([(0, 0, 3)], [])], CLASSES, 0.5).counts[0] == [0, 0, 1]


def test_calibration():
    """Scores 0.9 (right) and 0.95 (wrong): share 0.5 at mean 0.925; 0.25 (wrong); 0.04 lies under the floor."""
    boxes = frame_boxes([(0, 0, 3)], [(0, 0, 3, 0.9), (0, 50, 3, 0.95), (1, 0, 3, 0.25), (1, 0, 3, 0.04)])
    found = calibrate([(boxes, match_boxes(boxes))])
    assert found.detections == [0, 0, 1, 0, 0, 0, 0, 0, 0, 2]
    assert (found.scores[9], found.precisions[9]) == pytest.approx((0.925, 0.5))
    assert found.error == pytest.approx((2 * 0.425 + 0.25) / 3)
    assert (found.scores[5], found.precisions[5]) == (None, None), "no detection has such a score"
    nothing = frame_boxes([(0, 0, 3)], [])
    assert calibrate([(nothing, match_boxes(nothing))]).error is None


def test_scores_at_the_floor_and_of_one_are_in_bins():
    boxes = frame_boxes([(0, 0, 3)], [(0, 0, 3, 1.0), (0, 50, 3, 0.05), (1, 0, 3, 0.1), (1, 50, 3, 0.199)])
    assert calibrate([(boxes, match_boxes(boxes))]).detections == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]


def test_without_a_score_all_detections_are_in_the_confusion():
    boxes = frame_boxes([(0, 0, 3), (1, 0, 5)], [(0, 0, 3, 0.0), (1, 50, 5, 0.001)])
    assert confusion_matrix([boxes, boxes], CLASSES, None).counts == [[2, 0, 0], [0, 0, 2], [0, 2, 0]]
    assert confusion_matrix([boxes], CLASSES, 0.001).counts == [[0, 0, 1], [0, 0, 1], [0, 1, 0]]


def test_overlaps_in_both_directions_by_hand():
    # 10 x 10 boxes that share 5 columns: IoU 50 / 150; the other one touches.
    boxes = frame_boxes([(0, 0, 3)], [(0, 5, 3, 0.9), (0, 10, 3, 0.8)])
    assert match_boxes(boxes, iou=0.33).detection.tolist() == [0, -1]
    assert match_boxes(boxes, iou=0.34).detection.tolist() == [-1, -1]
    assert match_boxes(boxes, iou=0.0).detection.tolist() == [0, -1], "boxes that touch share nothing"


@pytest.mark.parametrize(
    ("found", "overlap"), [((30, 20, 40, 5), 1 / 3), ((10, 22, 40, 5), 3 / 7), ((20, 21, 8, 3), 0.12)]
)
def test_overlaps_of_wide_boxes(found, overlap):
    boxes = frame_boxes([(0, 0, 3)], [(0, 0, 3, 0.9)])
    boxes.labels.boxes[0], boxes.detections.boxes[0] = (10, 20, 40, 5), found
    assert [match_boxes(boxes, iou=overlap + change).label.tolist() for change in (-0.01, 0.01)] == [[0], [-1]]
