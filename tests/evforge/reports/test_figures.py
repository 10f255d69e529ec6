import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from evforge.reports.figures import (
    Axis,
    coverage_scatter,
    importance_figure,
    learning_curves_figure,
    parallel_figure,
    trade_off_figure,
)


def _draws(figure: Figure) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


def test_learning_curves_leave_out_trials_without_points():
    figure = learning_curves_figure({"a": [(0, 0.1), (1, 0.2)], "stopped": [], "b": [(0, 0.3)]})
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.get_lines()] == ["a", "b"]
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [0, 1])
    _draws(figure)


def test_many_trials_are_told_apart():
    figure = learning_curves_figure({f"trial_{index}": [(0, 0.1), (1, 0.2)] for index in range(20)})
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(looks) == 20


def ticks_of(axis, values):
    """Positions of the ticks by their texts, and of the values, on the axis of a setting."""
    plot = parallel_figure([axis], values, "mAP", "t").axes[0]
    ticks = {text.get_text(): text.get_position()[1] for text in plot.texts if text.get_position()[0] == 0.03}
    lines = [line.get_ydata()[0] for line in plot.get_lines() if list(line.get_xdata()) == [0, 1]]
    return ticks, lines


@pytest.mark.parametrize(
    ("axis", "ticks", "positions"),
    [
        # Few different values have a tick each.
        (Axis("a", [2, 3, 10, 2]), {"2": 0, "3": 1 / 8, "10": 1}, [0, 1 / 8, 1, 0]),
        (Axis("a", [1e-4, 1e-3, 1e-1, 1e-2], True), {"0.0001": 0, "0.001": 1 / 3, "0.01": 2 / 3, "0.1": 1}, None),
        (Axis("a", ["van", "bus", "car", "bus"]), {"bus": 0, "car": 0.5, "van": 1}, [1, 0, 0.5, 0]),
        (Axis("a", ["bus"] * 4), {"bus": 0.5}, [0.5] * 4),
        (Axis("a", [7] * 4), {"7": 0.5}, [0.5] * 4),
    ],
)
def test_an_axis_has_a_tick_at_each_of_a_few_values(axis, ticks, positions):
    found, lines = ticks_of(axis, [0.1, 0.2, 0.3, 0.4])
    assert found == pytest.approx(ticks)
    assert lines == pytest.approx(positions or [0, 1 / 3, 1, 2 / 3])


def test_an_axis_of_many_values_has_five_ticks():
    values = [2, 3, 4, 5, 8, 9, 10]
    found, lines = ticks_of(Axis("a", values), range(7))
    assert found == pytest.approx({"2": 0, "4": 0.25, "6": 0.5, "8": 0.75, "10": 1})
    assert lines == pytest.approx([0, 1 / 8, 2 / 8, 3 / 8, 6 / 8, 7 / 8, 1])
    found, _ = ticks_of(Axis("a", [1, 2, 3, 9, 100, 9000, 10_000], True), range(7))
    assert found == pytest.approx({"1": 0, "10": 0.25, "100": 0.5, "1e+03": 0.75, "1e+04": 1})
    assert set(ticks_of(Axis("a", values[:6]), range(6))[0]) == {"2", "3", "4", "5", "8", "9"}


def test_better_trials_are_in_front():
    figure = parallel_figure([Axis("optim.lr", [3, 1, 2])], [0.5, 0.1, 0.9], "mAP", "t")
    lines = [line for line in figure.axes[0].get_lines() if list(line.get_xdata()) == [0, 1]]
    np.testing.assert_allclose([line.get_ydata() for line in lines], [[0, 0], [1, 0.5], [0.5, 1]])
    brightness = [sum(line.get_color()[:3]) for line in lines]
    assert brightness == sorted(brightness)
    names = [text.get_text() for text in figure.axes[0].texts if text.get_position()[1] == 1.06]
    assert names == ["optim.\nlr", "mAP"] and figure.axes[1].get_ylabel() == "mAP"
    _draws(figure)


def test_the_most_important_setting_is_at_the_top():
    (axes,) = importance_figure({"lr": 0.7, "width": 0.05, "anchors": 0.25}, "t").axes
    assert [bar.get_width() for bar in axes.patches] == [0.05, 0.25, 0.7]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["width", "anchors", "lr"]
    assert [text.get_text() for text in axes.texts] == ["0.05", "0.25", "0.70"]


@pytest.mark.parametrize(("number", "names"), [(12, 12), (13, 0)])
def test_a_metric_against_a_cost(number, names):
    points = {f"t{index}": (10.0 * index, 0.1 * index) for index in range(number)} | {"rest": (50.0, 0.2)}
    front = [f"t{index}" for index in range(number)]
    figure = trade_off_figure(points, front, "cost", "mAP", "t")
    (axes,) = figure.axes
    rest, best = axes.get_lines()
    assert (rest.get_xydata().tolist(), rest.get_label()) == ([[50, 0.2]], "trials")
    np.testing.assert_allclose(best.get_xydata(), [points[name] for name in front])
    assert [text.get_text() for text in axes.texts] == front[:names]
    assert len(trade_off_figure({"a": (1, 2)}, ["a"], "cost", "mAP", "t").axes[0].get_lines()) == 1
    _draws(figure)


def test_each_anchor_list_has_its_own_colour():
    points = {"a": (0.5, 0.1), "b": (0.75, 0.2), "c": (0.25, 0.4)}
    figure = coverage_scatter(points, {"a": "PSEE", "b": "fitted", "c": "PSEE"}, "mAP")
    first, second = figure.axes[0].get_lines()
    assert (first.get_label(), second.get_label()) == ("PSEE", "fitted")
    assert first.get_xydata().tolist() == [[0.5, 0.1], [0.25, 0.4]] and second.get_xydata().tolist() == [[0.75, 0.2]]
    assert first.get_color() != second.get_color()
    many = coverage_scatter({str(k): (k, k) for k in range(20)}, {str(k): str(k) for k in range(20)}, "mAP")
    assert len({(line.get_color(), line.get_marker()) for line in many.axes[0].get_lines()}) == 20
