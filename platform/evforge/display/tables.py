"""Tables and figures of trials and models."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "TrialRow",
    "learning_curves_figure",
    "line_style",
    "make_figure",
    "pr_curve_figure",
    "text_table",
    "trial_table",
]

# Okabe-Ito: told apart by colour-blind readers as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class TrialRow:
    """One trial of a search, a line of `trial_table`.

    Args:
        name: the trial's name
        anchors: name of the anchor list
        fg_iou_threshold: overlap from which anchors are foreground
        bg_iou_threshold: overlap under which anchors are background
        feature_base: width of the backbone's stem
        mean_ap: best mAP (0.50:0.95), None if the trial has no validation yet
        mean_ap50: mAP at an IoU of 0.5, likewise
        seconds: duration of the trial, None if unknown
        status: how it ended
    """

    name: str
    anchors: str
    fg_iou_threshold: float
    bg_iou_threshold: float
    feature_base: int
    mean_ap: float | None
    mean_ap50: float | None
    seconds: float | None
    status: str


def trial_table(rows: Sequence[TrialRow]) -> str:
    """A search as aligned text, best mAP first, trials without one last."""
    head = ("trial", "anchors", "fg/bg IoU", "width", "mAP", "mAP50", "seconds", "status")
    ranked = sorted(rows, key=lambda row: -1.0 if row.mean_ap is None else row.mean_ap, reverse=True)
    lines = [head, *(_cells(row) for row in ranked)]
    return text_table(lines, numbers=range(3, 7))


def text_table(lines: Sequence[Sequence[str]], numbers: Collection[int]) -> str:
    """Aligned text.

    Args:
        lines: the head, then the rows, all equally long.
        numbers: columns that stand to the right.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([text[0], rule, *text[1:]])


def pr_curve_figure(precision_recall: Mapping[str, tuple["np.ndarray", "np.ndarray"]], title: str) -> "Figure":
    """Precision over recall, a line a class.

    Args:
        precision_recall: class name -> (recall, precision), equally long arrays in 0..1, as
            `CocoEvaluator.precision_recall` gives them.
        title: says on what and at which IoU it was measured.
    """
    figure, axes = _figure(title, "recall", "precision")
    for index, (name, (recall, precision)) in enumerate(precision_recall.items()):
        label = f"{name} (AP {float(precision.mean()):.3f})"
        axes.plot(recall, precision, label=label, clip_on=False, **line_style(index))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    _legend(axes)
    return figure


def learning_curves_figure(
    histories: Mapping[str, Sequence[tuple[int, float]]], title: str = "Learning curves", ylabel: str = "val mAP"
) -> "Figure":
    """A metric over epochs, a line a trial.

    Args:
        histories: trial name -> [(epoch, value)], as `Tracker.metric_history` gives them.
        title: title of the figure.
        ylabel: the metric.
    """
    figure, axes = _figure(title, "epoch", ylabel)
    for index, (name, history) in enumerate(histories.items()):
        if history:
            steps, values = zip(*history, strict=True)
            axes.plot(steps, values, label=name, marker="o", markersize=3.5, **line_style(index))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
    _legend(axes)
    return figure


def _cells(row: TrialRow) -> tuple[str, ...]:
    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return (
        row.name,
        row.anchors,
        f"{row.fg_iou_threshold:g}/{row.bg_iou_threshold:g}",
        str(row.feature_base),
        number(row.mean_ap, 3),
        number(row.mean_ap50, 3),
        number(row.seconds, 0),
        row.status,
    )


def _figure(title: str, xlabel: str, ylabel: str) -> tuple["Figure", Any]:
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


def _legend(axes: Any) -> None:
    lines = len(axes.get_lines())
    if lines:
        columns = 1 + (lines - 1) // 24
        # Beside the curves, so that it hides none; long handles show the dashes.
        axes.figure.legend(loc="outside right upper", frameon=False, fontsize="small", handlelength=3, ncols=columns)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center")
