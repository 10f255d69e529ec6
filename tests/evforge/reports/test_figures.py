import json

import numpy as np
import pytest

from evforge.display.figures import COLOURS
from evforge.reports.figures import (
    BEST,
    Axis,
    Point,
    history_figure,
    importance_figure,
    learning_curves_figure,
    parallel_figure,
    scatter_figure,
    setting_figure,
    trade_off_figure,
)
from evforge.reports.importances import Importance

EVIL = "<b>&\"'</script>"


def of_trials(figure):
    return [trace for trace in figure.data if trace.x is not None]


def test_learning_curves_end_with_the_winner_and_leave_out_trials_without_points():
    curves = {"a": [(1, 0.1), (2, 0.2)], "best": [(1, 0.3)], "stopped": [], "b": [(1, 0.0)]}
    figure = learning_curves_figure(curves, "best", "mAP")
    assert [list(trace.y) for trace in figure.data] == [[0.1, 0.2], [0.0], [0.3]]
    assert [trace.line.color == BEST for trace in figure.data] == [False, False, True]
    assert [trace.hovertemplate.partition("<br>")[0] for trace in figure.data] == [
        "<b>a</b>",
        "<b>b</b>",
        "<b>best</b>",
    ]
    assert [(trace.name, trace.showlegend) for trace in figure.data] == [
        ("other trials", True),
        ("other trials", False),
        ("winner", True),
    ]
    assert [list(trace.x) for trace in figure.data] == [[1, 2], [1], [1]]
    assert [(trace.line.width, trace.opacity) for trace in figure.data] == [(1.3, 0.75), (1.3, 0.75), (3, 1)]
    assert (figure.layout.xaxis.rangemode, figure.layout.xaxis.dtick) == ("tozero", 1)
    assert learning_curves_figure({}, "best", "mAP").layout.xaxis.dtick == 1


def test_the_look_of_every_figure():
    layout = history_figure([Point(1, 0.5, ["a"])], "max", "mAP").layout
    assert (layout.xaxis.title.text, layout.yaxis.title.text) == ("trial", "mAP")
    assert layout.xaxis.automargin and layout.yaxis.automargin and layout.yaxis.rangemode == "nonnegative"
    assert (layout.height, layout.font.size, layout.hovermode) == (400, 13, "closest")
    assert layout.margin.to_plotly_json() == {"l": 55, "r": 15, "t": 20, "b": 45}
    assert (layout.legend.x, layout.legend.y, layout.legend.yanchor) == (0, 1.02, "bottom")


@pytest.mark.parametrize(("mode", "best"), [("max", [2, 3, 3, 5]), ("min", [2, 2, 1, 1])])
def test_the_history_has_the_best_value_so_far(mode, best):
    points = [Point(number, value, ["a"]) for number, value in enumerate((2, 3, 1, 5), 1)]
    line, dots = history_figure(points, mode, "mAP").data
    assert (list(line.x), list(line.y), line.name) == ([1, 2, 3, 4], best, "best so far")
    assert (line.line.shape, line.line.width, line.line.color) == ("hv", 2, BEST)
    assert (dots.marker.symbol, dots.marker.size, dots.marker.line.width, dots.cliponaxis) == ("circle", 9, 0.7, False)
    assert (list(dots.x), list(dots.y), dots.mode) == ([1, 2, 3, 4], [2, 3, 1, 5], "markers")


@pytest.mark.parametrize(("trials", "step"), [(12, 1), (13, None)])
def test_few_trials_have_a_tick_each(trials, step):
    assert history_figure([Point(n, 0.5, ["a"]) for n in range(trials)], "max", "mAP").layout.xaxis.dtick == step


@pytest.mark.parametrize(("epochs", "step"), [(12, 1), (13, None)])
def test_few_epochs_have_a_tick_each(epochs, step):
    assert learning_curves_figure({"a": [(epochs, 0.5)]}, "a", "mAP").layout.xaxis.dtick == step


