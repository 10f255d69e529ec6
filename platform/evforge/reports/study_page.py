"""`evforge report`: a study as one page of HTML with interactive figures, also stored in MLflow."""

import importlib.metadata
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from detector.utils.decoration import warn
from evforge import one_line
from evforge.display.intervals import mean_interval
from evforge.display.tables import metric_text
from evforge.evaluation.report import rules_text
from evforge.reports.html import page, paragraph, section, table
from evforge.reports.importances import LEAST_TRIALS, Importance, measure_importances
from evforge.reports.plots import figure_sections
from evforge.reports.study_data import Study, StudyTrial, read_study, value_text
from evforge.reports.winner import commands_section, evaluation_section, registry_section, settings_section
from evforge.training.run_folder import HARDWARE_TAG, write_text

__all__ = ["report"]

REPORT_FILE, ARTIFACTS = "report.html", "report"
COMMIT_TAG = "mlflow.source.git.commit"


def report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the report of a study as an HTML page, and store it in the MLflow run of the study.

    The page is first written without figures, so that a failure while they are drawn loses no result.

    Args:
        folder: folder of a finished or running study.
        output: folder to write to; `report` in the folder of the study if None.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: `folder` is not the folder of a study.
        ValueError: the MLflow store of the study cannot be read.
    """
    study = read_study(folder)
    target = Path(output) if output is not None else study.folder / ARTIFACTS
    target.mkdir(parents=True, exist_ok=True)
    path, title = target / REPORT_FILE, f"Study {study.folder.name}"
    importances = _importances(study)
    parts = [_facts(study), _summary(study, importances), _trials(study), *_winner(study)]
    ends = [_failures(study), _cost(study)]
    write_text(path, page(title, [*parts, *ends]))
    figures = figure_sections(study, importances)
    try:
        write_text(path, page(title, [*parts, *figures, *ends]))
    except ImportError as error:
        warn("the figures of the report", error)
    study.tracker.log_file(study.run_id, path, ARTIFACTS)
    study.tracker.flush()
    return path


def _importances(study: Study) -> Mapping[str, Importance] | str:
    """Return the importances, or a text that states why there are none."""
    try:
        few = f"at least {LEAST_TRIALS} trials with a value and a setting with two values are needed"
        return measure_importances(study) or few
    except Exception as error:
        return study.shown(one_line(error))


def _facts(study: Study) -> str:
    rows = [
        ("started", _time(study.started)),
        ("report written", _time(time.time())),
        ("EvForge", importlib.metadata.version("evforge")),
        ("hardware", study.tags.get(HARDWARE_TAG, "not recorded")),
        ("git commit", study.tags.get(COMMIT_TAG, "")),
        ("dataset", Path(study.config.data.dataset_path).name),
        ("MLflow run", study.run_id),
    ]
    return table(("", ""), [row for row in rows if row[1]])


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _summary(study: Study, importances: Mapping[str, Importance] | str) -> str:
    """Return the HTML of the summary: the winner, its metric with an interval, and the setting that matters most."""
    if study.winner is None:
        return section("Summary", paragraph("No trial has a validation yet.", "summary"))
    winner, metric = study.winner, study.config.tune.metric
    settings = ", ".join(f"{key} {value_text(value)}" for key, value in winner.values.items())
    so_far = "" if study.best_run is not None else " so far, as the search has not ended,"
    number = "1 trial" if len(study.trials) == 1 else f"{len(study.trials)} trials"
    sentences = [
        f"The winner of {number}{so_far} is {winner.name} with {settings or 'unrecorded settings'}.",
        _metric_sentence(metric, study.seeds(winner)),
        _importance_sentence(importances),
    ]
    rules = (
        f"{metric} on the validation split: COCO AP 0.50:0.95 on labelled frames unless the name states otherwise; "
        f"{rules_text(vars(study.config.to_hparams()))}. A trial counts with its best validation; the winner has the "
        "best mean over seeds. The winner of many trials was chosen on this split, so its value is slightly too good."
    )
    return section("Summary", paragraph(" ".join(sentences), "summary"), paragraph(rules))


def _metric_sentence(metric: str, seeds: list[tuple[StudyTrial, float]]) -> str:
    values = [value for _, value in seeds]
    mean, bounds = statistics.fmean(values), mean_interval(values)
    if len(values) == 1:
        return f"Its {metric} is {mean:.4f} with one seed, so its interval is not known (see tune.final_seeds)."
    each = ", ".join(f"{trial.name} {value:.4f}" for trial, value in seeds)
    if bounds is None:
        few = f"which are too few for an interval: {each} (see tune.final_seeds)"
        return f"Its {metric} is {mean:.4f}, the mean of {len(values)} seeds, {few}."
    interval = f"95 % interval {bounds[0]:.4f} to {bounds[1]:.4f} (Student's t)"
    return f"Its {metric} is {mean:.4f}, the mean of {len(values)} seeds, {interval}: {each}."


def _importance_sentence(importances: Mapping[str, Importance] | str) -> str:
    if isinstance(importances, str):
        return f"Which setting matters most is not known: {importances}."
    (first, most), *others = importances.items()
    close = [key for key, one in others if one.high >= most.low]
    doubt = f"; the order is not certain, as its interval overlaps with that of {', '.join(close)}" if close else ""
    share = (
        f"{100 * most.share:.0f} % of the differences between the trials (90 % interval {100 * most.low:.0f} to "
        f"{100 * most.high:.0f} %)"
    )
    return f"{first} matters most: it explains {share}{doubt}."


def _trials(study: Study) -> str:
    keys, metric, winner = list(study.space.domains), study.config.tune.metric, study.winner
    rest = [(trial, None) for trial in study.trials if not trial.history]
    rows = [
        [
            f"{trial.name} (winner)" if trial is winner else trial.name,
            metric_text(value),
            trial.state,
            str(trial.epochs),
            f"{trial.seconds:.0f}",
            *(value_text(trial.values[key]) if key in trial.values else "-" for key in keys),
        ]
        for trial, value in [*study.ranked, *rest]
    ]
    head = ("trial", metric, "status", "epochs", "seconds", *keys)
    numbers = [1, 3, 4, *(5 + index for index, key in enumerate(keys) if study.space.domains[key].is_numeric)]
    return section("Trials", table(head, rows, numbers, sortable=True))


def _winner(study: Study) -> list[str]:
    if study.winner is None:
        return []
    return [
        settings_section(study, study.winner),
        commands_section(study),
        _read(study, "Registry", partial(registry_section, study, study.winner)),
        _read(study, "Test of the winner", partial(evaluation_section, study, study.winner)),
    ]


def _read(study: Study, title: str, make: Callable[[], str]) -> str:
    """Return the HTML of a section; if its data cannot be read, the section has one line with the reason."""
    try:
        return make()
    except Exception as error:
        warn(f"the section {title!r} of the report", error)
        return section(title, paragraph(f"not read: {study.shown(one_line(error))}"))


def _failures(study: Study) -> str:
    failed = [(trial.name, study.shown(trial.failure) or "not recorded") for trial in study.trials if trial.is_failed]
    if not failed:
        return section("Failures", paragraph("No trial failed."))
    notes = paragraph("Complete error texts: error.txt of each run, and the folder failures of the study.")
    return section("Failures", table(("trial", "reason"), failed), notes)


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
