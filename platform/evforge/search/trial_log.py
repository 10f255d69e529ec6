"""The driver's view of a search: what each trial reported, in MLflow and as a live table."""

import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ray.tune import Callback

from detector.config import Config
from evforge import EvForgeError, last_line
from evforge.cluster.ray_compat import CHECKPOINT_FOLDERS, error_text, reported_checkpoint, start_checkpoint
from evforge.search.pareto import Candidate, front
from evforge.search.policies.population import Population
from evforge.search.policies.schedulers import load_scheduler_state, save_scheduler_state
from evforge.search.trial_table import TrialRow, trial_table
from evforge.tracking.tracker import Tracker
from evforge.training.run_folder import failure_file, is_metric

__all__ = ["FOLDER", "StudyLog", "TrialRecord"]

FOLDER = "trial_"
"""Start of the name of a trial's folder; its id follows."""

ENDED = ("finished", "stopped early")

SETTLED_S = 30.0
"""Ray writes down every second which checkpoints a search would be resumed from: those of before are wanted no more."""


@dataclass
class TrialRecord:
    """One trial.

    Args:
        name: `trial-1`, ... in the order of starting
        sample: what was drawn, or what the trial took over
        config: the configuration that the sample makes; None if it makes none
        run_id: the MLflow run
        started: when, by the monotonic clock
        status: running, finished, stopped early, failed or killed
        reason: why it failed
        seconds: how long it ran
        reports: metrics of every validation, `epoch`, `checkpoint` (its folder, as seen from the study's), and
            `schedule` and the fingerprints of what was drawn and of what the model was made of
        folder: where its checkpoints lie
        schedule: (first epoch, sample) of all that made its weights; more than one where it took others' over
    """

    name: str
    sample: dict[str, Any]
    config: Config | None
    run_id: str
    started: float
    status: str = "running"
    reason: str = ""
    seconds: float = 0.0
    reports: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None
    schedule: tuple[tuple[int, dict[str, Any]], ...] = ()

    def best(self, metric: str, mode: str) -> dict[str, Any] | None:
        """The report of the best validation, of equals the last; None if there is none with a finite value."""
        finite = [report for report in reversed(self.reports) if math.isfinite(report.get(metric, math.nan))]
        choose = max if mode == "max" else min
        return choose(finite, key=lambda report: report[metric], default=None)


