"""Log of a search in the driver: reports of the trials, their MLflow runs, and a table of all trials."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from detector.config import Config
from evforge import EvForgeError, last_line
from evforge.cluster.placement import avoid
from evforge.cluster.ray_compat import (
    error_text,
    failed_node,
    reported_checkpoint,
    start_checkpoint,
)
from evforge.search.pareto import Candidate, front
from evforge.search.policies.population import Population
from evforge.search.policies.schedulers import load_scheduler_state, save_scheduler_state
from evforge.search.search_progress import SearchProgress
from evforge.search.trial_page import CHECKPOINT, describe_trial, trial_note
from evforge.search.trial_table import TrialRow, result_text, sample_text, trial_screen, trial_table
from evforge.tracking.datasets import dataset_inputs
from evforge.tracking.tracker import Tracker
from evforge.tracking.writes import NOTE, PATH
from evforge.training.run_folder import CONFIG_FILE, failure_file, is_metric, logged_metrics, remove_checkpoints

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["FOLDER", "StudyLog", "TrialRecord"]

ENDED = ("finished", "stopped early", "killed")

FOLDER = "trial_"
"""Prefix of the name of a trial's folder. The id of the trial follows the prefix."""

TABLE_PAUSE_S = 120.0
"""Least number of seconds between two printed tables, if the output is not a terminal."""

SETTLED_S = 30.0
"""Checkpoints of a running population are not removed before they have this age in seconds.

Ray saves the state of a search every second, and a resumed search needs the checkpoints of the last saved state.
"""


@dataclass
class TrialRecord:
    """Record of one trial.

    Args:
        name: `trial-1`, `trial-2` and so on, in the order in which the trials started
        config: configuration of the trial's last sample; None if the sample is invalid
        run_id: id of the MLflow run
        started: start time in seconds on the monotonic clock
        status: running, finished, stopped early, failed or killed
        reason: reason of a failure
        seconds: duration until the last report or the failure
        reports: one dict per validation with the metrics, `epoch`, `checkpoint` (folder relative to the study's
            folder), `schedule`, and the fingerprints of the drawn configuration (`expected`) and of the model's
            configuration (`fingerprint`)
        folder: folder of the trial, which contains its checkpoints
        schedule: samples with which the current weights were trained, as pairs (first epoch, sample). There is one
            pair, except in a population (PBT), where trials take over the weights of other trials
    """

    name: str
    config: Config | None
    run_id: str
    started: float
    status: str = "running"
    reason: str = ""
    seconds: float = 0.0
    reports: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None
    schedule: tuple[tuple[int, dict[str, Any]], ...] = ()


