import numpy as np
import pytest

from detector.data.check.alignment.layouts import all_layouts
from detector.data.check.alignment.score import BoxSet
from detector.data.check.alignment.search import find_layout, find_shift


@pytest.mark.parametrize("offset", [-700_000, -70_000, 0, 130_000, 2_000_000])
def test_the_offset_that_moves_labels_back_is_found(scene, activity, offset):
    labels = scene[1]
    labels["t"] += offset
    found = find_shift(activity, BoxSet.of(labels), 100_000)
    assert found.best == pytest.approx(-offset, abs=15_000)
    assert found.error < 15_000
    assert found.shifts[np.nanargmax(found.scores)] == pytest.approx(-offset, abs=50_000)
    assert found.gain.mean == pytest.approx(0, abs=0.02) if offset == 0 else found.gain.ratio > 3


def test_labels_far_outside_have_no_offset(scene, activity):
    labels = scene[1]
    labels["t"] += 100_000_000
    assert find_shift(activity, BoxSet.of(labels), 100_000) is None


INVERSE = {
    "as stored": "as stored",
    "mirrored in x": "mirrored in x",
    "mirrored in y": "mirrored in y",
    "rotated by 180 degrees": "rotated by 180 degrees",
    "x and y swapped": "x and y swapped",
    "all values times 0.5": "all values times 2",
    "all values times 1.333": "all values times 0.75",
    "w, h times 0.5": "w, h times 2",
    "w, h times 2 around the centre": "w, h times 0.5 around the centre",
}


@pytest.mark.parametrize(("fault", "remedy"), INVERSE.items())
def test_the_layout_that_undoes_a_fault_is_found(scene, activity, fault, remedy):
    boxes = BoxSet.of(scene[1])
    faulty = boxes._replace(xywh=all_layouts(activity.sensor_size)[fault](boxes.xywh))
    found = find_layout(activity, faulty, 100_000)
    assert found.best == remedy
    assert found.lead > 0.1
    assert found.gain.ratio > 4 or fault == "as stored"


def test_centres_are_recognized(scene, activity):
    boxes = BoxSet.of(scene[1])
    centres = boxes._replace(xywh=boxes.xywh + np.pad(boxes.xywh[:, 2:] / 2, ((0, 0), (0, 2))))
    assert find_layout(activity, centres, 100_000).best == "x, y are centres"


def test_boxes_of_another_resolution_are_recognized(scene, activity):
    boxes = BoxSet.of(scene[1])
    large = boxes._replace(xywh=boxes.xywh * np.array([640, 480, 640, 480]) / np.array([120, 80, 120, 80]))
    found = find_layout(activity, large, 100_000)
    assert found.best == "scaled from 640 x 480 px to the sensor"
    assert found.lead > 0.2


def test_half_of_the_boxes_remain_inside_the_recording(scene, activity):
    def shifts_with_scores(*seconds):
        labels = np.repeat(scene[1][:1], len(seconds))
        labels["t"] = np.array(seconds) * 1_000_000
        found = find_shift(activity, BoxSet.of(labels), 100_000)
        known = found.shifts[np.isfinite(found.scores)]
        return known.min(), known.max()

    assert shifts_with_scores(2, 10) == (-5_000_000, 5_000_000)
    assert shifts_with_scores(2, 10, 10) == (-5_000_000, 1_950_000)  # until 12 s, with half of the 0.1 s
    assert shifts_with_scores(2, 2, 10) == (-1_950_000, 5_000_000)