class StudyLog(Callback):
    """Follows the trials of a study, logs each as a child run and prints a table now and then.

    Ray keeps its state with that of the search, so that a study whose process was killed goes on with it. With it
    goes the state of the scheduler.

    Args:
        tracker: the MLflow store.
        parent: run of the study.
        folder: the study's.
        base: configuration of the study, for its metric and epochs.
        resolve: makes a trial's configuration of its sample.
        scheduler: one of `evforge.search.policies.schedulers`, if there is one.
        prefix: start of the trials' names.
        every_s: seconds between tables.
        write: takes the table's text.
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
        every_s: float = 15.0,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self.tracker, self.parent, self.folder, self.base = tracker, parent, folder, base
        self.resolve, self.scheduler = resolve, scheduler
        self.prefix, self.every_s, self.write = prefix, every_s, write or _print
        self.trials: dict[str, TrialRecord] = {}
        self._start = self._last_table = time.monotonic()
        self._scheduler_state: bytes | None = None

    def get_state(self) -> dict[str, Any]:
        """What Ray keeps of it."""
        scheduler = save_scheduler_state(self.scheduler) if self.scheduler else None
        return {"trials": self.trials, "scheduler": scheduler}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with a search that was cut off; runs of trials that it does not know of are ended."""
        now = time.monotonic()
        self._start = self._last_table = now
        self.trials = {key: replace(record, started=now - record.seconds) for key, record in state["trials"].items()}
        self._scheduler_state = state["scheduler"]
        known = {record.run_id for record in self.trials.values()}
        for run in self.tracker.runs(self.parent):
            if run.status == "RUNNING" and run.name.startswith(self.prefix) and run.run_id not in known:
                self.tracker.end_run(run.run_id, "KILLED")

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """Restore the scheduler once Ray Tune has restored the trials that it refers to."""
        if self._scheduler_state is not None:
            load_scheduler_state(self.scheduler, self._scheduler_state, trials)
            self._scheduler_state = None

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Open the trial's run, or open it again."""
        if trial.trial_id in self.trials:
            record = self.trials[trial.trial_id]
            record.status, record.reason = "running", ""
            self.tracker.resume_run(record.run_id)
            if isinstance(self.scheduler, Population):
                self._take_over(record, trial)
            return
        sample = trial.config.get("sample", trial.config)
        name = f"{self.prefix}-{len(self.trials) + 1}"
        try:
            config = self.resolve(sample)
        except ValueError:  # the trial itself says why, when it fails
            config = None
        params = config.to_flat() if config else sample
        run_id = self.tracker.start_run(name, params, {"path": trial.path or ""}, parent=self.parent)
        if config is not None:
            self.tracker.log_text(run_id, config.to_yaml(), "config.yaml")
            self.tracker.set_tag(run_id, "config_fingerprint", config.fingerprint())
        record = TrialRecord(name, dict(sample), config, run_id, time.monotonic(), schedule=((1, dict(sample)),))
        record.folder = Path(trial.path) if trial.path else None
        self.trials[trial.trial_id] = record

    def _take_over(self, record: TrialRecord, trial: Any) -> None:
        """Note what a trial goes on with that was sent to another's checkpoint."""
        checkpoint, sample = start_checkpoint(trial), trial.config["sample"]
        if checkpoint is None:
            return
        folder, metrics = checkpoint
        source = self.trials[folder.parent.name.removeprefix(FOLDER)]
        if source is record:
            return
        first = metrics["epoch"] + 1
        if record.schedule[-1] == (first, sample):  # it was interrupted before its first checkpoint
            return
        record.schedule = (*(part for part in source.schedule if part[0] < first), (first, dict(sample)))
        record.sample, record.config = dict(sample), self.resolve(sample)
        self.tracker.set_tag(record.run_id, f"from_epoch_{first}", {"weights": source.name, **sample})

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Log a validation."""
        record = self.trials[trial.trial_id]
        metrics = {key: value for key, value in result.items() if is_metric(key)}
        checkpoint = reported_checkpoint(result, record.folder)
        new = {
            **metrics,
            "epoch": result["epoch"],
            "checkpoint": os.path.relpath(checkpoint, self.folder),
            "schedule": record.schedule,
            "expected": record.config.fingerprint() if record.config else "no configuration",
            "fingerprint": result["fingerprint"],
        }
        # An epoch, and the name of a checkpoint, come twice where a trial went on from a checkpoint before it.
        record.reports = [
            report
            for report in record.reports
            if report["epoch"] < new["epoch"] and (report["checkpoint"] != new["checkpoint"] or not record.folder)
        ]
        record.reports.append(new)
        record.seconds = time.monotonic() - record.started
        if len(record.reports) == 1:
            self.tracker.set_tag(record.run_id, "model_fingerprint", result["fingerprint"])
        self.tracker.log_metrics(record.run_id, metrics, step=result["epoch"])
        if isinstance(self.scheduler, Population):
            self._remove(record.folder, self._kept(record, trials), SETTLED_S)
        if time.monotonic() - self._last_table >= self.every_s:
            self.print_table()

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Close the run of a trial that ended, was stopped, or left word of a failure."""
        record, failure = self.trials[trial.trial_id], failure_file(self.folder, trial.trial_id)
        if failure.is_file():
            self._fail(record, failure.read_text())
            return
        epochs, every = self.base.train.max_epochs, self.base.train.val_every
        early = not record.reports or record.reports[-1]["epoch"] < epochs // every * every
        record.status = "stopped early" if early else "finished"
        self.tracker.set_tag(record.run_id, "early_stopped", early)
        self.tracker.end_run(record.run_id, "FINISHED")
        self._prune(trials)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Close the run of a trial whose process died too often."""
        self._fail(self.trials[trial.trial_id], error_text(trial))

    def _fail(self, record: TrialRecord, traceback: str) -> None:
        record.status, record.reason = "failed", last_line(traceback)
        record.seconds = time.monotonic() - record.started
        self.tracker.set_tag(record.run_id, "failure", record.reason)
        self.tracker.log_text(record.run_id, traceback, "error.txt")
        self.tracker.end_run(record.run_id, "FAILED")
        self.write(f"{record.name} failed: {record.reason}")

    def _prune(self, trials: list) -> None:
        """Remove the checkpoints of ended trials that can no longer win: a checkpoint takes up to 270 MB."""
        metric, mode = self.base.tune.metric, self.base.tune.mode
        ended = [record for record in self.trials.values() if record.status in ENDED]
        measured = [(best, record) for record in ended if (best := record.best(metric, mode))]
        measured.sort(key=lambda pair: pair[0][metric], reverse=mode == "max")
        winners = {record.name for _, record in measured[: max(1, self.base.tune.final_top_k)]}
        winners |= {one.name for one in self.front()}
        wanted: set[Path] = set()
        if isinstance(self.scheduler, Population):
            ended_ids = {key for key, record in self.trials.items() if record.status in ENDED}
            wanted = set(self.scheduler.wanted([trial for trial in trials if trial.trial_id not in ended_ids]))
        for best, record in measured:
            if record.name not in winners:
                self._remove(record.folder, wanted)
            elif isinstance(self.scheduler, Population):
                self._remove(record.folder, {*wanted, self.folder / best["checkpoint"]})

    def _kept(self, record: TrialRecord, trials: list) -> set[Path]:
        """Checkpoints of a population that are still wanted: Ray itself would remove what others may take over."""
        best = record.best(self.base.tune.metric, self.base.tune.mode)
        return {*self.scheduler.wanted(trials), *([self.folder / best["checkpoint"]] if best else [])}

    @staticmethod
    def _remove(folder: Path | None, kept: set[Path], age_s: float = 0.0) -> None:
        """Remove the checkpoints of a trial that are of some age, but those to be kept."""
        for checkpoint in folder.rglob(CHECKPOINT_FOLDERS) if folder else ():
            if checkpoint.is_dir() and checkpoint not in kept and time.time() - checkpoint.stat().st_mtime >= age_s:
                shutil.rmtree(checkpoint, ignore_errors=True)

    def front(self) -> list[Candidate]:
        """The ended trials between which metric and cost do not decide; none where no cost counts."""
        settings, found = self.base.tune, []
        for record in self.trials.values() if settings.against != "none" else ():
            best = record.best(settings.metric, settings.mode)
            if best and record.status in ENDED:
                checkpoint = self.folder / best["checkpoint"]
                cost = best[settings.against]
                found.append(
                    Candidate(
                        record.name,
                        best[settings.metric],
                        cost,
                        best["epoch"],
                        record.run_id,
                        checkpoint,
                        record.sample,
                    )
                )
        return front(found, settings.mode)

    def end_open(self, status: str) -> None:
        """End the runs of trials that were running when the study was cut off."""
        for record in self.trials.values():
            if record.status == "running":
                record.status = status.lower()
                self.tracker.end_run(record.run_id, status)

    def print_table(self) -> None:
        """Print the table of all trials so far."""
        self._last_table = time.monotonic()
        states = [record.status for record in self.trials.values()]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        self.write(f"\nafter {self._last_table - self._start:.0f} s: {counts}\n{trial_table(self.rows())}\n")

    def rows(self) -> list[TrialRow]:
        """The trials that make a configuration, as rows of a table."""
        return [self._row(record, record.config) for record in self.trials.values() if record.config is not None]

    def check_samples_reached_models(self) -> None:
        """Compare what the trials' models were made of with what was drawn.

        Raises:
            EvForgeError: a model was made with other values than its sample's.
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
        anchors, best = config.anchors, record.best(self.base.tune.metric, self.base.tune.mode) or {}
        epoch = f"epoch {record.reports[-1]['epoch'] if record.reports else 0}/{self.base.train.max_epochs}"
        return TrialRow(
            record.name,
            anchors.anchor_list if isinstance(anchors.anchor_list, str) else _pairs(anchors.anchor_list),
            round(anchors.fg_iou_threshold, 3),
            round(anchors.bg_iou_threshold, 3),
            config.model.feature_base,
            best.get("val_mean_ap"),
            best.get("val_mean_ap50"),
            record.seconds if record.reports or record.status != "running" else None,
            record.status if record.status == "failed" else f"{record.status}, {epoch}",
        )


def _pairs(anchors: list[tuple[float, float]]) -> str:
    return " ".join(f"{ratio:g}:{scale:g}" for ratio, scale in anchors)


def _print(text: str) -> None:
    print(text, flush=True)
