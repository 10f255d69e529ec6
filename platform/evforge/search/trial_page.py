"""What MLflow's page of a trial shows besides its metrics: description, checkpoint, and a figure of its curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evforge.display.figures import COLOURS, make_panels, save_figure
from evforge.tracking.tracker import Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CHECKPOINT", "CURVES", "curves_figure", "describe_trial", "trial_note"]

CHECKPOINT, CURVES = "checkpoint", "curves.png"
"""Tag with the path of the best checkpoint of a trial, and file with its curves."""


def trial_note(study: str, sample: Mapping[str, Any]) -> str:
    """Return the description of a trial as Markdown: its study and its sample.

    Args:
        study: name of the study.
        sample: values that were drawn, by setting.
    """
    values = "\n".join(f"- {key}: {value}" for key, value in sample.items())
    return f"Trial of {study}.\n\n{values}\n\nTrain it again with the artifact config.yaml of this run:\n\n" + (
        "```sh\nevforge train --config config.yaml\n```\n"
    )


def describe_trial(
    tracker: Tracker,
    run_id: str,
    title: str,
    metric: str,
    best: Mapping[str, Any],
    reports: Sequence[Mapping[str, Any]],
    checkpoint: Path,
    folder: Path | None,
) -> None:
    """Add the result of an ended trial to its MLflow run: a note, the path of its checkpoint, and a figure.

    Args:
        tracker: the store.
        run_id: id of the MLflow run of the trial.
        title: title of the figure.
        metric: metric of the search.
        best: report of the best validation.
        reports: all reports, see `curves_figure`.
        checkpoint: checkpoint of the best validation.
        folder: folder for the figure; None to draw none.
    """
    tracker.note_result(run_id, f"{metric} {best[metric]:.4f} in epoch {best['epoch']}.")
    tracker.set_tag(run_id, CHECKPOINT, str(checkpoint))
    if folder is not None:
        save_figure(folder / CURVES, lambda: curves_figure(title, metric, reports))
        if (folder / CURVES).is_file():
            tracker.log_file(run_id, folder / CURVES)


def curves_figure(title: str, metric: str, reports: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw the training loss and a metric of a trial by epoch, side by side.

    Args:
        title: title of the figure.
        metric: name of the metric.
        reports: one dict per validation with `epoch`, and with `train_loss` and the metric if they are known.
    """
    names = list(dict.fromkeys(("train_loss", metric)))
    figure, panels = make_panels(title, 1, len(names), (4.2 * len(names), 3.4), sharex=True)
    for axes, name, colour in zip(panels.flat, names, COLOURS, strict=False):
        points = [(report["epoch"], report[name]) for report in reports if name in report]
        axes.plot(*zip(*points, strict=True) if points else ([], []), marker="o", color=colour)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure
