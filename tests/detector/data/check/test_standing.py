from pathlib import Path

import numpy as np
import pytest

from detector.data.check.alignment.activity import ActivityBuilder
from detector.data.check.standing import check_standing
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
    assert (found.severity, found.kind) == ("error", "all boxes stand still")
    assert found.found == "all 100 boxes have one position and size, for up to 9.9 s"
    assert found.evidence == ()
    several = join(still(TEN_SECONDS), still(TEN_SECONDS, x=30.5, track=1))
    (found,) = check_standing(PATH, several, activity_of(1000, 60))
    assert found.found == "all 200 boxes have one of 2 positions and sizes, for up to 9.9 s"
    assert found.evidence[0].boxes["box"].tolist() == [[10, 4, 8, 12], [30.5, 4, 8, 12]]


@pytest.mark.parametrize(
    "labels",
    [
        still(range(100_000, 1_000_000, 100_000)),  # 9 times
        still(range(100_000, 3_000_000, 200_000)),  # 15 times over 2.8 s
        moving(TEN_SECONDS),
        join(still(TEN_SECONDS), moving(TEN_SECONDS)),  # a parked car, without knowledge of the events
        still([]),
        join(still(range(0, 5_000_000, 100_000)), still(range(5_000_000, 5_500_000, 100_000), x=11)),
    ],
)
def test_boxes_that_may_stand_still(labels):
    assert list(check_standing(PATH, labels, None)) == []


def test_one_box_that_stands_still_while_the_camera_moves():
    labels = join(still(range(100_000, 10_300_000, 100_000)), moving(TEN_SECONDS))
    (found,) = check_standing(PATH, labels, activity_of(60_000, 60))
    assert (found.severity, found.kind) == ("warning", "box stands still")
    assert "first x 10, y 4, class_id 0: 102 times over 10.1 s" in found.found
    assert list(check_standing(PATH, labels[labels["t"] < 9_000_000], activity_of(60_000, 60))) == []


def test_a_parked_car_in_front_of_a_fixed_camera():
    labels = join(still(range(100_000, 10_300_000, 100_000)), moving(TEN_SECONDS))
    assert list(check_standing(PATH, labels, activity_of(60_000, 20))) == []  # events in a third of the frame
    labels["x"][labels["track_id"] == 1] = 45
    assert list(check_standing(PATH, labels, activity_of(60_000, 40))) == []  # no events in the box
