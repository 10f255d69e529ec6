import numpy as np
import pytest

from detector.evaluation.analysis.matches import match_boxes
from detector.evaluation.analysis.tracks import Reaction, Waits, find_waits, summarize_waits, track_motion
from detector.evaluation.collector import Protocol, RecordingBoxes
from detector.events.frames import Frames
from detector.events.types import BBOX_dtype

PROTOCOL = Protocol(skip_us=100_000, min_box_side=10)


def rows(*table):
    """(t in ms, x, side, class, track) rows."""
    return np.array(
        [(t * 1000, x, 0, side, side, class_id, track, 1.0) for t, x, side, class_id, track in table], BBOX_dtype
    )


def test_speed_is_that_of_the_centre_over_a_frame_or_more():
    labels = rows((0, 0, 20, 1, 7), (50, 10, 20, 1, 7), (100, 20, 20, 1, 7), (150, 20, 20, 1, 7), (0, 5, 20, 1, 8))
    found = track_motion(labels, labels, 50_000)
    # 10 px in 50 ms at the ends, 20 px and 10 px in 100 ms between; track 8 has one box.
    np.testing.assert_allclose(found.speed, [200, 200, 100, 0, np.nan])
    np.testing.assert_allclose(found.age, [0, 0.05, 0.1, 0.15, 0])


def test_labels_closer_than_a_frame_do_not_show_their_jitter():
    labels = rows(*((t, x, 20, 1, 7) for t, x in ((0, 0), (16, 3), (33, 0), (50, 3), (66, 0))))
    np.testing.assert_allclose(track_motion(labels, labels, 50_000).speed[0], 3 / 0.05)


def test_what_is_no_track_has_no_figures():
    labels = rows((0, 0, 20, 1, 0), (0, 50, 20, 1, 0), (50, 0, 20, 1, 0), (0, 0, 20, 2, 0), (2000, 0, 20, 2, 0))
    found = track_motion(labels, labels, 50_000)
    np.testing.assert_array_equal(found.age, [np.nan, np.nan, np.nan, 0, 2])
    assert np.isnan(found.speed).all(), "the labels of the last track are too far apart"


def test_markers_are_no_labels():
    labels = rows((50, 0, 20, 1, 7))
    marker = np.zeros(1, BBOX_dtype)
    marker["t"], marker["class_id"] = 50_000, 2**32 - 1
    np.testing.assert_array_equal(track_motion(labels, np.concatenate([labels, marker]), 50_000).age[0], 0)
    assert np.isnan(track_motion(labels[:0], marker, 50_000).age).all()


def waits(all_labels, detections, score=0.5, first_t=0):
    """Evaluate boxes that all lie at the places of the labels. All times are moved by `first_t` microseconds."""
    frames, all_labels, found = Frames(first_t, 50_000, 10), all_labels.copy(), np.array(detections, BBOX_dtype)
    for boxes in (all_labels, found):
        boxes["t"] += first_t
    recording = RecordingBoxes("a.h5", frames, all_labels, all_labels, found)
    evaluator = PROTOCOL.evaluator({1: "car"}, (100, 100))
    evaluator.partial_eval([recording.labels], [recording.detections], [frames])
    (boxes,) = evaluator.recordings
    return find_waits(recording, boxes, match_boxes(boxes), PROTOCOL, score)


def detection(t, score=0.9):
    return (t * 1000, 0, 0, 20, 20, 1, 0, score)


def test_a_track_waits_from_its_first_label_that_counts():
    labels = rows((150, 0, 5, 1, 7), (190, 0, 20, 1, 7), (250, 0, 20, 1, 7), (300, 0, 20, 1, 7))
    found = waits(labels, [detection(200, 0.4), detection(250, 0.6), detection(300)])
    assert found.tracks == 1
    assert found.found.tolist() == [60_000], "found at 250 ms, large enough from 190 ms on"
    assert waits(labels, [detection(200, 0.4)]).found.tolist() == []


def test_tracks_of_the_skipped_start_are_not_waited_for():
    labels = rows((100, 0, 20, 1, 7), (200, 0, 20, 1, 7), (200, 50, 20, 1, 8))
    for first_t in (0, 5_000_000):  # the start is skipped from the first frame on
        assert waits(labels, [detection(200)], first_t=first_t).tracks == 1


def test_summary():
    found = summarize_waits([Waits(3, np.array([50_000, 150_000])), Waits(1, np.array([], np.int64))])
    assert found == Reaction(4, 0.5, pytest.approx(100), pytest.approx(140))
    assert summarize_waits([Waits(2, np.array([], np.int64))]) == Reaction(2, 0.0, None, None)
    assert summarize_waits([]) == Reaction(0, None, None, None)


def test_gaps_of_up_to_one_and_a_half_seconds_are_bridged():
    for gap, speed in ((1_500, 20.0), (1_501, np.nan)):
        labels = rows((0, 0, 20, 1, 7), (gap, 30, 20, 1, 7))
        np.testing.assert_allclose(track_motion(labels, labels, 50_000).speed, [speed, speed])


def test_the_centre_moves_with_the_size_in_both_directions():
    labels = rows((0, 0, 20, 1, 7), (100, 0, 26, 1, 7))
    labels["h"][1] = 28  # the centre moves from 10, 10 to 13, 14
    np.testing.assert_allclose(track_motion(labels, labels, 100_000).speed, [50, 50])
    np.testing.assert_allclose(track_motion(labels, labels[1:], 100_000).age, [0.1])
