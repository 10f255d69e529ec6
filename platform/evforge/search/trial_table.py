"""The trials of a search as a text table."""

from collections.abc import Sequence
from dataclasses import dataclass

from evforge.display.tables import text_table

__all__ = ["TrialRow", "trial_table"]


@dataclass(frozen=True)
class TrialRow:
    """A trial of a search as a row of `trial_table`.

    Args:
        name: name of the trial
        anchors: name of the anchor list
        fg_iou_threshold: smallest IoU of foreground anchors
        bg_iou_threshold: IoU below which anchors are background
        feature_base: output channels of the first convolution
        mean_ap: mAP (0.50:0.95) at the best validation; None before the first validation
        mean_ap50: mAP at an IoU of 0.5 at the best validation; None before the first validation
        seconds: duration of the trial; None if unknown
        status: "failed"; or "running", "finished", "stopped early" or "killed" with the last epoch
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
    """Format the trials as a text table. The trial with the best mAP is first, and trials without mAP are last."""
    head = ("trial", "anchors", "fg/bg IoU", "width", "mAP", "mAP50", "seconds", "status")
    ranked = sorted(rows, key=lambda row: -1.0 if row.mean_ap is None else row.mean_ap, reverse=True)
    lines = [head, *(_cells(row) for row in ranked)]
    return text_table(lines, numbers=range(3, 7))


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
