"""`evforge report`: a study as one page of HTML with its pictures, and the same in MLflow."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from detector.config.class_names import metric_name
from detector.utils.atomic_write import atomic_write
from detector.utils.decoration import warn
from evforge import one_line
from evforge.reports.figures import (
    Axis,
    coverage_scatter,
    importance_figure,
    learning_curves_figure,
    parallel_figure,
    trade_off_figure,
)
from evforge.reports.html import page, paragraph, picture, section, table
from evforge.reports.study_data import Study, StudyTrial, measure_coverages, read_study, value_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["report"]

REPORT_FILE, ARTIFACTS = "report.html", "report"
COSTS = {"latency_ms": ("latency of a frame in ms, network alone", 1.0), "parameters": ("parameters in millions", 1e6)}
"""Label of a cost, and what it is divided by."""
NO_FIGURE = "not drawn: "


def report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Write a study down for people, and keep the same with its run in MLflow.

    Args:
        folder: folder of a study, ended or not.
        output: where to write; `report` in the study's folder if None.

    Returns:
        The page; its pictures lie beside it as PNG files too.

    Raises:
        FileNotFoundError: the folder is none of a study.
        ValueError: the store of its runs cannot be read.
    """
    study = read_study(folder)
    target = Path(output) if output is not None else study.folder / ARTIFACTS
    target.mkdir(parents=True, exist_ok=True)
    sections = [_summary(study), _cost(study)]
    for name, (title, caption, draw) in _figures(study).items():
        path = target / f"{name}.png"
        reason = _save(path, draw)
        sections.append(section(title, paragraph(NO_FIGURE + reason) if reason else picture(path, caption)))
        if not reason:
            study.tracker.log_file(study.run_id, path, ARTIFACTS)
    sections += [_trials(study), _failures(study)]
    with atomic_write(target / REPORT_FILE) as part:
        part.write_text(page(f"Study {study.folder.name}", sections))
    study.tracker.log_file(study.run_id, target / REPORT_FILE, ARTIFACTS)
    return target / REPORT_FILE


def _save(path: Path, draw: "Callable[[], Figure | str]") -> str:
    """Draw a figure to a file; why there is none, if there is none: a figure that fails never costs the page."""
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
    rows = [("best trial", best.name), (metric, f"{value:.4f}")]
    rows += [(key, value_text(drawn)) for key, drawn in best.values.items()]
    data = study.config.data
    rules = (
        f"{metric} on the validation split of {data.dataset_path}: COCO AP 0.50:0.95 on labelled frames unless the "
        f"name says otherwise; first {data.skip_us / 1e6:g} s skipped; boxes under {data.min_box_diag:g} px diagonal "
        f"or {data.min_box_side:g} px side dropped; frames without a box "
        f"{'count' if study.config.eval.empty_frames == 'count' else 'are ignored'}; score floor "
        f"{study.config.eval.score_thresh:g}. A trial counts with its best validation. best.yaml in the study's folder "
        "holds the settings whose mean over seeds is best."
    )
    return section("Result", table(("", ""), rows), paragraph(rules))


def _cost(study: Study) -> str:
    seconds = sum(trial.seconds for trial in study.trials)
    counts: dict[str, int] = {}
    for trial in study.trials:
        state = "stopped early" if trial.early else trial.status.lower()
        counts[state] = counts.get(state, 0) + 1
    rows = [
        ("trials", f"{len(study.trials)}: " + ", ".join(f"{count} {state}" for state, count in counts.items())),
        ("epochs", f"{sum(trial.epochs for trial in study.trials):,}"),
        ("seconds of all trials", f"{seconds:,.0f}"),
    ]
    for name, title in (("cpu", "CPU seconds"), ("gpu", "GPU seconds")):
        reserved = study.resources.get(name, 0.0 if study.resources else None)
        rows.append((title, "not recorded" if reserved is None else f"{seconds * reserved:,.0f}"))
    note = "Seconds run from the start to the end of a trial's run; CPU and GPU seconds are those reserved for it."
    return section("Total cost", table(("", ""), rows, numbers=()), paragraph(note))


