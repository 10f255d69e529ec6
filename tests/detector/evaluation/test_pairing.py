import numpy as np
import pytest
from measured_boxes import HALF, TWO, boxes, measure


def test_unlabelled_times_are_ignored():
    far = TWO.copy()
    far["t"] = 250_000
    far["x"] += 50
    assert measure(TWO, np.concatenate([TWO, far]))["mean_ap"] == pytest.approx(1)


@pytest.mark.parametrize(("offset", "expected"), [(-50_001, 0), (-50_000, 1), (50_000, 1), (50_001, 0)])
def test_tolerance_is_inclusive(offset, expected):
    late = TWO.copy()
    late["t"] += offset
    assert measure(TWO, late, time_tol=50_000)["mean_ap"] == pytest.approx(expected)


def test_frame_takes_the_nearest_detections_only():
    """A detector that answers every 50 ms is not charged for its neighbouring answers."""
    detections = np.concatenate([TWO, TWO, TWO])
    detections["t"] = np.repeat([50_000, 100_000, 150_000], 2)
    detections["class_confidence"] = np.repeat([0.9, 0.8, 0.7], 2)
    assert measure(TWO, detections)["mean_ap"] == pytest.approx(1)


def test_of_two_equally_near_answers_the_later_counts():
    detections = np.concatenate([TWO, TWO])
    detections["t"] = np.repeat([75_000, 125_000], 2)
    detections["x"] += np.repeat([50, 0], 2)
    assert measure(TWO, detections)["mean_ap"] == pytest.approx(1)
    detections["x"] = np.tile(TWO["x"], 2) + np.repeat([0, 50], 2)
    assert measure(TWO, detections)["mean_ap"] == 0


def test_one_answer_serves_all_labels_within_reach():
    """Labels at 60 Hz, answers at 20 Hz."""
    labels = np.concatenate([TWO, TWO, TWO])
    labels["t"] = np.repeat([83_333, 100_000, 116_667], 2)
    assert measure(labels, TWO)["mean_ap"] == pytest.approx(1)


def test_silent_answer_is_told_by_a_marker():
    neighbour = TWO.copy()
    neighbour["t"] = 150_000
    silent = boxes((100_000, 0, 0, 0, 0, 7, 0))
    assert measure(TWO, neighbour)["mean_ap"] == pytest.approx(1)
    assert measure(TWO, np.concatenate([silent, neighbour]))["mean_ap"] == 0


def test_eval_rate_keeps_the_labels_nearest_to_its_grid():
    # At 20 Hz of labels at 0, 16,667, 33,333, 49,999, 66,666, 99,998: those at 0, 49,999 and 99,998 count.
    times = np.array([0, 16_667, 33_333, 49_999, 66_666, 99_998])
    labels = np.repeat(TWO[:1], len(times))
    labels["t"] = times
    right = labels[[0, 3, 5]]
    assert measure(labels, right, time_tol=0, eval_rate=20)["mean_ap"] == pytest.approx(1)
    assert measure(labels, right, time_tol=0)["mean_ap"] == pytest.approx(HALF)
