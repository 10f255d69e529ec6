"""`evforge report`: a study as one page of HTML with its figures, also stored in MLflow."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from detector.config.class_names import metric_name
from detector.utils.atomic_write import atomic_write
from detector.utils.decoration import warn
from evforge import one_line
from evforge.display.tables import metric_text
from evforge.evaluation.report import rules_text
from evforge.reports.figures import (
    Axis,
    coverage_scatter,
    importance_figure,
    learning_curves_figure,
    parallel_figure,
    trade_off_figure,
)
from evforge.reports.html import image, page, paragraph, section, table
from evforge.reports.study_data import Study, measure_coverages, read_study, value_text
from evforge.training.run_folder import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["report"]

REPORT_FILE, ARTIFACTS = "report.html", "report"
COST_AXES = {
    "latency_ms": ("latency per frame in ms, network alone", 1.0),
    "parameters": ("parameters in millions", 1e6),
}
"""For each cost, its axis label and the number by which values are divided."""

Figures = dict[str, tuple[str, str, "Callable[[], Figure | str]"]]


def report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the report of a study as an HTML page with figures, and store it in the MLflow run of the study.

    Args:
        folder: folder of a finished or running study.
        output: folder to write to; `report` in the folder of the study if None.

    Returns:
        Path of the page. The figures are also written as PNG files to the same folder.

    Raises:
        FileNotFoundError: `folder` is not the folder of a study.
        ValueError: the MLflow store of the study cannot be read.
    """
    study = read_study(folder)
    target = Path(output) if output is not None else study.folder / ARTIFACTS
    target.mkdir(parents=True, exist_ok=True)
    sections = [_summary(study), _cost(study)]
    for name, (title, caption, draw) in _figures(study).items():
        path = target / f"{name}.png"
        reason = _save(path, draw)
        sections.append(section(title, paragraph(f"not drawn: {reason}") if reason else image(path, caption)))
        if not reason:
            study.tracker.log_file(study.run_id, path, ARTIFACTS)
    sections += [_trials(study), _failures(study)]
    write_text(target / REPORT_FILE, page(f"Study {study.folder.name}", sections))
    study.tracker.log_file(study.run_id, target / REPORT_FILE, ARTIFACTS)
    study.tracker.flush()
    return target / REPORT_FILE


def _save(path: Path, draw: "Callable[[], Figure | str]") -> str:
    """Draw a figure and write it to a file.

    Errors are not raised, but printed as warnings, so that the page is always written.

    Args:
        path: PNG file to write.
        draw: function that returns the figure, or a text that states why there is no figure.

    Returns:
        The reason why the figure was not drawn; empty if it was drawn.
    """
    path.unlink(missing_ok=True)
    try:
        figure = draw()
        if isinstance(figure, str):
            return figure
        with atomic_write(path) as part:
            figure.savefig(part, format="png")
    except Exception as error:
        warn(str(path), error)
        return one_line(error)
    return ""


def _summary(study: Study) -> str:
    metric = study.config.tune.metric
    if not study.measured:
        return section("Result", paragraph("No trial has a validation yet."))
    best, value = study.ranked[0]
    rows = [("best trial", best.name), (metric, metric_text(value))]
    rows += [(key, value_text(sampled)) for key, sampled in best.values.items()]
    rules = (
        f"{metric} on the validation split of {study.config.data.dataset_path}: COCO AP 0.50:0.95 on labelled frames "
        f"unless the name states otherwise; {rules_text(vars(study.config.to_hparams()))}. Each trial is ranked by its "
        "best validation. best.yaml in the folder of the study contains the settings with the best mean over seeds."
    )
    return section("Result", table(("", ""), rows), paragraph(rules))


def _cost(study: Study) -> str:
    seconds = sum(trial.seconds for trial in study.trials)
    counts = Counter(trial.state for trial in study.trials)
    rows = [
        ("trials", f"{len(study.trials)}: " + ", ".join(f"{count} {state}" for state, count in counts.items())),
        ("epochs", f"{sum(trial.epochs for trial in study.trials):,}"),
        ("seconds of all trials", f"{seconds:,.0f}"),
    ]
    for name, title in (("cpu", "CPU seconds"), ("gpu", "GPU seconds")):
        reserved = study.resources.get(name, 0.0 if study.resources else None)
        rows.append((title, "not recorded" if reserved is None else f"{seconds * reserved:,.0f}"))
    note = "Seconds count from the start to the end of a run; CPU and GPU seconds are those reserved for the trial."
    return section("Total cost", table(("", ""), rows), paragraph(note))


