"""The common style of figures.

Matplotlib is imported only when a figure is drawn, so that a missing or broken installation affects only figures.
"""

from collections.abc import Callable
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from detector.utils.atomic_write import atomic_write
from detector.utils.decoration import decoration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "FEW",
    "line_style",
    "make_figure",
    "make_panels",
    "opacity",
    "save_figure",
    "set_title",
]

# Okabe-Ito: colour-blind readers can distinguish these colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
FEW = 20
"""Values computed from fewer boxes are drawn faded."""


def make_figure(size: tuple[float, float]) -> "Figure":
    """Create an empty figure without pyplot. With pyplot, figures would stay open and a window system would be chosen.

    Args:
        size: width and height in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def make_panels(title: str, rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple["Figure", Any]:
    """Create a figure with a grid of plots in the common style.

    Args:
        title: title of the figure.
        rows: number of rows of the grid.
        columns: number of columns of the grid.
        size: width and height in inches.
        options: further arguments of `Figure.subplots`.

    Returns:
        The figure, and a (rows, columns) array of axes.
    """
    figure = make_figure(size)
    figure.suptitle(title)
    panels = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def line_style(index: int) -> dict[str, Any]:
    """Return arguments for `plot`: colour and dashes of the curve with this index. The first 28 styles are distinct."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}


def set_title(figure: "Figure", *lines: str) -> None:
    """Set the title of a figure. Lines that are too long for the width of the figure are wrapped."""
    width = int(figure.get_figwidth() * 12)  # characters of this font
    figure.suptitle("\n".join(part for line in lines for part in wrap(line, width)), fontsize="medium")


def opacity(count: int) -> float:
    """Return the opacity of a value that was computed from `count` boxes: faded if there are fewer than `FEW`."""
    return 0.35 if count < FEW else 1.0


def save_figure(path: Path, draw: Callable[[], "Figure"]) -> None:
    """Draw a figure and write it as PNG. An error is not raised, but printed to stderr as a warning.

    An existing file is deleted first, so that no old figure remains after an error.

    Args:
        path: file to write.
        draw: function that returns the figure.
    """
    path.unlink(missing_ok=True)
    with decoration(str(path)), atomic_write(path) as part:
        draw().savefig(part, format="png")
