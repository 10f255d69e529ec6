"""The common style of figures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "add_legend", "line_style", "make_axes", "make_figure"]

# Okabe-Ito: told apart by colour-blind readers as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


DASHES = ("-", "--", "-.", ":")


def make_axes(title: str, xlabel: str, ylabel: str) -> tuple["Figure", Any]:
    """An empty figure with one pair of axes in the common style."""
    figure = make_figure((6.4, 4.8))
    axes = figure.add_subplot(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def make_figure(size: tuple[float, float]) -> "Figure":
    """An empty figure of its own: pyplot would keep it open in the process and choose a window system.

    Args:
        size: width and height in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def line_style(index: int) -> dict[str, Any]:
    """Colour and dashes of the curve of this number, unlike those of the 27 others."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}


def add_legend(axes: Any) -> None:
    """Add the legend of all lines, or the text "no data" if there are none."""
    lines = len(axes.get_lines())
    if lines:
        columns = 1 + (lines - 1) // 24
        # Beside the curves, so that it hides none; long handles show the dashes.
        axes.figure.legend(loc="outside right upper", frameon=False, fontsize="small", handlelength=3, ncols=columns)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center")