def _figures(study: Study) -> Figures:
    """Return the title, the caption and the drawing function of each figure, by file name without extension.

    A drawing function returns the figure, or a text that states why there is no figure.
    """
    if not study.measured:
        return {}
    metric = study.config.tune.metric
    curves = {trial.name: trial.history for trial, _ in study.measured}
    trade_offs: Figures = {}
    for cost in COST_AXES:
        title = f"{metric} against {'latency' if cost == 'latency_ms' else cost}"
        caption = "No trial beats a trial of the front in both. Latency was measured on the machine of each trial."
        trade_offs[f"{metric_name(metric)}_{cost}"] = title, caption, partial(_trade_off, study, cost, title)
    return {
        "learning_curves": (
            "Learning curves",
            f"{metric} after every validation; curves of stopped and failed trials are shorter.",
            partial(learning_curves_figure, curves, "Learning curves", metric),
        ),
        "parallel_coordinates": (
            "Sampled values",
            "One line per trial; bright lines are better.",
            partial(_parallel, study),
        ),
        "importance": (
            "Importance",
            "Share of the variation of the metric that each setting explains, alone and together with others (Optuna, "
            "fANOVA). With few trials it is only a rough indication.",
            partial(_importance, study),
        ),
        **trade_offs,
        "anchor_coverage": (
            "Anchor coverage",
            "Share of training boxes with an anchor at the foreground IoU of the trial, without low-quality matches.",
            partial(_coverage, study),
        ),
    }


def _parallel(study: Study) -> "Figure | str":
    complete = study.complete(study.space.domains)
    if not complete:
        return "the sampled values of the trials were not recorded completely"
    axes = []
    for key, domain in study.space.domains.items():
        sampled = [trial.values[key] for trial, _ in complete]
        values = sampled if domain.is_numeric else list(map(value_text, sampled))
        axes.append(Axis(key, values, domain.kind == "loguniform"))
    metrics = [value for _, value in complete]
    return parallel_figure(axes, metrics, study.config.tune.metric, f"{len(complete)} trials")


def _importance(study: Study) -> "Figure | str":
    importances = study.importances()
    if not importances:
        return "too few trials have a value"
    return importance_figure(importances, f"{len(study.measured)} trials")


def _trade_off(study: Study, cost: str, title: str) -> "Figure | str":
    label, unit = COST_AXES[cost]
    points = {trial.name: (trial.costs[cost] / unit, value) for trial, value in study.measured if cost in trial.costs}
    if not points:
        return f"no trial has logged {cost}"
    return trade_off_figure(points, study.front(cost), label, study.config.tune.metric, title)


def _coverage(study: Study) -> "Figure | str":
    try:
        coverages = measure_coverages(study)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    points, groups = {}, {}
    for trial, value in study.measured:
        if trial.name in coverages and trial.config is not None:
            points[trial.name] = coverages[trial.name], value
            groups[trial.name] = value_text(trial.config.anchors.anchor_list)
    return (
        coverage_scatter(points, groups, study.config.tune.metric)
        if points
        else "the settings of the trials were not recorded"
    )


def _trials(study: Study) -> str:
    keys, metric = list(study.space.domains), study.config.tune.metric
    rest = [(trial, None) for trial in study.trials if not trial.history]
    rows = [
        [
            trial.name,
            metric_text(value),
            *(value_text(trial.values[key]) if key in trial.values else "-" for key in keys),
            str(trial.epochs),
            f"{trial.seconds:.0f}",
            trial.state,
        ]
        for trial, value in [*study.ranked, *rest]
    ]
    head = ("trial", metric, *keys, "epochs", "seconds", "status")
    return section("Trials", table(head, rows, numbers=(1, len(keys) + 2, len(keys) + 3)))


def _failures(study: Study) -> str:
    failed = [(trial.name, trial.failure or "not recorded") for trial in study.trials if trial.status == "FAILED"]
    if not failed:
        return section("Failures", paragraph("No trial failed."))
    notes = paragraph(f"Complete error texts: error.txt of each run, and {study.folder / 'failures'}.")
    return section("Failures", table(("trial", "reason"), failed), notes)