def test_a_setting_has_its_winner_apart():
    texts = [["a", "mAP 0.1"], ["b", "mAP 0.3"], ["c", "mAP 0.2"]]
    others, best = setting_figure(Axis("lr", [1e-3, 1e-2, 1e-1], log=True), [0.1, 0.3, 0.2], texts, 1, "mAP").data
    assert (list(others.x), list(others.y), list(best.x), list(best.y)) == ([1e-3, 1e-1], [0.1, 0.2], [1e-2], [0.3])
    assert list(best.text) == ["<b>b</b><br>mAP 0.3"] and best.marker.symbol == "star"
    assert (best.marker.size, best.marker.color, others.marker.color == BEST) == (14, BEST, False)
    figure = setting_figure(Axis("lr", [1, 2]), [0.1, 0.2], texts[:2], None, "mAP")
    assert (len(figure.data), figure.layout.height, figure.layout.showlegend) == (1, 270, False)
    first, best = setting_figure(Axis("lr", [1, 2]), [0.1, 0.2], texts[:2], 0, "mAP").data
    assert (list(first.x), list(best.x)) == ([2], [1])


def test_texts_of_a_setting_are_sorted_and_shortened():
    figure = setting_figure(Axis("list", ["v" * 23, "b" * 22]), [0.1, 0.2], [["a"], ["b"]], None, "mAP")
    (short, whole) = figure.data[0].x
    assert (len(short), whole, figure.layout.xaxis.categoryorder) == (22, "b" * 22, "category ascending")


@pytest.mark.parametrize(
    ("axis", "kind", "ticks"),
    [
        (Axis("lr", [1e-3, 1e-2], log=True), "log", None),
        (Axis("list", ["van", "bus"]), "category", None),
        (Axis("width", [8, 4]), None, (4, 8)),
        (Axis("width", [6, 5, 4, 3, 2, 1, 1]), None, (1, 2, 3, 4, 5, 6)),
        (Axis("width", [7, 6, 5, 4, 3, 2, 1]), None, None),
    ],
)
def test_the_axis_of_a_setting_fits_its_values(axis, kind, ticks):
    values, texts = [index / 10 for index in range(len(axis.values))], [["a"]] * len(axis.values)
    found = setting_figure(axis, values, texts, 0, "mAP").layout.xaxis
    assert (found.type, found.tickvals) == (kind, ticks)


def ticks_of(axis, values):
    """Positions of the ticks by their texts, and of the values, on the axis of a setting."""
    figure = parallel_figure([axis], values, [[str(index)] for index in range(len(values))], "mAP")
    ticks = {note.text: note.y for note in figure.layout.annotations if note.x == 0}
    lines = {trace.text: trace.y[0] for trace in of_trials(figure)}
    return ticks, [lines[f"<b>{index}</b>"] for index in range(len(values))]


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


@pytest.mark.parametrize(("mode", "last"), [("max", 0.9), ("min", 0.1)])
def test_better_trials_are_darker_and_in_front(mode, last):
    values = [0.5, 0.1, 0.9]
    figure = parallel_figure([Axis("optim.lr", [3, 1, 2])], values, [[str(value)] for value in values], "mAP", mode)
    traces = of_trials(figure)
    assert traces[-1].text == f"<b>{last}</b>"
    np.testing.assert_allclose({trace.text: trace.y for trace in traces}["<b>0.5</b>"], [1, 0.875, 0.75, 0.625, 0.5])
    brightness = [sum(map(int, trace.line.color[4:-1].split(","))) for trace in traces]
    assert brightness == sorted(brightness, reverse=True)
    assert figure.layout.xaxis.ticktext == ("optim.<br>lr", "mAP")
    assert list(traces[0].x) == [0, 0.25, 0.5, 0.75, 1]
    assert all((trace.line.width, trace.opacity, trace.showlegend) == (2, 0.8, False) for trace in traces)


def test_the_axes_of_sampled_values():
    axes = [Axis("a.b.c", [1, 2]), Axis("width", ["x" * 23, "y"])]
    figure = parallel_figure(axes, [0.5, 0.75], [["first"], ["second"]], "mAP")
    layout = figure.layout
    assert (layout.meta, layout.height) == ({"least_width": 330}, 420)
    assert (layout.xaxis.tickvals, layout.xaxis.ticktext) == ((0, 1, 2), ("a.<br>b.c", "width", "mAP"))
    assert (layout.xaxis.showgrid, layout.xaxis.zeroline, layout.xaxis.side) == (False, False, "top")
    assert layout.xaxis.range == pytest.approx((-0.3, 2.3)) and layout.yaxis.range == (-0.06, 1.06)
    assert layout.yaxis.visible is False
    assert [(line.x0, line.x1, line.line.width, line.layer) for line in layout.shapes] == [
        (x, x, 1, "below") for x in range(3)
    ]
    notes = [(note.x, note.y, note.xanchor, note.showarrow, note.font.size) for note in layout.annotations]
    assert notes == [(x, y, "right" if x == 2 else "left", False, 11) for x in range(3) for y in (0, 1)]
    assert [len(note.text) for note in layout.annotations if note.x == 1] == [22, 1]
    (first, second) = of_trials(figure)
    assert list(first.x) == [index / 4 for index in range(9)]
    assert list(first.y) == [0] * 9 and list(second.y) == [1] * 9  # "x..." is below "y"


