"""The figures of a study by title, drawn one by one: a figure that fails becomes one line."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from detector.utils.decoration import warn
from evforge import one_line
from evforge.reports.figures import (
    Axis,
    Point,
    history_figure,
    importance_figure,
    learning_curves_figure,
    parallel_figure,
    scatter_figure,
    setting_figure,
    trade_off_figure,
)
from evforge.reports.html import paragraph, plot, plots, section
from evforge.reports.importances import Importance
from evforge.reports.study_data import Study, StudyTrial, measure_coverages, value_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["figure_sections"]

COST_AXES = {
    "latency_ms": ("latency per frame in ms, network alone", 1.0),
    "parameters": ("parameters in millions", 1e6),
}
"""For each cost, its axis label and the number by which values are divided."""

Draw = Callable[[], "Figure | str"]


def figure_sections(study: Study, importances: Mapping[str, Importance] | str) -> list[str]:
    """Return the HTML of all figures of a study.

    Args:
        study: the study.
        importances: result of `measure_importances`, or a text that states why there is none.
    """
    if not study.measured:
        return []
    metric = study.config.tune.metric
    sections = [
        section(title, _drawn(study, title, draw), paragraph(caption))
        for title, (caption, draw) in _figures(study, importances).items()
    ]
    each = {key: _drawn(study, key, partial(_setting, study, key)) for key in study.space.domains}
    sections.insert(1, section(f"{metric} against each searched setting", plots(each), paragraph("★ is the winner.")))
    return sections


def _drawn(study: Study, title: str, draw: Draw) -> str:
    """Draw a figure and return its HTML. Errors are printed as warnings and become one line of the page."""
    try:
        figure = draw()
        return plot(figure) if not isinstance(figure, str) else paragraph(f"not drawn: {study.shown(figure)}")
    except Exception as error:
        warn(f"the figure {title!r} of the report", error)
        return paragraph(f"not drawn: {study.shown(one_line(error))}")


def _figures(study: Study, importances: Mapping[str, Importance] | str) -> dict[str, tuple[str, Draw]]:
    """Return the caption and the drawing function of each figure by its title.

    A drawing function returns the figure, or a text that states why there is no figure.
    """
    metric = study.config.tune.metric
    front = "No trial beats a trial of the front in both. Latency was measured on the machine of each trial."
    return {
        "Learning curves": (
            f"{metric} after every validation; curves of stopped and failed trials are shorter.",
            partial(_curves, study),
        ),
        "History": ("Best value of each trial, in the order in which the trials started.", partial(_history, study)),
        "Sampled values": (
            "One line per trial; darker lines are better. The text over a line has all its values.",
            partial(_parallel, study),
        ),
        "Importance": (
            "Share of the variation of the metric that each setting explains, alone and together with others (Optuna, "
            "fANOVA). The intervals are computed from resamples of the trials. With few trials they are too narrow.",
            lambda: importances if isinstance(importances, str) else importance_figure(importances),
        ),
        f"{metric} against latency": (front, partial(_trade_off, study, "latency_ms")),
        f"{metric} against parameters": (front, partial(_trade_off, study, "parameters")),
        "Anchor coverage": (
            "Share of training boxes with an anchor at the foreground IoU of the trial, without low-quality matches.",
            partial(_coverage, study),
        ),
    }


def _texts(study: Study, trial: StudyTrial, value: float) -> list[str]:
    """Return the lines of text that describe a trial in a figure."""
    values = [f"{key} {value_text(sampled)}" for key, sampled in trial.values.items()]
    return [trial.name, f"{study.config.tune.metric} {value:.4f}", *values, f"{trial.epochs} epochs, {trial.state}"]


def _winner_name(study: Study) -> str:
    return study.winner.name if study.winner else ""


def _curves(study: Study) -> "Figure":
    curves = {trial.name: trial.history for trial, _ in study.measured}
    return learning_curves_figure(curves, _winner_name(study), study.config.tune.metric)


def _history(study: Study) -> "Figure":
    points = [
        Point(number, value, _texts(study, trial, value)) for number, (trial, value) in enumerate(study.measured, 1)
    ]
    return history_figure(points, study.config.tune.mode, study.config.tune.metric)


def _axis(study: Study, key: str, trials: list[StudyTrial]) -> Axis:
    domain, sampled = study.space.domains[key], [trial.values[key] for trial in trials]
    return Axis(key, sampled if domain.is_numeric else list(map(value_text, sampled)), domain.kind == "loguniform")


def _setting(study: Study, key: str) -> "Figure | str":
    found = study.complete([key])
    if not found:
        return "the sampled values of the trials were not recorded"
    names = [trial.name for trial, _ in found]
    winner = names.index(_winner_name(study)) if _winner_name(study) in names else None
    texts, axis = [_texts(study, *pair) for pair in found], _axis(study, key, [trial for trial, _ in found])
    return setting_figure(axis, [value for _, value in found], texts, winner, study.config.tune.metric)


def _parallel(study: Study) -> "Figure | str":
    found = study.complete(study.space.domains)
    if not found:
        return "the sampled values of the trials were not recorded completely"
    trials, settings = [trial for trial, _ in found], study.config.tune
    axes = [_axis(study, key, trials) for key in study.space.domains]
    texts = [_texts(study, *pair) for pair in found]
    return parallel_figure(axes, [value for _, value in found], texts, settings.metric, settings.mode)


def _trade_off(study: Study, cost: str) -> "Figure | str":
    label, unit = COST_AXES[cost]
    points = {
        trial.name: Point(
            trial.costs[cost] / unit, value, [*_texts(study, trial, value), f"{cost} {trial.costs[cost]:,.6g}"]
        )
        for trial, value in study.measured
        if cost in trial.costs
    }
    if not points:
        return f"no trial has logged {cost}"
    return trade_off_figure(points, study.front(cost), label, study.config.tune.metric)


def _coverage(study: Study) -> "Figure | str":
    try:
        coverages = measure_coverages(study)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    groups: dict[str, list[Point]] = {}
    for trial, value in study.measured:
        if trial.name in coverages and trial.config is not None:
            covered = coverages[trial.name]
            text = [*_texts(study, trial, value), f"coverage {covered:.3f}"]
            groups.setdefault(value_text(trial.config.anchors.anchor_list), []).append(Point(covered, value, text))
    if not groups:
        return "the settings of the trials were not recorded"
    label = "share of training boxes with an anchor at the foreground IoU"
    return scatter_figure(groups, label, study.config.tune.metric)
