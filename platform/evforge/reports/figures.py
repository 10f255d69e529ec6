"""Interactive figures of a study, made with plotly: curves, sampled values, importances, and mAP against cost.

Plotly is imported only when a figure is drawn. Its texts are HTML, so all names are escaped.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from evforge.display.figures import COLOURS
from evforge.display.tables import shorten

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from evforge.reports.importances import Importance

__all__ = [
    "Axis",
    "Point",
    "history_figure",
    "importance_figure",
    "learning_curves_figure",
    "parallel_figure",
    "scatter_figure",
    "setting_figure",
    "trade_off_figure",
]

LONGEST_LABEL = 22
FEW = 6
"""An axis has a tick at each of its values if it has at most this many different values."""
LEAST_COLUMN = 110
"""Least distance between two parallel coordinates in pixels. A narrower page scrolls."""
FEWEST_EPOCHS = 12
"""The axis of epochs, or of trials, has a tick at each of them if there are at most this many."""
REST, BEST = "#8a9bab", COLOURS[1]
"""Colours of trials, and of the winner or the Pareto front."""


class Axis(NamedTuple):
    """Values of a searched setting.

    Args:
        name: key of the setting.
        values: sampled value of each trial: text for a choice, numbers for a range.
        log: whether the axis is logarithmic.
    """

    name: str
    values: Sequence[Any]
    log: bool = False


class Point(NamedTuple):
    """Position and description of a trial in a figure.

    Args:
        x: position, or text for an axis of categories.
        y: value of the metric.
        text: lines of the text that appears when the pointer is over the trial; the first line is its name.
    """

    x: Any
    y: float
    text: Sequence[str]


def learning_curves_figure(histories: Mapping[str, Sequence[tuple[int, float]]], winner: str, metric: str) -> "Figure":
    """Draw a metric against the epoch, one line per trial. The winner has its own colour.

    Args:
        histories: (epoch, value) pairs of each trial, by name of the trial.
        winner: name of the winner.
        metric: name of the metric.
    """
    figure = _figure("epoch", metric)
    for name, history in sorted(histories.items(), key=lambda pair: pair[0] == winner):
        if history:
            steps, values = zip(*history, strict=True)
            look = _look(name == winner, "winner" if name == winner else "other trials", figure)
            colour, size = (BEST, 3) if name == winner else (REST, 1.3)
            hover = f"<b>{_text(name)}</b><br>epoch %{{x}}<br>{_text(metric)} %{{y:.4f}}<extra></extra>"
            line = {"color": colour, "width": size}
            figure.add_scatter(x=steps, y=values, mode="lines+markers", line=line, hovertemplate=hover, **look)
    last = max((step for history in histories.values() for step, _ in history), default=0)
    return figure.update_xaxes(rangemode="tozero", dtick=1 if last <= FEWEST_EPOCHS else None)


def history_figure(points: Sequence[Point], mode: str, metric: str) -> "Figure":
    """Draw the metric of each trial in the order of the trials, and the best value so far.

    Args:
        points: the trials in order; x is the number of a trial.
        mode: "max" if larger values are better, else "min".
        metric: name of the metric.
    """
    figure = _figure("trial", metric)
    best = list(accumulate((point.y for point in points), max if mode == "max" else min))
    line = {"color": BEST, "width": 2, "shape": "hv"}
    figure.add_scatter(
        x=[point.x for point in points], y=best, mode="lines", line=line, name="best so far", hoverinfo="skip"
    )
    _add_points(figure, points, "trials", REST)
    return figure.update_xaxes(dtick=1 if len(points) <= FEWEST_EPOCHS else None)


def setting_figure(
    axis: Axis, metric: Sequence[float], texts: Sequence[Sequence[str]], winner: int | None, label: str
) -> "Figure":
    """Draw the metric against the sampled values of a setting, one point per trial.

    Args:
        axis: the setting.
        metric: value of the metric, one per trial.
        texts: lines of the description of each trial, see `Point`.
        winner: index of the winner; None if it has no value of this setting.
        label: name of the metric.
    """
    is_text = any(isinstance(value, str) for value in axis.values)
    values = [shorten(str(value), LONGEST_LABEL) for value in axis.values] if is_text else axis.values
    points = [Point(*point) for point in zip(values, metric, texts, strict=True)]
    figure = _figure("", label, height=270)
    _add_points(figure, [point for index, point in enumerate(points) if index != winner], "other trials", REST)
    if winner is not None:
        _add_points(figure, [points[winner]], "winner", BEST, symbol="star", size=14)
    if is_text:
        figure.update_xaxes(type="category", categoryorder="category ascending")
    elif axis.log:
        figure.update_xaxes(type="log")
    elif len(set(values)) <= FEW:
        figure.update_xaxes(tickvals=sorted(set(values)))
    return figure.update_layout(showlegend=False)


def parallel_figure(
    axes: Sequence[Axis], metric: Sequence[float], texts: Sequence[Sequence[str]], label: str, mode: str = "max"
) -> "Figure":
    """Draw parallel coordinates: one line per trial through its sampled values to its value of the metric.

    Lines of better trials are darker and in front. Optuna's figure has no names of trials.

    Args:
        axes: the searched settings.
        metric: value of the metric, one per trial.
        texts: lines of the description of each trial, see `Point`.
        label: name of the metric.
        mode: "max" if a larger metric is better, "min" if a smaller metric is better.
    """
    from plotly.colors import sample_colorscale

    columns = [*axes, Axis(label, metric)]
    positions = [_positions(axis) for axis in columns]
    figure = _figure("", "", height=420).update_layout(meta={"least_width": LEAST_COLUMN * len(columns)})
    scale, sign = ("Viridis_r" if mode == "max" else "Viridis"), (1 if mode == "max" else -1)
    for trial in sorted(range(len(metric)), key=lambda index: sign * metric[index]):
        heights = [heights[trial] for heights, _ in positions]
        line = {"color": sample_colorscale(scale, heights[-1])[0], "width": 2}
        hover = {"text": _hover(texts[trial]), "hovertemplate": "%{text}<extra></extra>"}
        # Points between the axes show the text there, too.
        places = [index / 4 for index in range(4 * len(heights) - 3)]
        between = [_between(heights, place) for place in places]
        figure.add_scatter(x=places, y=between, mode="lines", line=line, opacity=0.8, showlegend=False, **hover)
    for x, (_, ticks) in enumerate(positions):
        figure.add_vline(x, line={"color": "#555", "width": 1}, layer="below")
        for height, text in ticks:
            look = {"showarrow": False, "xanchor": "right" if x == len(positions) - 1 else "left", "font": {"size": 11}}
            figure.add_annotation(x=x, y=height, text=_text(text), bgcolor="rgba(255,255,255,0.75)", **look)
    names = [_text(axis.name).replace(".", ".<br>", 1) for axis in columns]
    figure.update_xaxes(tickvals=list(range(len(columns))), ticktext=names, showgrid=False, side="top", zeroline=False)
    figure.update_xaxes(range=[-0.3, len(columns) - 0.7])
    return figure.update_yaxes(visible=False, range=[-0.06, 1.06])


def _between(heights: Sequence[float], position: float) -> float:
    first = min(int(position), len(heights) - 2) if len(heights) > 1 else 0
    last = min(first + 1, len(heights) - 1)
    return heights[first] + (position - first) * (heights[last] - heights[first])


def _positions(axis: Axis) -> tuple[list[float], list[tuple[float, str]]]:
    """Compute the height in 0..1 of each value on an axis, and the (height, text) of each tick."""
    if any(isinstance(value, str) for value in axis.values):
        names = sorted({str(value) for value in axis.values})
        heights = {name: index / (len(names) - 1) if len(names) > 1 else 0.5 for index, name in enumerate(names)}
        ticks = [(height, shorten(name, LONGEST_LABEL)) for name, height in heights.items()]
        return [heights[str(value)] for value in axis.values], ticks
    numbers = [math.log(value) if axis.log else float(value) for value in axis.values]
    low, high = min(numbers), max(numbers)
    if low == high:
        return [0.5] * len(numbers), [(0.5, f"{axis.values[0]:.3g}")]
    different = sorted(set(numbers))
    marked = different if len(different) <= FEW else [low + part * (high - low) / 4 for part in range(5)]
    ticks = [((tick - low) / (high - low), f"{math.exp(tick) if axis.log else tick:.3g}") for tick in marked]
    return [(number - low) / (high - low) for number in numbers], ticks


def importance_figure(importances: "Mapping[str, Importance]") -> "Figure":
    """Draw one bar with an error bar per setting, the most important setting at the top.

    Args:
        importances: importance by key of the setting.
    """
    ranked = sorted(importances.items(), key=lambda pair: pair[1].share)
    found = [one for _, one in ranked]
    figure = _figure("share explained, 90 % interval", "", 110 + 34 * len(ranked))
    above, below = ([one.high - one.share for one in found], [one.share - one.low for one in found])
    hover = "%{y}<br>share %{x:.2f}<br>90 % interval %{customdata[0]:.2f} to %{customdata[1]:.2f}<extra></extra>"
    figure.add_bar(
        x=[one.share for one in found],
        y=[_text(key) for key, _ in ranked],
        orientation="h",
        marker_color=COLOURS[0],
        error_x={"array": above, "arrayminus": below, "color": "#333", "thickness": 1.2},
        customdata=[(one.low, one.high) for one in found],
        hovertemplate=hover,
    )
    figure.update_yaxes(automargin=True)
    return figure.update_xaxes(range=[0, 1])


def trade_off_figure(points: Mapping[str, Point], front: Collection[str], xlabel: str, ylabel: str) -> "Figure":
    """Draw a metric against a cost, one point per trial, with the Pareto front.

    Args:
        points: cost and metric of each trial, by name of the trial.
        front: names of the trials on the Pareto front, cheapest first.
        xlabel: label of the cost.
        ylabel: label of the metric.
    """
    figure = _figure(xlabel, ylabel)
    _add_points(figure, [point for name, point in points.items() if name not in front], "other trials", REST)
    chosen, line = [points[name] for name in front], {"shape": "hv", "color": BEST}
    _add_points(figure, chosen, "Pareto front", BEST, size=11, mode="lines+markers", line=line)
    return figure


def scatter_figure(groups: Mapping[str, Sequence[Point]], xlabel: str, ylabel: str) -> "Figure":
    """Draw points with one colour and symbol per group.

    Args:
        groups: points by name of the group, which is an entry of the legend.
        xlabel: label of the x axis.
        ylabel: label of the y axis.
    """
    symbols = ("circle", "square", "diamond", "triangle-up", "star", "cross", "x")
    figure = _figure(xlabel, ylabel)
    for index, (name, points) in enumerate(groups.items()):
        look = COLOURS[index % len(COLOURS)], symbols[index // len(COLOURS) % len(symbols)]
        _add_points(figure, points, shorten(name, 2 * LONGEST_LABEL), look[0], symbol=look[1])
    return figure


def _add_points(
    figure: "Figure",
    points: Sequence[Point],
    name: str,
    colour: str,
    symbol: str = "circle",
    size: int = 9,
    **look: Any,
) -> None:
    if points:
        figure.add_scatter(
            x=[_text(point.x) if isinstance(point.x, str) else point.x for point in points],
            y=[point.y for point in points],
            text=[_hover(point.text) for point in points],
            name=_text(name),
            marker={"color": colour, "symbol": symbol, "size": size, "line": {"color": "white", "width": 0.7}},
            hovertemplate="%{text}<extra></extra>",
            cliponaxis=False,  # a point at 0 is drawn completely
            **{"mode": "markers", **look},
        )


def _look(is_winner: bool, group: str, figure: "Figure") -> dict[str, Any]:
    """Return arguments of a curve. Only the first curve of a group has an entry in the legend."""
    known = any(trace.legendgroup == group for trace in figure.data)
    return {"name": group, "legendgroup": group, "showlegend": not known, "opacity": 1 if is_winner else 0.75}


def _figure(xlabel: str, ylabel: str, height: int = 400) -> "Figure":
    """Create an empty figure.

    Args:
        xlabel: label of the x axis.
        ylabel: label of the y axis.
        height: height in pixels.
    """
    from plotly.graph_objects import Figure

    figure = Figure()
    figure.update_xaxes(title=_text(xlabel), automargin=True)
    figure.update_yaxes(title=_text(ylabel), automargin=True, rangemode="nonnegative")
    return figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 55, "r": 15, "t": 20, "b": 45},
        hovermode="closest",
        hoverlabel={"align": "left", "bgcolor": "white"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        font={"family": "system-ui, sans-serif", "size": 13},
    )


def _hover(lines: Sequence[str]) -> str:
    first, *others = map(_text, lines)
    return "<br>".join([f"<b>{first}</b>", *others])


def _text(text: str) -> str:
    return escape(text, quote=False)
