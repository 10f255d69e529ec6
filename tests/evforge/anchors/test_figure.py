import numpy as np

from evforge.anchors.figure import coverage_figure


def test_the_picture_shows_curves_boxes_and_anchors():
    sides = np.array([[10.0, 20.0], [40.0, 30.0]])
    levels = [np.array([[16.0, 16.0]]), np.array([[32.0, 32.0]])]
    curves = {"a": np.linspace(1, 0, 20), "b": np.ones(20)}
    recall, shapes = coverage_figure(curves, 0.45, sides, levels, "a", "2 boxes").axes
    assert [line.get_label() for line in recall.get_lines()] == ["a", "b", "positive from 0.45"]
    np.testing.assert_array_equal(recall.get_lines()[0].get_ydata(), curves["a"])
    assert (recall.get_xlim(), recall.get_ylim()) == ((0, 1), (0, 1.02))  # the same in every picture
    boxes, *anchors_of_levels = shapes.get_lines()
    np.testing.assert_array_equal(boxes.get_xydata(), sides)
    assert [line.get_xydata().tolist() for line in anchors_of_levels] == [[[16, 16]], [[32, 32]]]
    assert (shapes.get_xlim(), shapes.get_ylim()) == ((5, 80), (10, 60))


def test_large_label_sets_are_thinned_in_the_picture(monkeypatch):
    monkeypatch.setattr("evforge.anchors.figure.MAX_BOXES", 10)
    sides = np.arange(1, 26)[:, None] * np.ones(2)
    shapes = coverage_figure({}, 0.5, sides, [sides[:1]], "a", "").axes[1]
    assert shapes.get_lines()[0].get_xdata().tolist() == [1, 4, 7, 10, 13, 16, 19, 22, 25]
