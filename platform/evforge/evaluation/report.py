"""Text and figures of an evaluation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from detector.evaluation.analysis.slices import SLICES, Details, Slice
from detector.evaluation.analysis.state_leak import StateLeak
from detector.evaluation.coco_backend import installed_library
from evforge.display.figures import COLOURS, add_legend, line_style, make_axes, make_figure, make_panels
from evforge.display.tables import metric_text, range_text, text_table

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

__all__ = [
    "calibration_figure",
    "confusion_figure",
    "details_text",
    "pr_curve_figure",
    "protocol_text",
    "rules_text",
    "slices_figure",
]


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


def details_text(details: Details, leak: StateLeak) -> str:
    """Format the further results of an evaluation: one line per measurement and its method, then a table.

    The table has one row per slice, which is a range of a quantity such as box size.

    Args:
        details: the further results.
        leak: result of the check whether the detections in a stream depend on other streams.
    """
    point, reaction, calibration = details.operating_point, details.reaction, details.calibration
    found = (
        "none was found"
        if reaction.median_ms is None
        else f"{reaction.found:.1%} found, half of these within {reaction.median_ms:.0f} ms and 90 % within "
        f"{reaction.p90_ms:.0f} ms of event time"
    )
    f1, score, precision, recall = (metric_text(x, 3) for x in (point.f1, point.score, point.precision, point.recall))
    leaks = {None: "impossible, no detections", True: "passed", False: "FAILED"}[leak.passed]
    changed = "" if leak.changed is None else f": {leak.changed:.3%} of {leak.detections} detections changed"
    change = "" if leak.max_score_change is None else f", largest score change {leak.max_score_change:.1g}"
    return "\n".join(
        [
            f"best F1 {f1} at score {score}: precision {precision}, recall {recall} (IoU 0.5, all classes together); "
            "recall below and reaction time are measured at this score",
            f"reaction time: of {reaction.tracks} tracks {found} (from the first labelled box that counts to the end "
            "of the first frame in which the track is found; tracks of the skipped start are left out)",
            f"calibration error (ECE) {metric_text(calibration.error, 3)} over {sum(calibration.detections)} "
            f"detections with scores from {calibration.floor:g} (correct: IoU 0.5 and the same class; 10 bins)",
            f"state leak check {leaks}{changed}{change} (first {leak.frames} frames of {leak.files} recordings, one "
            "recording at a time against two at a time in another order, in float32)",
            "",
            _slice_table(details),
            "a false detection counts in the slice of its box; in all slices of "
            + " and ".join(slicing.title for slicing in SLICES.values() if not slicing.of_detections),
        ]
    )


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

    Args:
        details: further results of the evaluation.
        title: title of the figure.
    """
    figure, panels = make_panels(title, 2, 3, (12.8, 7.2))
    panels = panels.ravel()
    for axes, (name, parts) in zip(panels, details.slices.items(), strict=False):
        _draw_slices(axes, name, parts)
    for axes in panels[len(details.slices) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower right", frameon=False, bbox_to_anchor=(0.97, 0.08))
    return figure


def _draw_slices(axes: Any, name: str, parts: list[Slice]) -> None:
    for index, (label, key) in enumerate({"AP": "ap", "AP50": "ap50", "recall at best F1": "recall"}.items()):
        positions = [number + (index - 1) * 0.27 for number in range(len(parts))]
        heights = [getattr(part, key) or 0.0 for part in parts]
        axes.bar(positions, heights, 0.25, color=COLOURS[index], label=label)
    ticks = [f"{_range(part)}\n{part.boxes:,} boxes" for part in parts]
    axes.set_xticks(range(len(parts)), ticks, fontsize="x-small")
    axes.set_ylim(0, 1)
    axes.set_title(f"{SLICES[name].title} ({SLICES[name].unit})", fontsize="medium")
    axes.grid(axis="x", visible=False)


def confusion_figure(details: Details, title: str) -> "Figure":
    """Draw the confusion matrix: one row per labelled class, one column per detected class.

    Each cell shows the number of boxes as text, and the share of its row as colour.

    Args:
        details: further results of the evaluation.
        title: title of the figure.
    """
    classes, counts = details.confusion.names[:-1], details.confusion.counts
    side = 3.95 + 0.75 * len(classes)
    figure = make_figure((side + 0.8, side))
    axes = figure.add_subplot(xlabel="detected as", ylabel="labelled as")
    axes.set_title(f"{title}\nIoU 0.5, score from {metric_text(details.operating_point.score, 3)}", fontsize="medium")
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the row", shrink=0.8)
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            if (y, x) != (len(classes), len(classes)):  # background detected as background has no count
                colour = "white" if shares[y][x] > 0.5 else "black"
                axes.text(x, y, f"{count:,}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(counts)), [*classes, "missed"], rotation=45, ha="right")
    axes.set_yticks(range(len(counts)), [*classes, "nothing"])
    return figure


def calibration_figure(details: Details, title: str) -> "Figure":
    """Draw two plots against the score of detections: the share of detections that are correct, and their number.

    Args:
        details: further results of the evaluation.
        title: title of the figure.
    """
    found = details.calibration
    figure, ((upper,), (lower,)) = make_panels("", 2, 1, (6.0, 6.0), sharex=True, height_ratios=(3, 1))
    error = metric_text(found.error, 3)
    figure.suptitle(f"{title}\nIoU 0.5, same class; expected calibration error {error}", fontsize="medium")
    upper.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="score = share")
    some = [index for index, count in enumerate(found.detections) if count]
    scores, shares = ([values[index] for index in some] for values in (found.scores, found.precisions))
    upper.plot(scores, shares, color=COLOURS[0], marker="o", label="share of correct detections")
    upper.set(ylabel="share of correct detections", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(frameon=False, loc="upper left")
    width = 1 / len(found.detections)
    lower.bar([(index + 0.5) * width for index in range(len(found.detections))], found.detections, width * 0.9)
    lower.set(xlabel=f"score, from {found.floor:g}", ylabel="detections")
    lower.set_yscale("symlog", linthresh=1)
    return figure


def pr_curve_figure(precision_recall: Mapping[str, tuple["np.ndarray", "np.ndarray"]], title: str) -> "Figure":
    """Draw precision against recall, one line per class.

    Args:
        precision_recall: for each class name, recall and precision as arrays of the same length with values in 0..1, as
            `CocoEvaluator.precision_recall` returns them.
        title: title of the figure.
    """
    figure, axes = make_axes(title, "recall", "precision")
    for index, (name, (recall, precision)) in enumerate(precision_recall.items()):
        label = f"{name} (AP {float(precision.mean()):.3f})"
        axes.plot(recall, precision, label=label, clip_on=False, **line_style(index))
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    add_legend(axes)
    return figure