def test_sampled_values_of_no_setting():
    found = of_trials(parallel_figure([], [0.5, 0.75], [["first"], ["second"]], "mAP"))
    assert [(list(trace.x), list(trace.y)) for trace in found] == [([0], [0]), ([0], [1])]


def test_the_most_important_setting_is_at_the_top_and_has_an_interval():
    found = {"lr": Importance(0.7, 0.4, 0.8), "width": Importance(0.05, 0, 0.2), "anchors": Importance(0.25, 0.25, 0.3)}
    figure = importance_figure(found)
    (bars,), layout = figure.data, figure.layout
    assert (layout.height, layout.xaxis.range, layout.yaxis.automargin) == (212, (0, 1), True)
    assert (layout.xaxis.title.text, layout.yaxis.title.text) == ("share explained, 90 % interval", "")
    assert [list(one) for one in bars.customdata] == [[0, 0.2], [0.25, 0.3], [0.4, 0.8]]
    assert (bars.orientation, bars.error_x.thickness, bars.marker.color) == ("h", 1.2, COLOURS[0])
    assert (list(bars.y), list(bars.x)) == (["width", "anchors", "lr"], [0.05, 0.25, 0.7])
    np.testing.assert_allclose(bars.error_x.array, [0.15, 0.05, 0.1])
    np.testing.assert_allclose(bars.error_x.arrayminus, [0.05, 0, 0.3])


def test_a_metric_against_a_cost():
    points = {name: Point(x, y, [name]) for name, x, y in (("a", 1, 0.1), ("rest", 3, 0.05), ("b", 2, 0.3))}
    figure = trade_off_figure(points, ["a", "b"], "cost", "mAP")
    rest, best = figure.data
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("cost", "mAP")
    assert (best.mode, best.marker.size, best.marker.color, rest.mode) == ("lines+markers", 11, BEST, "markers")
    assert rest.marker.color != BEST and rest.name == "other trials"
    assert (list(rest.x), list(rest.y)) == ([3], [0.05])
    assert (list(best.x), list(best.y), best.name, best.line.shape) == ([1, 2], [0.1, 0.3], "Pareto front", "hv")
    assert len(trade_off_figure({"a": points["a"]}, ["a"], "cost", "mAP").data) == 1


def test_each_group_has_its_own_look():
    figure = scatter_figure({str(k): [Point(k, k, ["a"])] for k in range(20)}, "x", "y")
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("x", "y")
    assert [trace.marker.color for trace in figure.data[:6]] == list(COLOURS[:6])
    looks = [(trace.marker.color, trace.marker.symbol) for trace in figure.data]
    assert len(set(looks)) == 20 and [symbol for _, symbol in looks[6:8]] == ["circle", "square"]
    assert [trace.name for trace in figure.data[:3]] == ["0", "1", "2"]
    (trace,) = scatter_figure({"g" * 45: [Point(1, 2, ["a"])]}, "x", "y").data
    assert len(trace.name) == 44 and (list(trace.x), list(trace.y)) == ([1], [2])


def test_names_are_escaped():
    figure = setting_figure(Axis("a", [EVIL, "b"]), [0.1, 0.2], [[EVIL], ["b"]], 1, EVIL)
    shown = "&lt;b&gt;&amp;\"'&lt;/script&gt;"
    assert (figure.data[0].x[0], figure.layout.yaxis.title.text) == (shown, shown)
    assert figure.data[0].text[0] == f"<b>{shown}</b>"
    assert "<" not in figure.to_json() and json.loads(figure.to_json())["data"][0]["x"] == [shown]