def _figures(study: Study) -> "dict[str, tuple[str, str, Callable[[], Figure | str]]]":
    """File name -> title, caption, and what draws the figure or says why there is none."""
    metric = study.config.tune.metric
    found: dict[str, tuple[str, str, Callable[[], Figure | str]]] = {}
    if not study.measured:
        return found
    curves = {trial.name: trial.history for trial, _ in study.measured}
    found["learning_curves"] = (
        "Learning curves",
        f"{metric} after every validation; a curve that ends was stopped or failed.",
        partial(learning_curves_figure, curves, "Learning curves", metric),
    )
    found["parallel_coordinates"] = (
        "What was drawn",
        "A line a trial; bright lines are good.",
        partial(_parallel, study),
    )
    found["importance"] = (
        "What mattered",
        "Share of the metric's variation that each setting explains, alone and together with others (Optuna, fANOVA). "
        "Of few trials it is a hint, not a proof.",
        partial(_importance, study),
    )
    for cost in COSTS:
        title = f"{metric} against {'latency' if cost == 'latency_ms' else cost}"
        found[f"{metric_name(metric)}_{cost}"] = (
            title,
            "Trials of the front are beaten by no other in both. Latency is that on the trial's own machine.",
            partial(_trade_off, study, cost, title),
        )
    found["anchor_coverage"] = (
        "Anchor coverage",
        "Share of training boxes with an anchor at the trial's foreground IoU, low-quality matches aside.",
        partial(_coverage, study),
    )
    return found


def _parallel(study: Study) -> "Figure | str":
    keys = list(study.space.domains)
    complete = [(trial, value) for trial, value in study.measured if all(key in trial.values for key in keys)]
    if not complete:
        return "no trial has all of its settings recorded"
    axes = []
    for key, domain in study.space.domains.items():
        drawn = [trial.values[key] for trial, _ in complete]
        choice = domain.is_choice and not domain.is_numeric
        axes.append(Axis(key, [value_text(value) for value in drawn] if choice else drawn, domain.kind == "loguniform"))
    values = [value for _, value in complete]
    return parallel_figure(axes, values, study.config.tune.metric, f"{len(complete)} trials")


def _importance(study: Study) -> "Figure | str":
    importances = study.importances()
    if not importances:
        return "too few trials have a value"
    return importance_figure(importances, f"{len(study.measured)} trials")


def _trade_off(study: Study, cost: str, title: str) -> "Figure | str":
    label, unit = COSTS[cost]
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
    return coverage_scatter(points, groups, study.config.tune.metric) if points else "no trial has its settings"


def _trials(study: Study) -> str:
    keys, metric = list(study.space.domains), study.config.tune.metric
    ranked = study.ranked
    rest = [(trial, None) for trial in study.trials if trial not in [one for one, _ in ranked]]
    rows = [_row(trial, value, keys) for trial, value in [*ranked, *rest]]
    head = ("trial", metric, *keys, "epochs", "seconds", "status")
    return section("Trials", table(head, rows, numbers=(1, len(keys) + 2, len(keys) + 3)))


def _row(trial: StudyTrial, value: float | None, keys: list[str]) -> list[str]:
    drawn = [value_text(trial.values[key]) if key in trial.values else "-" for key in keys]
    state = "stopped early" if trial.early else trial.status.lower()
    figure = "-" if value is None else f"{value:.4f}"
    return [trial.name, figure, *drawn, str(trial.epochs), f"{trial.seconds:.0f}", state]


def _failures(study: Study) -> str:
    failed = [(trial.name, trial.failure or "not recorded") for trial in study.trials if trial.status == "FAILED"]
    if not failed:
        return section("Failures", paragraph("No trial failed."))
    notes = paragraph(f"Whole error texts: error.txt of each run, and {study.folder / 'failures'}.")
    return section("Failures", table(("trial", "reason"), failed), notes)
