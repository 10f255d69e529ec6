from pathlib import Path

import numpy as np
import pytest

from detector.data.check.alignment.activity import ActivityBuilder
from detector.data.check.standing import check_standing, find_rests
from detector.events import BBOX_dtype

PATH = Path("a_bbox.npy")


def still(times, x=10, y=4, w=8, h=12, track=1, class_id=0):
    return np.array([(t, x, y, w, h, class_id, track, 1.0) for t in times], BBOX_dtype)


def moving(times, track=2):
    labels = still(times, track=track)
    labels["x"] += np.arange(labels.size) % 30
    return labels


def join(*parts):
    labels = np.concatenate(parts)
    return labels[np.argsort(labels["t"], kind="stable")]


def activity_of(num_events, most_x, seconds=12):
    """Random events in the columns 0 to `most_x` - 1 of a sensor of 40 rows and 60 columns."""
    rng = np.random.default_rng(0)
    builder = ActivityBuilder((40, 60), (0, seconds * 1_000_000))
    t = np.sort(rng.integers(0, seconds * 1_000_000, num_events))
    x, y = rng.integers(0, most_x, num_events), rng.integers(0, 40, num_events)
    builder.add_events((x.astype(np.uint16), y.astype(np.uint16), np.zeros(num_events, np.int8), t))
    return builder.build()


TEN_SECONDS = range(100_000, 10_100_000, 100_000)


def test_all_boxes_stand_still():
    (found,) = check_standing(PATH, still(TEN_SECONDS), None)
    assert (found.severity, found.kind) == ("warning", "all boxes stand still")
    assert found.found == "100 boxes have one position and size, for up to 9.9 s"
    assert found.evidence == ()
    several = join(still(TEN_SECONDS), still(TEN_SECONDS, x=30.5, track=1))
    (found,) = check_standing(PATH, several, activity_of(1000, 60))
    assert found.found == "200 boxes have one of 2 positions and sizes, for up to 9.9 s"
    assert found.evidence[0].boxes["box"].tolist() == [[10, 4, 8, 12], [30.5, 4, 8, 12]]


@pytest.mark.parametrize(
    "labels",
    [
        still(range(100_000, 1_000_000, 100_000)),  # 9 times
        still(range(100_000, 3_000_000, 200_000)),  # 15 times over 2.8 s
        moving(TEN_SECONDS),
        join(still(TEN_SECONDS), moving(TEN_SECONDS)),  # a parked car, without knowledge of the events
        still([]),
        join(still(range(0, 5_000_000, 100_000)), still(range(5_000_000, 5_700_000, 100_000), x=11)),
    ],
)
def test_boxes_that_may_stand_still(labels):
    assert list(check_standing(PATH, labels, None)) == []


@pytest.mark.parametrize(
    ("times", "number"),
    [
        (range(0, 3_200_001, 400_000), 0),  # 9 times over 3.2 s
        (range(0, 3_600_001, 400_000), 10),
        (range(100_000, 3_099_999, 299_999), 0),  # 10 times over 2.999991 s
        ([*range(100_000, 2_800_000, 300_000), 3_100_000], 10),  # over 3 s
    ],
)
def test_the_shortest_rest_has_10_times_over_3_seconds(times, number):
    labels = still(times)
    assert find_rests(labels).num_times.tolist() == [number] * (number > 0)
    assert len(list(check_standing(PATH, labels, None))) == (number > 0)


def test_boxes_that_stand_still_are_an_error_if_the_camera_moves():
    labels = still(TEN_SECONDS, x=5)
    for events, severity in (
        (activity_of(60_000, 60), "error"),  # 2 events per pixel and second: the camera moves
        (activity_of(6_000, 16), "warning"),  # many events in the box: somebody walks in front of a parked car
        (activity_of(4_000, 60), "warning"),  # noise in the whole frame
    ):
        (found,) = check_standing(PATH, labels, events)
        assert (found.severity, found.kind) == (severity, "all boxes stand still")


@pytest.mark.parametrize("seconds", [10, 30, 60])
def test_noise_is_no_moving_camera(seconds):
    labels = join(still(range(100_000, 10_300_000, 100_000)), moving(TEN_SECONDS))
    assert list(check_standing(PATH, labels, activity_of(480 * seconds, 60, seconds))) == []  # 0.2 Hz per pixel


def test_boxes_that_stand_still_with_small_deviations():
    labels = still(TEN_SECONDS)
    labels["x"][::2] += 0.25
    rests = find_rests(labels)
    assert rests.rows.tolist() == [0]
    assert rests.num_times.tolist() == [100]
    assert rests.of_box.tolist() == [0] * 100
    labels["x"] += np.arange(100)
    assert find_rests(labels).of_box.tolist() == [-1] * 100


def test_a_rest_has_at_most_two_missing_times_and_other_tracks():
    labels = join(still(TEN_SECONDS), moving(TEN_SECONDS))
    labels["track_id"] = np.arange(labels.size)
    gone = lambda last: labels[(labels["track_id"] % 2 == 1) | (labels["t"] <= 5_000_000) | (labels["t"] > last)]  # noqa: E731
    assert find_rests(gone(5_200_000)).num_times.tolist() == [98]
    assert find_rests(gone(5_300_000)).num_times.tolist() == [50, 47]


def test_objects_that_come_back_move():
    pendulum = still(TEN_SECONDS)
    pendulum["x"] = [30, 25, 18, 10, 18][:5] * 20
    assert list(check_standing(PATH, pendulum, activity_of(60_000, 60))) == []


def test_a_few_other_boxes_do_not_hide_boxes_that_stand_still():
    labels = join(still(TEN_SECONDS), moving(range(100_000, 400_000, 100_000)))
    (found,) = check_standing(PATH, labels, activity_of(60_000, 60))
    assert found.found == "100 boxes have one position and size, for up to 9.9 s"


def test_one_box_that_stands_still_while_the_camera_moves():
    labels = join(still(range(100_000, 10_300_000, 100_000)), moving(TEN_SECONDS))
    (found,) = check_standing(PATH, labels, activity_of(60_000, 60))
    assert (found.severity, found.kind) == ("warning", "box stands still")
    assert "first x 10, y 4, class_id 0: 102 times over 10.1 s" in found.found
    assert list(check_standing(PATH, labels[labels["t"] < 9_000_000], activity_of(60_000, 60))) == []


def test_a_parked_car_in_front_of_a_fixed_camera():
    labels = join(still(range(100_000, 10_300_000, 100_000)), moving(TEN_SECONDS))
    assert list(check_standing(PATH, labels, activity_of(60_000, 16))) == []  # events in a quarter of the frame
    labels["x"][labels["track_id"] == 1] = 45
    assert list(check_standing(PATH, labels, activity_of(60_000, 40))) == []  # no events in the box
