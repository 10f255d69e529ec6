"""The figure of `evforge anchors`: recall against the IoU threshold, and sizes of boxes and anchors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.coverage.anchor_coverage import THRESHOLDS
from evforge.display.figures import COLOURS, line_style, make_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["coverage_figure"]

MAX_BOXES = 20_000
TICKS = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
MARGIN = 2
"""The axes extend beyond the smallest and the largest box by this factor. Anchors outside the axes match no box."""


def coverage_figure(
    curves: Mapping[str, np.ndarray],
    fg_iou_threshold: float,
    sides: np.ndarray,
    levels: Sequence[np.ndarray],
    name: str,
    title: str,
) -> "Figure":
    """Draw the recall of several anchor lists, and the widths and heights of the boxes and of the anchors of one list.

    Args:
        curves: recall of each anchor list at the 20 IoU thresholds `THRESHOLDS`, by name of the list.
        fg_iou_threshold: foreground threshold, drawn as a vertical line.
        sides: (n, 2) widths and heights of the boxes in pixels.
        levels: for each pyramid level, (a, 2) widths and heights in pixels of the a anchors of a cell.
        name: name of the anchor list whose anchors are in `levels`.
        title: title of the figure.
    """
    figure, ((recall, shapes),) = make_panels(title, 1, 2, (12, 5.2))
    _draw_recall(recall, curves, fg_iou_threshold)
    _draw_shapes(shapes, sides, levels, name)
    return figure


def _draw_recall(axes: Any, curves: Mapping[str, np.ndarray], fg_iou_threshold: float) -> None:
    axes.set(title="Boxes whose best anchor reaches an IoU", xlabel="IoU", ylabel="share of boxes")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    for index, (name, recall) in enumerate(curves.items()):
        axes.plot(THRESHOLDS, recall, label=name, **line_style(index))
    axes.axvline(fg_iou_threshold, color="0.4", linewidth=1, linestyle=":", label=f"positive from {fg_iou_threshold:g}")
    axes.legend(frameon=False, fontsize="small", loc="lower left", handlelength=3)


def _draw_shapes(axes: Any, sides: np.ndarray, levels: Sequence[np.ndarray], name: str) -> None:
    from matplotlib.ticker import FixedLocator

    shown = sides[:: -(-len(sides) // MAX_BOXES) or 1]
    axes.set(title=f"Boxes, and anchors of {name}", xlabel="width in pixels", ylabel="height in pixels")
    axes.set(xscale="log", yscale="log")
    axes.plot(*shown.T, ".", color="0.6", markersize=3, alpha=0.4, zorder=1, label="boxes", rasterized=True)
    for level, shape in enumerate(levels):
        colour = COLOURS[level % len(COLOURS)]
        axes.plot(*shape.T, "x", color=colour, markersize=7, markeredgewidth=2, label=f"anchors of level {level}")
    low, high = shown.min(axis=0) / MARGIN, shown.max(axis=0) * MARGIN
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(TICKS))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
