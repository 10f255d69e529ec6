"""Text and figures of an evaluation."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from detector.evaluation.analysis.slices import ALL_CLASSES, SLICES, Details, Slice
from detector.evaluation.analysis.state_leak import StateLeak
from detector.evaluation.analysis.tracks import Reaction
from detector.evaluation.coco_backend import installed_library
from evforge.display.figures import (
    COLOURS,
    FEW,
    line_style,
    make_figure,
    make_panels,
    opacity,
    set_title,
)
from evforge.display.intervals import share_interval
from evforge.display.tables import metric_text, range_text, shorten, text_table

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

__all__ = [
    "calibration_figure",
    "confusion_figure",
    "details_text",
    "interval_text",
    "pr_curve_figure",
    "protocol_text",
    "rules_text",
    "slices_figure",
    "thresholds_figure",
]


NAME_LENGTH = 24
"""Longest names of classes in figures, in characters. Longer names are shortened."""


def rules_text(protocol: Mapping[str, Any]) -> str:
    """Format the settings that decide which frames, labels and detections are evaluated.

    Args:
        protocol: mapping with at least `skip_us`, `min_box_diag`, `min_box_side`, `empty_frames` and `score_thresh`.
    """
    empty = {"count": "count", "ignore": "are ignored"}[protocol["empty_frames"]]
    return (
        f"first {protocol['skip_us'] / 1e6:g} s skipped; boxes under {protocol['min_box_diag']:g} px diagonal or "
        f"{protocol['min_box_side']:g} px side dropped; frames without a box {empty}; "
        f"score floor {protocol['score_thresh']:g}"
    )


def protocol_text(protocol: Mapping[str, Any], split: str) -> str:
    """Format one line that states how the metrics were measured.

    Args:
        protocol: settings of the measurement by name, the fields of `Protocol`.
        split: name of the split.
    """
    return (
        f"protocol: COCO AP 0.50:0.95, labelled frames of {split}; {rules_text(protocol)}; detections answer the "
        f"labels of their frame; NMS at IoU {protocol['nms_thresh']:g}; by {installed_library()}"
    )


def interval_text(interval: Sequence[float] | None) -> str:
    """Format the lower and upper bound of a metric, such as "  (0.41 to 0.45)"; an empty text for None."""
    return "" if interval is None else f"  ({interval[0]:.3f} to {interval[1]:.3f})"


def details_text(details: Details, leak: StateLeak) -> str:
    """Format the further results of an evaluation: one line per measurement and its method, then a table.

    The table has one row per slice, which is a range of a quantity such as box size.

    Args:
        details: the further results.
        leak: result of the check whether the detections in a stream depend on other streams.
    """
    point, calibration = details.operating_point, details.calibration
    f1, score, precision, recall = (metric_text(x, 3) for x in (point.f1, point.score, point.precision, point.recall))
    leaks = {None: "impossible, no detections", True: "passed", False: "FAILED"}[leak.passed]
    changed = "" if leak.changed is None else f": {leak.changed:.3%} of {leak.detections} detections changed"
    change = "" if leak.max_score_change is None else f", largest score change {leak.max_score_change:.1g}"
    return "\n".join(
        [
            f"intervals of 95 %: bootstrap over {details.intervals.blocks} blocks of frames, recordings: "
            f"{details.intervals.recordings}; other recordings and trainings may vary more",
            f"best F1 {f1} at score {score}: precision {precision}, recall {recall} (IoU 0.5, all classes together); "
            "recall below and reaction time are measured at this score",
            _reaction_text(details.reaction),
            f"calibration error (ECE) {metric_text(calibration.error, 3)} over {sum(calibration.detections)} "
            f"detections with scores from {calibration.floor:g} (correct: IoU 0.5 and the same class; 10 bins)",
            f"state leak check {leaks}{changed}{change} (first {leak.frames} frames of {leak.files} recordings, one "
            "recording at a time against two at a time in another order, in float32)",
            *_thresholds_table(details),
            "",
            _slice_table(details),
            "a false detection counts in the slice of its box; in all slices of "
            + " and ".join(slicing.title for slicing in SLICES.values() if not slicing.of_detections),
        ]
    )


def _reaction_text(reaction: Reaction) -> str:
    if not reaction.tracks:
        return "reaction time: not measured, because no track begins after the skipped start of its recording"
    found = (
        "none was found"
        if reaction.median_ms is None
        else f"{reaction.found:.1%} found, half of these within {reaction.median_ms:.0f} ms and 90 % within "
        f"{reaction.p90_ms:.0f} ms of event time"
    )
    return (
        f"reaction time: of {reaction.tracks} tracks {found} (from the first labelled box that counts to the end of "
        "the first frame in which the track is found; tracks of the skipped start are left out)"
    )


def _thresholds_table(details: Details) -> list[str]:
    """Format the best score threshold of each class; nothing for a single class, which has the threshold of all."""
    if len(details.thresholds) <= 2:
        return []
    lines = [["best F1 by class", "labels", "score", "F1", "precision", "recall"]]
    for name, curve in details.thresholds.items():
        point = curve.best
        values = (metric_text(value, 3) for value in (point.score, point.f1, point.precision, point.recall))
        lines.append([name, f"{curve.labels:,}", *values])
    return ["", text_table(lines, numbers=range(1, 6))]


def _slice_table(details: Details) -> str:
    lines = [["slice", "range", "boxes", "AP", "AP50", "recall"]]
    for name, parts in details.slices.items():
        for part in filter(lambda part: part.boxes, parts):
            metrics = (metric_text(value, 3) for value in (part.ap, part.ap50, part.recall))
            lines.append([name, f"{_range(part)} {SLICES[name].unit}", f"{part.boxes:,}", *metrics])
    return text_table(lines, numbers=range(2, 6))


def _range(part: Slice) -> str:
    return range_text(part.start, part.stop)


def slices_figure(details: Details, title: str) -> "Figure":
    """Draw AP, AP50 and recall of each slice (a range of a quantity such as box size), in one panel per quantity.

    Recall has a Wilson interval. The interval is too narrow if boxes depend on each other, as in tracks. Bars of fewer
    than `FEW` boxes are faded.

    Args:
        details: further results of the evaluation.
        title: title of the figure.
    """
    from matplotlib.patches import Patch

    figure, panels = make_panels("", 2, 3, (12.8, 7.6), sharey=True)
    set_title(figure, f"AP and recall by properties of boxes, {title}")
    panels = panels.ravel()
    for axes, (name, parts) in zip(panels, details.slices.items(), strict=False):
        _draw_slices(axes, name, parts)
    for axes in panels[len(details.slices) :]:
        axes.set_axis_off()
    for axes in panels[::3]:
        axes.set_ylabel("AP, AP50, recall")
    handles = [Patch(color=colour) for colour in COLOURS[:3]]
    score = metric_text(details.operating_point.score, 3)
    labels = [
        "AP (no interval)",
        "AP50 (no interval)",
        f"recall at score {score} (best F1), with 95 % Wilson interval over boxes",
    ]
    figure.legend(
        handles, labels, title=f"faded: fewer than {FEW} boxes", loc="outside lower center", frameon=False, ncols=3
    )
    return figure


def _draw_slices(axes: Any, name: str, parts: list[Slice]) -> None:
    for index, (label, key) in enumerate({"AP": "ap", "AP50": "ap50", "recall": "recall"}.items()):
        bars = axes.bar(
            [number + (index - 1) * 0.27 for number in range(len(parts))],
            [getattr(part, key) or 0.0 for part in parts],
            0.25,
            color=COLOURS[index],
            label=label,
        )
        for bar, part in zip(bars, parts, strict=True):
            bar.set_alpha(opacity(part.boxes))
    for number, part in enumerate(parts):
        if part.recall is not None:
            interval = share_interval(part.recall, part.boxes) or (part.recall, part.recall)
            axes.plot([number + 0.27] * 2, interval, color="black", alpha=opacity(part.boxes), marker="_", linewidth=1)
    ticks = [f"{_range(part)}\n{part.boxes:,} boxes" for part in parts]
    axes.set_xticks(range(len(parts)), ticks, fontsize="x-small")
    axes.set_ylim(0, 1.02)
    axes.set_title(f"{SLICES[name].title} ({SLICES[name].unit})", fontsize="medium")
    axes.grid(axis="x", visible=False)


def confusion_figure(details: Details, title: str) -> "Figure":
    """Draw the confusion matrix: one row per labelled class, one column per detected class.

    Each cell shows the number of boxes and the share of its row as text, and this share as colour.

    Args:
        details: further results of the evaluation.
        title: title of the figure.
    """
    classes, counts = [shorten(name, NAME_LENGTH) for name in details.confusion.names[:-1]], details.confusion.counts
    side = 3.95 + 0.75 * len(classes)
    figure = make_figure((side + 0.8, side))
    axes = figure.add_subplot(xlabel="detected as", ylabel="labelled as")
    set_title(figure, "Confusion matrix", title, f"IoU 0.5, score from {metric_text(details.operating_point.score, 3)}")
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the row", shrink=0.8)
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            if (y, x) != (len(classes), len(classes)):  # background detected as background has no count
                colour = "white" if shares[y][x] > 0.5 else "black"
                axes.text(x, y, f"{count:,}\n{shares[y][x]:.0%}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(counts)), [*classes, "nothing (missed)"], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(counts)), [*classes, "nothing\n(false alarm)"])
    return figure


def calibration_figure(details: Details, title: str) -> "Figure":
    """Draw two plots against the score of detections: the share of detections that are correct, and their number.

    Shares have Wilson intervals. Shares of fewer than `FEW` detections are faded.

    Args:
        details: further results of the evaluation.
        title: title of the figure.
    """
    found = details.calibration
    figure, ((upper,), (lower,)) = make_panels("", 2, 1, (6.4, 6.6), sharex=True, height_ratios=(3, 1))
    error = metric_text(found.error, 3)
    set_title(figure, "Calibration", title, f"IoU 0.5, same class; expected calibration error {error}")
    upper.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="score = share")
    known = [
        (score, share, count)
        for score, share, count in zip(found.scores, found.precisions, found.detections, strict=True)
        if score is not None and share is not None
    ]
    points = [row[0] for row in known], [row[1] for row in known]
    upper.plot(*points, color=COLOURS[0], linewidth=1, label="share of correct detections")
    for score, share, count in known:
        low, high = share_interval(share, count) or (share, share)
        errors = [[max(share - low, 0.0)], [max(high - share, 0.0)]]
        upper.errorbar(score, share, errors, fmt="o", color=COLOURS[0], capsize=3, alpha=opacity(count))
    upper.set(ylabel="share of correct detections\nwith 95 % Wilson interval", xlim=(0, 1), ylim=(0, 1.02))
    _draw_counts(lower, found.detections)
    lower.set(xlabel=f"score, from {found.floor:g}; faded: fewer than {FEW} detections")
    _legend_below(figure, upper)
    return figure


def _draw_counts(axes: Any, counts: list[int]) -> None:
    """Draw the number of detections in bins of the score, as bars with numbers."""
    width = 1 / len(counts)
    bars = axes.bar([(index + 0.5) * width for index in range(len(counts))], counts, width * 0.9, color=COLOURS[0])
    for bar, count in zip(bars, counts, strict=True):
        bar.set_alpha(opacity(count))
    axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize="x-small")
    axes.set_yscale("symlog", linthresh=1)
    axes.set(ylabel="detections", ylim=(0, 20 * max(*counts, 1)))
    axes.grid(axis="x", visible=False)


def pr_curve_figure(
    precision_recall: Mapping[str, tuple["np.ndarray", "np.ndarray"]], title: str, labels: Mapping[str, int]
) -> "Figure":
    """Draw precision against recall, one line per class. Lines of classes with fewer than `FEW` labels are faded.

    Args:
        precision_recall: for each class name, recall and precision as arrays of the same length with values in 0..1, as
            `CocoEvaluator.precision_recall` returns them.
        title: title of the figure.
        labels: number of labels of each class.
    """
    texts = [
        f"{shorten(name, NAME_LENGTH)}: AP50 {float(precision.mean()):.3f}, {labels[name]:,} labels"
        for name, (_, precision) in precision_recall.items()
    ]
    figure, ((axes,),) = make_panels("", 1, 1, (6.4, 5.2 + _legend_height(texts, 6.4)))
    set_title(figure, "Precision and recall at IoU 0.5", title)
    for index, (name, (recall, precision)) in enumerate(precision_recall.items()):
        style = {**line_style(index), "alpha": opacity(labels[name])}
        axes.plot(recall, precision, label=texts[index], clip_on=False, **style)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    _legend_below(figure, axes)
    return figure


def thresholds_figure(details: Details, title: str) -> "Figure":
    """Draw F1, precision and recall against the score threshold, one line per class and one for all classes together.

    The best thresholds (highest F1) are marked: a point per line, and a vertical line for all classes together. Lines
    of classes with fewer than `FEW` labels are faded.

    Args:
        details: further results of the evaluation.
        title: title of the figure.
    """
    curves = {name: curve for name, curve in details.thresholds.items() if curve.labels and len(curve.scores)}
    if len(details.thresholds) == 2:  # the only class is the same as all classes
        curves.pop(ALL_CLASSES, None)
    texts = [
        f"{shorten(name, NAME_LENGTH)}: best F1 {metric_text(curve.best.f1, 3)} at {metric_text(curve.best.score, 3)}, "
        f"{curve.labels:,} labels"
        for name, curve in curves.items()
    ]
    figure, (panels,) = make_panels("", 1, 3, (12.8, 4.8 + _legend_height(texts, 12.8)), sharey=True)
    point = details.operating_point
    values = (metric_text(value, 3) for value in (point.score, point.f1, point.precision, point.recall))
    best = "best threshold of all classes together {}: F1 {}, precision {}, recall {} (IoU 0.5)".format(*values)
    set_title(figure, f"F1, precision and recall by score threshold, {title}", best)
    for axes, key in zip(panels, ("f1", "precision", "recall"), strict=True):
        for index, (name, curve) in enumerate(curves.items()):
            style = (
                {"color": "black", "linewidth": 2.5}
                if name == ALL_CLASSES
                else line_style(index - (ALL_CLASSES in curves))
            )
            style = {**style, "alpha": opacity(curve.labels), "drawstyle": "steps-pre", "label": texts[index]}
            axes.plot(curve.scores[::-1], getattr(curve, key)[::-1], **style)
            marker = {"marker": "o", "color": style["color"], "alpha": style["alpha"]}
            axes.plot(curve.best.score, getattr(curve.best, key), clip_on=False, **marker)
        if point.score is not None:
            axes.axvline(point.score, color="0.4", linestyle=":", linewidth=1.5, zorder=0)
        axes.set(xlabel="score threshold", xlim=(0, 1), ylim=(0, 1.02))
        axes.set_title("F1" if key == "f1" else key, fontsize="medium")
    _legend_below(figure, panels[0], "points: best F1 of each line; dotted: best threshold of all classes together")
    return figure


def _legend_columns(texts: Sequence[str], width: float) -> int:
    """Return the number of columns of a legend with these texts in a figure of this width in inches."""
    return max(1, int(width / (0.09 * max(map(len, texts), default=1) + 0.6)))


def _legend_height(texts: Sequence[str], width: float) -> float:
    """Return the height of a legend in inches."""
    return 0.2 * -(-len(texts) // _legend_columns(texts, width))


def _legend_below(figure: "Figure", axes: Any, title: str | None = None) -> None:
    """Add a legend of the lines of a plot below the whole figure, or the text "no data" if there are no lines."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center")
        return
    columns = _legend_columns(labels, figure.get_figwidth())
    options = {"frameon": False, "fontsize": "small", "handlelength": 3, "ncols": columns, "title": title}
    figure.legend(handles, labels, loc="outside lower center", **options)
