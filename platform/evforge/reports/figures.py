"""Figures of a study: sampled values, their importance, learning curves, and mAP against cost."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from evforge.display.figures import COLOURS, add_legend, line_style, make_axes, make_figure
from evforge.display.tables import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Axis",
    "coverage_scatter",
    "importance_figure",
    "learning_curves_figure",
    "parallel_figure",
    "trade_off_figure",
]

LONGEST_LABEL = 22
FEW = 6
"""An axis has a tick at each of its values if it has at most this many different values."""
NAMED = 12
"""Points on the Pareto front are labelled with their names if there are at most this many."""


class Axis(NamedTuple):
    """An axis of `parallel_figure`.

    Args:
        name: key of the setting.
        values: sampled value of each trial: text for a choice, numbers for a range.
        log: whether the axis is logarithmic.
    """

    name: str
    values: Sequence[Any]
    log: bool = False


def parallel_figure(axes: Sequence[Axis], values: Sequence[float], metric: str, title: str) -> "Figure":
    """Draw parallel coordinates: one line per trial through its sampled values to its value of the metric.

    Lines of better trials are brighter and in front.

    Args:
        axes: the searched settings.
        values: value of the metric, one per trial.
        metric: name of the metric.
        title: title of the figure.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    columns = [*axes, Axis(metric, values)]
    figure = make_figure((max(7.0, 2.1 * len(columns)), 5.0))
    plot = figure.add_subplot()
    plot.set_title(title, pad=28)
    norm, colours = Normalize(min(values), max(values)), colormaps["viridis"]
    positions = [_positions(axis) for axis in columns]
    for trial in sorted(range(len(values)), key=lambda index: values[index]):
        heights = [column[0][trial] for column in positions]
        plot.plot(range(len(columns)), heights, color=colours(norm(values[trial])), alpha=0.8, linewidth=1.4)
    for x, (axis, (_, ticks)) in enumerate(zip(columns, positions, strict=True)):
        plot.axvline(x, color="0.3", linewidth=0.8, zorder=0)
        for height, text in ticks:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
            plot.text(x + 0.03, height, text, fontsize="x-small", va="center", bbox=box, zorder=3)
        plot.text(x, 1.06, axis.name.replace(".", ".\n", 1), fontsize="small", ha="center", va="bottom")
    plot.set(xlim=(-0.1, len(columns) - 0.7), ylim=(-0.05, 1.05))
    plot.set_axis_off()
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=plot, label=metric, shrink=0.8)
    return figure


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


def importance_figure(importances: Mapping[str, float], title: str) -> "Figure":
    """Draw one bar per setting, the most important setting at the top.

    Args:
        importances: share of the variation of the metric that each setting explains, by key of the setting.
        title: title of the figure.
    """
    figure = make_figure((6.4, 1.4 + 0.4 * max(len(importances), 1)))
    axes = figure.add_subplot(title=title, xlabel="share of the variation explained (fANOVA)", xlim=(0, 1))
    ranked = sorted(importances.items(), key=lambda pair: pair[1])
    bars = axes.barh([key for key, _ in ranked], [value for _, value in ranked], color=COLOURS[0])
    axes.bar_label(bars, fmt="{:.2f}", padding=3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def trade_off_figure(
    points: Mapping[str, tuple[float, float]], front: Collection[str], xlabel: str, ylabel: str, title: str
) -> "Figure":
    """Draw a metric against a cost, one point per trial, with the Pareto front.

    Args:
        points: (cost, metric) of each trial, by name of the trial.
        front: names of the trials on the Pareto front, cheapest first.
        xlabel: label of the cost.
        ylabel: label of the metric.
        title: title of the figure.
    """
    figure, axes = make_axes(title, xlabel, ylabel)
    rest = [point for name, point in points.items() if name not in front]
    if rest:
        axes.plot(*zip(*rest, strict=True), "o", color="0.6", markersize=6, label="trials")
    chosen = [points[name] for name in front]
    axes.step(*zip(*chosen, strict=True), "o-", where="post", color=COLOURS[1], markersize=7, label="Pareto front")
    if len(chosen) <= NAMED:
        for name, point in zip(front, chosen, strict=True):
            axes.annotate(name, point, xytext=(-5, 5), textcoords="offset points", ha="right", fontsize="x-small")
    axes.margins(0.08)
    axes.legend(frameon=False, loc="lower right")
    return figure


def coverage_scatter(points: Mapping[str, tuple[float, float]], groups: Mapping[str, str], ylabel: str) -> "Figure":
    """Draw a metric against the share of training boxes that have an anchor at or above the foreground IoU threshold.

    Each trial is a point. Each anchor list has its own colour.

    Args:
        points: (share of boxes, metric) of each trial, by name of the trial.
        groups: name of the anchor list of each trial, by name of the trial.
        ylabel: label of the metric.
    """
    xlabel = "share of training boxes with an anchor at the foreground IoU"
    figure, axes = make_axes("Anchor coverage", xlabel, ylabel, (7.2, 4.8))
    for index, group in enumerate(dict.fromkeys(groups.values())):
        some = [points[name] for name in points if groups[name] == group]
        look: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "marker": "osD^vP*"[index // len(COLOURS) % 7]}
        axes.plot(*zip(*some, strict=True), linestyle="", markersize=6, label=shorten(group, LONGEST_LABEL), **look)
    axes.margins(0.08)
    figure.legend(loc="outside right upper", frameon=False, fontsize="small", title="anchor list")
    return figure


def learning_curves_figure(
    histories: Mapping[str, Sequence[tuple[int, float]]], title: str = "Learning curves", ylabel: str = "val mAP"
) -> "Figure":
    """Draw a metric against the epoch, one line per trial.

    Args:
        histories: (epoch, value) pairs of each trial, by name of the trial.
        title: title of the figure.
        ylabel: label of the metric.
    """
    figure, axes = make_axes(title, "epoch", ylabel)
    for index, (name, history) in enumerate(histories.items()):
        if history:
            steps, values = zip(*history, strict=True)
            axes.plot(steps, values, label=name, marker="o", markersize=3.5, **line_style(index))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
    add_legend(axes)
    return figure