class StudyLog(Callback):
    """Ray Tune callback that logs each trial of a study as an MLflow run and prints a table at intervals.

    Ray stores the state of this log together with the search, so that a resumed study continues with it. The state of
    the scheduler is a part of this state.

    Args:
        tracker: tracker of the MLflow store.
        parent: id of the study's MLflow run.
        folder: folder of the study.
        base: configuration of the study.
        resolve: function that returns the configuration of a sample.
        scheduler: scheduler of the search; None if all trials run to their end.
        prefix: prefix of the names of the trials.
    """

    def __init__(
        self,
        tracker: Tracker,
        parent: str,
        folder: Path,
        base: Config,
        resolve: Callable[[dict[str, Any]], Config],
        scheduler: Any = None,
        prefix: str = "trial",
    ) -> None:
        self.tracker, self.parent, self.folder, self.base = tracker, parent, folder, base
        self.resolve, self.scheduler, self.prefix = resolve, scheduler, prefix
        self.trials: dict[str, TrialRecord] = {}
        self._last_table = time.monotonic()
        self._scheduler_state: bytes | None = None
        self.left_out: Sequence[str] = ()
        self.progress = SearchProgress(base.train.max_epochs)
        self._avoided: dict[str, list[str]] = {}
        self._inputs: list[dict[str, str]] | None = None

    def get_state(self) -> dict[str, Any]:
        """Return the state that Ray stores with the search."""
        scheduler = save_scheduler_state(self.scheduler) if self.scheduler else None
        return {"trials": self.trials, "scheduler": scheduler}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the log of an interrupted search.

        If a trial is not in the stored state, because it started after the last save, its MLflow run is ended.
        """
        now = self._last_table = time.monotonic()
        self.trials = {key: replace(record, started=now - record.seconds) for key, record in state["trials"].items()}
        self._scheduler_state = state["scheduler"]
        known = {record.run_id for record in self.trials.values()}
        for run in self.tracker.runs(self.parent):
            if run.status == "RUNNING" and run.name.startswith(self.prefix) and run.run_id not in known:
                self.tracker.end_run(run.run_id, "KILLED")

    def move(self, tracker: Tracker, folder: Path) -> None:
        """Replace the tracker and the folder by those of a resumed study, which may have been moved."""
        self._avoided = {}  # the cluster may be another one
        for record in self.trials.values():
            if record.folder is not None:
                record.folder = folder / record.folder.relative_to(self.folder)
        self.tracker, self.folder = tracker, folder

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """Restore the saved state of the scheduler before the first step of a resumed search.

        `set_state` cannot do this, because the state refers to trials that Ray Tune restores after `set_state`.
        """
        if self._scheduler_state is not None:
            load_scheduler_state(self.scheduler, self._scheduler_state, trials)
            self._scheduler_state = None

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Start or resume the MLflow run of a trial."""
        if trial.trial_id in self.trials:
            record = self.trials[trial.trial_id]
            if record.status in ("killed", "failed"):
                self.progress.say(lambda: f"{record.name} resumes after epoch {_last_epoch(record)}")
            record.status, record.reason = "running", ""
            self.tracker.resume_run(record.run_id)
            if isinstance(self.scheduler, Population):
                self._take_over(record, trial)
            return
        sample = dict(trial.config.get("sample", trial.config))
        name = f"{self.prefix}-{len(self.trials) + 1}"
        try:
            config = self.resolve(sample)
        except ValueError:  # the trial reports the reason when it fails
            config = None
        params = config.to_flat() if config else sample
        tags = {PATH: trial.path or "", NOTE: trial_note(self.folder.name, sample)}
        run_id = self.tracker.start_run(name, params, tags, parent=self.parent)
        if self._inputs is None:
            self._inputs = dataset_inputs(self.base, ("train", "val"))
        self.tracker.log_inputs(run_id, self._inputs)
        if config is not None:
            self.tracker.log_text(run_id, config.to_yaml(), CONFIG_FILE)
            self.tracker.set_tag(run_id, "config_fingerprint", config.fingerprint())
        self.trials[trial.trial_id] = TrialRecord(
            name,
            config,
            run_id,
            time.monotonic(),
            folder=Path(trial.path) if trial.path else None,
            schedule=((1, sample),),
        )
        self.progress.say(lambda: f"{name} starts: {sample_text(_drawn(sample, config))}")

    def _take_over(self, record: TrialRecord, trial: Any) -> None:
        """Record the new settings of a trial that continues from the checkpoint of another trial."""
        checkpoint, sample = start_checkpoint(trial), trial.config["sample"]
        if checkpoint is None:
            return
        folder, metrics = checkpoint
        source, first = self.trials[folder.parent.name.removeprefix(FOLDER)], metrics["epoch"] + 1
        # If the trial was interrupted before its first checkpoint, the new settings are already recorded.
        if source is record or record.schedule[-1] == (first, sample):
            return
        record.schedule = (*(part for part in source.schedule if part[0] < first), (first, dict(sample)))
        record.config = self.resolve(sample)
        self.tracker.set_tag(record.run_id, f"from_epoch_{first}", {"weights": source.name, **sample})

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Log the metrics of a validation."""
        record = self.trials[trial.trial_id]
        new = {
            **{key: value for key, value in result.items() if is_metric(key)},
            "epoch": result["epoch"],
            "checkpoint": os.path.relpath(reported_checkpoint(result, record.folder), self.folder),
            "schedule": record.schedule,
            "expected": record.config.fingerprint() if record.config else "no configuration",
            "fingerprint": result["fingerprint"],
        }
        # A trial that resumed from an earlier checkpoint reports some epochs and checkpoint names a second time.
        record.reports = [
            report
            for report in record.reports
            if report["epoch"] < new["epoch"] and (report["checkpoint"] != new["checkpoint"] or not record.folder)
        ]
        record.reports.append(new)
        record.seconds = time.monotonic() - record.started
        if len(record.reports) == 1:
            self.tracker.set_tag(record.run_id, "model_fingerprint", result["fingerprint"])
        logged = logged_metrics(result, first=len(record.reports) == 1)
        self.tracker.log_metrics(record.run_id, logged, step=result["epoch"])
        if isinstance(self.scheduler, Population):  # Ray itself would remove checkpoints that other trials may load
            best = self._best(record)
            kept = {self.folder / best["checkpoint"]} if best else set()
            remove_checkpoints(record.folder, kept.union(self.scheduler.wanted(trials)), SETTLED_S)
        if time.monotonic() - self._last_table >= TABLE_PAUSE_S:
            self._last_table = time.monotonic()
            self.progress.say(self._table)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """End the MLflow run of a trial that finished, was stopped early, or wrote a failure file."""
        record, failure = self.trials[trial.trial_id], failure_file(self.folder, trial.trial_id)
        if failure.is_file():
            self._fail(record, failure.read_text())
            return
        epochs, every = self.base.train.max_epochs, self.base.train.val_every
        early = not record.reports or record.reports[-1]["epoch"] < epochs // every * every
        record.status = "stopped early" if early else "finished"
        self.tracker.set_tag(record.run_id, "early_stopped", early)
        best, title = self._best(record), f"{self.folder.name}, {record.name}"
        if best:
            shown = best, record.reports, self.folder / best["checkpoint"], record.folder
            describe_trial(self.tracker, record.run_id, title, self.base.tune.metric, *shown)
        self.tracker.end_run(record.run_id, "FINISHED")
        if record.config is not None:
            row = self._row(record, record.config)
            self.progress.say(lambda: f"{result_text(row)}; {self.summary()}")
        self._prune(trials)

    def avoid_node(self, trial: Any) -> None:
        """Request that the next attempt of a failed trial does not use the node that has caused the failure.

        Nothing changes if this node is unknown, or if no other node has the resources for the trial.
        """
        node_id = failed_node(trial)
        if node_id is not None:
            nodes = self._avoided.setdefault(trial.trial_id, list(self.left_out))
            nodes.append(node_id)
            trial.update_resources(avoid(trial.placement_group_factory, nodes))

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Print that a trial is retried."""
        name, reason = self.trials[trial.trial_id].name, last_line(error_text(trial)).partition(". ")[0]
        print(f"{name} is retried: {reason.rpartition('NodeError: ')[2]}", flush=True)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """End the MLflow run of a trial that failed more often than `train.max_failures` allows."""
        self._fail(self.trials[trial.trial_id], error_text(trial))

    def _fail(self, record: TrialRecord, traceback: str) -> None:
        record.status, record.reason = "failed", last_line(traceback)
        record.seconds = time.monotonic() - record.started
        self.tracker.set_tag(record.run_id, "failure", record.reason)
        self.tracker.log_text(record.run_id, traceback, "error.txt")
        self.tracker.end_run(record.run_id, "FAILED")
        print(f"{record.name} failed: {record.reason}", flush=True)

    def _prune(self, trials: list) -> None:
        """Remove the checkpoints of ended trials that are not among the best trials.

        A checkpoint needs up to 270 MB. Checkpoints that other trials of a population may load are kept.
        """
        ended, is_max = self.candidates(), self.base.tune.mode == "max"
        ranked = sorted(ended, key=lambda one: one.value, reverse=is_max)
        winners = {one.name for one in (*ranked[: max(1, self.base.tune.final_top_k)], *self.front())}
        folders, wanted = {record.name: record.folder for record in self.trials.values()}, set[Path]()
        if isinstance(self.scheduler, Population):
            over = {key for key, record in self.trials.items() if record.status in ENDED}
            wanted = set(self.scheduler.wanted([trial for trial in trials if trial.trial_id not in over]))
        for one in ended:
            if one.name not in winners:
                if one.checkpoint.is_dir() and one.checkpoint not in wanted:
                    self.tracker.set_tag(one.run_id, CHECKPOINT, "removed, because other trials are better")
                remove_checkpoints(folders[one.name], wanted)
            elif isinstance(self.scheduler, Population):
                remove_checkpoints(folders[one.name], {*wanted, one.checkpoint})

    def _best(self, record: TrialRecord) -> dict[str, Any] | None:
        """Return the report with the best metric, the last one if several are equal; None without a finite metric."""
        metric, choose = self.base.tune.metric, max if self.base.tune.mode == "max" else min
        finite = [report for report in reversed(record.reports) if math.isfinite(report.get(metric, math.nan))]
        return choose(finite, key=lambda report: report[metric], default=None)

    def candidates(self) -> list[Candidate]:
        """Return all ended trials with a finite metric, each with the values of its best validation."""
        settings, found = self.base.tune, []
        for record in self.trials.values():
            best = self._best(record)
            if best is not None and record.status in ENDED:
                values = best[settings.metric], best.get(settings.against, 0.0), best["epoch"]
                checkpoint, schedule = self.folder / best["checkpoint"], best["schedule"]
                found.append(Candidate(record.name, *values, record.run_id, checkpoint, schedule[-1][1], schedule))
        return found

    def front(self) -> list[Candidate]:
        """Return the ended trials on the Pareto front of metric and cost; empty if the search minimises no cost."""
        return front(self.candidates(), self.base.tune.mode) if self.base.tune.against != "none" else []

    def end_open(self) -> None:
        """End the MLflow runs of trials that were running when the study was interrupted."""
        for record in self.trials.values():
            if record.status == "running":
                record.status = "killed"
                self.tracker.end_run(record.run_id, "KILLED")

    def print_table(self) -> None:
        """Print the table of all trials so far."""
        self.progress.live = False
        self.progress.say(self._table)

    def _table(self) -> str:
        return f"\n{self.summary()}\n{trial_table(self.rows())}\n"

    def render(self, console: "Console") -> "RenderableType":
        """Return the table of the trials for a terminal."""
        return trial_screen(self.rows(), self.summary(), console.width, console.height)

    def summary(self) -> str:
        """Return the elapsed time, the number of trials in each state, and the time left."""
        return self.progress.summary(list(self.trials.values()))

    def expect(self, count: int, further: int) -> None:
        """Start the clock of the search. `count` trials are planned in this step and `further` trials in the next."""
        self.progress = SearchProgress(self.base.train.max_epochs, count, further)
        self.progress.before = self.progress.trained(list(self.trials.values()))

    def rows(self) -> list[TrialRow]:
        """Return one table row per trial. Trials without a valid configuration are left out."""
        return [self._row(one, one.config) for one in list(self.trials.values()) if one.config is not None]

    def check_samples_reached_models(self) -> None:
        """Check by fingerprints that each trial has trained a model with the settings of the trial's sample.

        Raises:
            EvForgeError: a trial has trained a model with other settings, or two trials with different samples have
                trained models with the same settings.
        """
        seen: dict[str, tuple[str, dict[str, Any]]] = {}
        for record in self.trials.values():
            for report in record.reports:
                sample = report["schedule"][-1][1]
                if report["fingerprint"] != report["expected"]:
                    raise EvForgeError(
                        f"{record.name}: its model was made with other values than were drawn: "
                        f"fingerprint {report['fingerprint']}, expected {report['expected']}"
                    )
                name, other = seen.setdefault(report["fingerprint"], (record.name, sample))
                if other != sample:
                    raise EvForgeError(f"{record.name} and {name} drew different values but trained the same model")

    def _row(self, record: TrialRecord, config: Config) -> TrialRow:
        settings, best = self.base.tune, self._best(record) or {}
        names = [settings.metric, *([settings.against] if settings.against != "none" else [])]
        score = None if record.status == "failed" else best.get(settings.metric)
        return TrialRow(
            record.name,
            _drawn(record.schedule[-1][1], config),
            {name: best.get(name) for name in names},
            -score if score is not None and settings.mode == "min" else score,
            f"{_last_epoch(record)}/{self.base.train.max_epochs}",
            time.monotonic() - record.started if record.status == "running" else record.seconds,
            record.status,
        )


def _drawn(sample: dict[str, Any], config: Config | None) -> dict[str, Any]:
    """Return a sample with the values of the configuration, in which texts such as anchor lists are resolved."""
    values = config.to_flat() if config else {}
    return {key: values.get(key, value) for key, value in sample.items()}


def _last_epoch(record: TrialRecord) -> int:
    return record.reports[-1]["epoch"] if record.reports else 0
