import numpy as np
import pytest

from detector.data.check.alignment.displacement import find_constant, find_edge
from detector.data.check.alignment.score import BoxSet


@pytest.mark.parametrize(("x", "y"), [(7, -3), (-18, 5)])
def test_the_displacement_that_moves_boxes_back_is_found(scene, activity, x, y):
    boxes = BoxSet.of(scene[1])
    found = find_constant(activity, boxes._replace(xywh=boxes.xywh + (x, y, 0, 0)), 100_000, 300_000)
    assert found.move == (pytest.approx(-x, abs=1), pytest.approx(-y, abs=1))
    assert min(found.gain.ratio, found.lead.ratio) > 4


@pytest.mark.parametrize("x", [-32, 32])
def test_displacements_up_to_32_px_are_found(scene, activity, x):
    boxes = BoxSet.of(scene[1]).take(np.arange(0, 300, 5))
    found = find_constant(activity, boxes._replace(xywh=boxes.xywh + (x, 0, 0, 0)), 100_000, 300_000)
    assert found.move == (pytest.approx(-x, abs=1), pytest.approx(0, abs=1))


def test_boxes_behind_their_objects_are_found(scene, activity):
    boxes = BoxSet.of(scene[1])
    behind = boxes.xywh.copy()
    behind[:, :2] -= 0.4 * boxes.motion * boxes.xywh[:, 2:]
    found = find_edge(activity, boxes._replace(xywh=behind), 100_000, 0)
    assert found.move == (0.4, 0.4)
    assert found.gain.ratio > 4
    assert found.lead.mean == pytest.approx(found.gain.mean)  # compared with no offset
