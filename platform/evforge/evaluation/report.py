"""Text and figures of an evaluation: what it measured, in words, tables and pictures."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from detector.evaluation.analysis.slices import SLICES, Details, Slice
from detector.evaluation.analysis.state_leak import StateLeak
from detector.evaluation.coco_backend import installed_library
from evforge.display.figures import COLOURS, add_legend, line_style, make_axes, make_figure
from evforge.display.tables import figure_text, text_table

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

__all__ = [
    "calibration_figure",
    "confusion_figure",
    "details_text",
    "pr_curve_figure",
    "protocol_text",
    "slices_figure",
]


EMPTY = {"count": "count", "ignore": "are ignored"}


def protocol_text(protocol: Mapping[str, Any], split: str) -> str:
    """One line that says by what rules figures were measured."""
    p = protocol
    return (
        f"protocol: COCO AP 0.50:0.95, labelled frames of {split}; first {p['skip_us'] / 1e6:g} s skipped; "
        f"boxes under {p['min_box_diag']:g} px diagonal or {p['min_box_side']:g} px side dropped; frames without a box "
        f"{EMPTY[p['empty_frames']]}; detections answer the labels of their frame; score floor "
        f"{p['score_thresh']:g}; NMS at IoU {p['nms_thresh']:g}; by {installed_library()}"
    )


def details_text(details: Details, leak: StateLeak) -> str:
    """Tables of the slices, and a line each for what else was measured, with how."""
    point, reaction, calibration = details.operating_point, details.reaction, details.calibration
    found = "none was found"
    if reaction.median_ms is not None:
        found = f"{reaction.found:.1%} found, half of these within {reaction.median_ms:.0f} ms"
        found += f" and 90 % within {reaction.p90_ms:.0f} ms of event time"
    f1, score, precision, recall = (figure_text(x, 3) for x in (point.f1, point.score, point.precision, point.recall))
    leaks = {None: "impossible, no detections", True: "passed", False: "FAILED"}[leak.passed]
    changed = "" if leak.changed is None else f": {leak.changed:.3%} of {leak.detections} detections changed"
    change = "" if leak.max_score_change is None else f", largest score change {leak.max_score_change:.1g}"
    return "\n".join(
        [
            f"best F1 {f1} at score {score}: precision {precision}, recall {recall} (IoU 0.5, all classes together); "
            "recall below and reaction time are measured at this score",
            f"reaction time: of {reaction.tracks} tracks {found} (from the first labelled box that counts to the end "
            "of the frame that finds it; tracks of the skipped start left out)",
            f"calibration error (ECE) {figure_text(calibration.error, 3)} over {sum(calibration.detections)} "
            f"detections scored from {calibration.floor:g} on (right: IoU 0.5 and the same class; 10 bins)",
            f"state leak check {leaks}{changed}{change} ({leak.files} recordings, first {leak.frames} frames, alone "
            "against last to first, two at a time and each twice, in float32)",
            "",
            _slice_table(details),
            "a false detection counts in the slice in which it lies itself; in all slices of "
            + " and ".join(slicing.title for slicing in SLICES.values() if not slicing.of_detections),
        ]
    )


def _slice_table(details: Details) -> str:
    lines = [["slice", "range", "boxes", "AP", "AP50", "recall"]]
    for name, parts in details.slices.items():
        for part in filter(lambda part: part.boxes, parts):
            figures = (figure_text(value, 3) for value in (part.ap, part.ap50, part.recall))
            lines.append([name, f"{_range(part)} {SLICES[name].unit}", f"{part.boxes:,}", *figures])
    return text_table(lines, numbers=range(2, 6))


def _range(part: Slice) -> str:
    if part.start is None:
        return f"< {part.stop:g}"
    return f">= {part.start:g}" if part.stop is None else f"{part.start:g}-{part.stop:g}"


def slices_figure(details: Details, title: str) -> "Figure":
    """AP and recall of every slice, a panel a quantity; numbers of boxes stand under the bars.

    Args:
        details: what was measured.
        title: says on what.
    """
    figure = make_figure((12.8, 7.2))
    figure.suptitle(title)
    panels = figure.subplots(2, 3).ravel()
    for axes, (name, parts) in zip(panels, details.slices.items(), strict=False):
        _draw_slices(axes, name, parts)
    for axes in panels[len(details.slices) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower right", frameon=False, bbox_to_anchor=(0.97, 0.08))
    return figure


def _draw_slices(axes: Any, name: str, parts: list[Slice]) -> None:
    score = {"AP": "ap", "AP50": "ap50", "recall at best F1": "recall"}
    for index, (label, key) in enumerate(score.items()):
        places = [number + (index - 1) * 0.27 for number in range(len(parts))]
        heights = [getattr(part, key) or 0.0 for part in parts]
        axes.bar(places, heights, 0.25, color=COLOURS[index], label=label)
    ticks = [f"{_range(part)}\n{part.boxes:,} boxes" for part in parts]
    axes.set_xticks(range(len(parts)), ticks, fontsize="x-small")
    axes.set(ylim=(0, 1), title=f"{SLICES[name].title} ({SLICES[name].unit})")
    axes.title.set_fontsize("medium")
    axes.grid(alpha=0.3, axis="y")
    axes.spines[["top", "right"]].set_visible(False)


def confusion_figure(details: Details, title: str) -> "Figure":
    """Counts of what was found for what; colours are shares of each row.

    Args:
        details: what was measured.
        title: says on what.
    """
    names, counts = details.confusion.names, details.confusion.counts
    side = 3.2 + 0.75 * len(names)
    figure = make_figure((side + 0.8, side))
    axes = figure.add_subplot(xlabel="detected as", ylabel="labelled as")
    axes.set_title(f"{title}\nIoU 0.5, score from {figure_text(details.operating_point.score, 3)}", fontsize="medium")
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the row", shrink=0.8)
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            if (y, x) != (len(names) - 1, len(names) - 1):  # nothing taken for nothing
                colour = "white" if shares[y][x] > 0.5 else "black"
                axes.text(x, y, f"{count:,}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), [*names[:-1], "missed"], rotation=45, ha="right")
    axes.set_yticks(range(len(names)), [*names[:-1], "nothing"])
    return figure


def calibration_figure(details: Details, title: str) -> "Figure":
    """Share of right detections over their score, and how many there are.

    Args:
        details: what was measured.
        title: says on what.
    """
    found = details.calibration
    figure = make_figure((6.0, 6.0))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.suptitle(
        f"{title}\nIoU 0.5, same class; expected calibration error {figure_text(found.error, 3)}", fontsize="medium"
    )
    upper.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="score = share")
    some = [index for index, count in enumerate(found.detections) if count]
    scores, shares = ([values[index] for index in some] for values in (found.scores, found.precisions))
    upper.plot(scores, shares, color=COLOURS[0], marker="o", label="share of right detections")
    upper.set(ylabel="share of right detections", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(frameon=False, loc="upper left")
    width = 1 / len(found.detections)
    lower.bar([(index + 0.5) * width for index in range(len(found.detections))], found.detections, width * 0.9)
    lower.set(xlabel=f"score, from {found.floor:g} on", ylabel="detections")
    lower.set_yscale("symlog", linthresh=1)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def pr_curve_figure(precision_recall: Mapping[str, tuple["np.ndarray", "np.ndarray"]], title: str) -> "Figure":
    """Precision over recall, a line a class.

    Args:
        precision_recall: class name -> (recall, precision), equally long arrays in 0..1, as
            `CocoEvaluator.precision_recall` gives them.
        title: says on what and at which IoU it was measured.
    """
    figure, axes = make_axes(title, "recall", "precision")
    for index, (name, (recall, precision)) in enumerate(precision_recall.items()):
        label = f"{name} (AP {float(precision.mean()):.3f})"
        axes.plot(recall, precision, label=label, clip_on=False, **line_style(index))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    add_legend(axes)
    return figure
