from pathlib import Path

import numpy as np
import pytest

from detector.data.check.alignment.activity import ActivityBuilder
from detector.data.check.alignment.findings import check_alignment
from detector.data.check.alignment.fit import WITHOUT_EVENTS, find_moving, find_without_events
from detector.data.check.alignment.score import choose_boxes
from detector.data.check.alignment.search import find_shift
from detector.events import BBOX_dtype

PATH = Path("a_bbox.npy")
WINDOW = 100_000


def find(labels, activity):
    return find_without_events(
        PATH, labels, activity, WINDOW, find_shift(activity, choose_boxes(labels, activity), WINDOW)
    )


def count(events):
    builder = ActivityBuilder((80, 120), (0, 12_000_000))
    builder.add_events(tuple(events[name] for name in "xypt"))
    return builder.build()


def reverse(labels):
    labels = labels.copy()
    labels["t"] = 12_000_000 - labels["t"]
    return labels[np.argsort(labels["t"], kind="stable")]


def scatter(labels, seed):
    labels, rng = labels.copy(), np.random.default_rng(seed)
    labels["x"], labels["y"] = rng.uniform(0, 120 - labels["w"]), rng.uniform(0, 80 - labels["h"])
    return labels


def add_noise(events, rate, seed):
    """Add `rate` events per second at random pixels."""
    noise, rng = np.zeros(rate * 12, events.dtype), np.random.default_rng(seed)
    for name, most in (("x", 120), ("y", 80), ("t", 12_000_000)):
        noise[name] = rng.integers(0, most, noise.size)
    return np.sort(np.concatenate([events, noise]), order="t", kind="stable")


def still(labels):
    """Parked objects: each track keeps its first position in a part without events, up to the errors of the boxes."""
    labels, rng = labels.copy(), np.random.default_rng(0)
    labels["x"] = 90 + rng.normal(0, 1, labels.size)
    labels["y"] = 20 * labels["track_id"] + rng.normal(0, 1, labels.size)
    return labels


@pytest.mark.parametrize("track_id", [None, 7])
@pytest.mark.parametrize("change", [reverse, lambda labels: scatter(labels, 0)])
def test_labels_of_another_recording(scene, activity, change, track_id):
    labels = change(scene[1])
    if track_id is not None:
        labels["track_id"] = track_id
    ((found,), fits) = check_alignment(PATH, labels, activity)
    assert not fits
    assert (found.severity, found.kind, found.path) == ("warning", "labels without events", PATH)
    score = float(found.found.removeprefix("moving boxes have a score of ").split()[0])
    assert -0.1 < score < 0.05
    assert found.allowed == "boxes that hold more events than their surroundings"
    assert found.cause == "check that the label file belongs to this recording, its rate and its image size"
    (curve,) = found.evidence
    assert curve.marks == {"as stored": 0.0}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("rate", [0, 20_000])
def test_correct_labels(scene, seed, rate):
    """With 1 s between labels, few labels, inexact boxes, parked objects and noise of up to 2 Hz per pixel."""
    labels, rng = scene[1], np.random.default_rng(seed)
    activity = count(add_noise(scene[0], rate, seed))
    inexact = labels.copy()
    for name in "xy":
        inexact[name] += rng.normal(0, 2, labels.size)
    parked = np.sort(np.concatenate([labels, still(labels)]), order="t")
    for part in (labels, labels[labels["t"] % 1_000_000 == 0], labels[rng.random(labels.size) < 0.1], inexact, parked):
        assert find(part, activity) is None


def test_a_low_score_of_correct_labels_is_above_the_scores_at_other_times(scene, activity):
    """The objects send few events among many of the background."""
    labels, noisy = scene[1], count(add_noise(scene[0], 100_000, 0))
    assert find_shift(noisy, choose_boxes(labels, noisy), WINDOW).score < 0.1
    assert find(labels, noisy) is None


def test_where_it_cannot_be_known(scene, activity):
    wrong = scatter(scene[1], 0)
    assert find(wrong, activity).kind == WITHOUT_EVENTS
    assert find_without_events(PATH, wrong, activity, WINDOW, None) is None
    assert find(wrong[:12], activity) is None  # 4 times
    assert find(still(wrong), activity) is None
    assert find(wrong, count(scene[0][::150])) is None  # 2.6 events per 100 ms for 3 boxes


def test_few_parked_objects_whose_boxes_jump(scene, activity):
    """Fewer than a quarter of the boxes seem to move."""
    labels = still(scene[1])
    jump = np.arange(labels.size) % 10 == 0
    labels[jump] = scatter(labels[jump], 0)
    assert 0.05 < find_moving(labels).mean() < 0.25
    assert find(labels, activity) is None


def test_moving_boxes_by_hand():
    # w = 16, h = 9: a step of 6 px in x or y counts as motion. All track ids are equal.
    rows = [
        (0, 10, 20),  # 5.9 px to the box at 0.9 s
        (0, 60, 50),
        (500_000, 99, 70),  # compared with 1.5 s
        (900_000, 15.9, 20),  # the next labelled time is 3.6 s
        (900_000, 60, 56),
        (1_500_000, 98, 70),
        (3_600_000, 0, 0),
    ]
    labels = np.array([(t, x, y, 16, 9, 0, 0, 1.0) for t, x, y in rows], BBOX_dtype)
    assert find_moving(labels).tolist() == [False, True, False, False, False, False, False]
    labels["w"], labels["h"] = 6, 6  # 4 px
    assert find_moving(labels).tolist() == [True, True, False, False, False, False, False]
    assert find_moving(labels[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("later", "expected"), [(899_999, False), (900_000, True), (2_000_000, True), (2_000_001, False)]
)
def test_times_of_boxes_that_are_compared(later, expected):
    labels = np.array([(t, x, 9, 6, 6, 0, 0, 1.0) for t, x in ((0, 10), (later, 30))], BBOX_dtype)
    assert find_moving(labels).tolist() == [expected, False]
