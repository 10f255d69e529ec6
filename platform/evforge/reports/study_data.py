"""A study read from its folder and its runs in MLflow: its trials, their results and their costs."""

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.config import Config
from evforge.anchors.candidates import anchors_of, coverage_of, list_name, training_boxes
from evforge.search.pareto import Candidate, front
from evforge.search.trial import SEED
from evforge.space.space import Space, load_space
from evforge.tracking.tracker import RunInfo, Tracker
from evforge.training.run_folder import COSTS, RECORD_FILE, RESOURCES_TAG, SPACE_FILE, load_config, read_record

__all__ = ["Study", "StudyTrial", "measure_coverages", "read_study", "value_text"]


@dataclass(frozen=True)
class StudyTrial:
    """A trial as recorded in MLflow.

    Args:
        name: name of the MLflow run.
        config: configuration of the training; None if the sampled values are not a valid configuration.
        values: sampled values by key of the setting.
        status: status of the MLflow run.
        stopped_early: whether the scheduler stopped the trial.
        failure: why the trial failed; empty if it did not fail.
        history: (epoch, value) pairs of the metric of the study.
        seconds: time from the start to the end of the run, including pauses of an interrupted search.
        costs: `parameters` (number) and `latency_ms` (milliseconds per frame), if they were logged.
        run_id: id of the MLflow run.
    """

    name: str
    config: Config | None
    values: dict[str, Any]
    status: str
    stopped_early: bool
    failure: str
    history: list[tuple[int, float]]
    seconds: float
    costs: dict[str, float]
    run_id: str

    @property
    def state(self) -> str:
        """Status of the run in lower case, or "stopped early"."""
        return "stopped early" if self.stopped_early else self.status.lower()

    @property
    def is_failed(self) -> bool:
        """Whether the trial failed."""
        return self.status == "FAILED"

    @property
    def epochs(self) -> int:
        """Epoch of the last recorded value of the metric; 0 before the first value."""
        return max((epoch for epoch, _ in self.history), default=0)

    def best(self, mode: str) -> float | None:
        """Return the best value of the metric; None if there is no value.

        Args:
            mode: "max" if a larger value is better, "min" if a smaller value is better.
        """
        best = max if mode == "max" else min
        return best((value for _, value in self.history), default=None)


@dataclass(frozen=True)
class Study:
    """A search and its trials, as recorded in its folder and in MLflow.

    Args:
        folder: folder of the study.
        config: base configuration of the trials.
        space: the search space.
        tracker: the MLflow store of the runs.
        run_id: id of the MLflow run of the study.
        trials: all trials in the order of their start. The last ones may be additional trainings of the best settings
            with further seeds.
        resources: number of CPUs (`cpu`) and GPUs (`gpu`) that each trial reserved; empty if not recorded.
        tags: tags of the MLflow run of the study.
        started: time at which the study started, in seconds since 1970.
        best_run: id of the MLflow run whose checkpoint is in the folder `best`; None before the end of the study.
    """

    folder: Path
    config: Config
    space: Space
    tracker: Tracker
    run_id: str
    trials: list[StudyTrial]
    resources: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    started: float = 0.0
    best_run: str | None = None

    @property
    def measured(self) -> list[tuple[StudyTrial, float]]:
        """Trials with at least one value of the metric, each with its best value."""
        found = [(trial, trial.best(self.config.tune.mode)) for trial in self.trials]
        return [(trial, value) for trial, value in found if value is not None]

    @property
    def ranked(self) -> list[tuple[StudyTrial, float]]:
        """The same pairs as `measured`, the best trial first."""
        return sorted(self.measured, key=lambda pair: pair[1], reverse=self.config.tune.mode == "max")

    @property
    def winner(self) -> StudyTrial | None:
        """The trial whose checkpoint is in the folder `best`; before the end of the study the best trial so far.

        None if no trial has a value of the metric.
        """
        if not self.measured:
            return None
        return next((trial for trial, _ in self.measured if trial.run_id == self.best_run), self.ranked[0][0])

    def seeds(self, trial: StudyTrial) -> list[tuple[StudyTrial, float]]:
        """Return those pairs of `measured` whose trial has the sampled values of `trial`, with any seed."""
        if trial.values.keys() < set(self.space.domains):
            return [pair for pair in self.measured if pair[0] is trial]
        return [pair for pair in self.measured if pair[0].values == trial.values]

    def shown(self, text: str) -> str:
        """Return a text without the folders of this machine: a page may be sent to others."""
        places = {str(self.folder): self.folder.name, self.config.data.dataset_path: "DATASET"}
        for place, name in {**places, str(self.folder.parent): "RUNS", str(Path.home()): "~"}.items():
            text = text.replace(place, name) if len(place) > 1 else text
        return text

    def complete(self, keys: Iterable[str]) -> list[tuple[StudyTrial, float]]:
        """Return those pairs of `measured` whose trial has a recorded value for each of `keys`."""
        return [(trial, value) for trial, value in self.measured if trial.values.keys() >= set(keys)]

    def front(self, cost: str) -> list[str]:
        """Return the names of the trials on the Pareto front of metric and cost, cheapest first.

        Args:
            cost: "parameters" or "latency_ms".
        """
        candidates = [
            Candidate(trial.name, value, trial.costs[cost], trial.epochs, trial.run_id, self.folder, trial.values)
            for trial, value in self.measured
            if cost in trial.costs
        ]
        return [one.name for one in front(candidates, self.config.tune.mode)]


def read_study(folder: str | Path) -> Study:
    """Read a finished or running study.

    Args:
        folder: folder of the study.

    Raises:
        FileNotFoundError: `folder` is not the folder of a study.
        ValueError: the MLflow store of the study cannot be read.
    """
    folder = Path(folder).absolute()
    record = read_record(folder)
    if not (folder / SPACE_FILE).is_file():
        raise FileNotFoundError(f"{folder}: not a study, allowed: a folder with a {SPACE_FILE}")
    config, space = load_config(folder), load_space(folder / SPACE_FILE)
    tracker = Tracker(record.tracking_uri, record.experiment, folder.parent, create=False)
    trials = [_read_trial(tracker, run, config, space) for run in tracker.runs(record.run_id)]
    tags, started = tracker.run_info(record.run_id).tags, tracker.client.get_run(record.run_id).info.start_time / 1000
    resources, best = json.loads(tags.get(RESOURCES_TAG, "{}")), folder / "best"
    best_run = read_record(best).run_id if (best / RECORD_FILE).is_file() else None
    return Study(folder, config, space, tracker, record.run_id, trials, resources, tags, started, best_run)


def _read_trial(tracker: Tracker, run: RunInfo, base: Config, space: Space) -> StudyTrial:
    sampled = {key: run.params[key] for key in (*space.domains, SEED) if key in run.params}
    try:
        config = base.with_overrides(sampled)
    except ValueError:
        config = None
    known = config.to_flat() if config is not None else sampled
    info = tracker.client.get_run(run.run_id).info
    end = info.end_time if info.end_time is not None else time.time() * 1000
    history = [point for point in tracker.metric_history(run.run_id, base.tune.metric) if math.isfinite(point[1])]
    return StudyTrial(
        run.name,
        config,
        {key: known[key] for key in space.domains if key in known},
        run.status,
        run.tags.get("early_stopped") in ("True", "true"),
        run.tags.get("failure", ""),
        history,
        max(0.0, (end - info.start_time) / 1000),
        {key: run.metrics[key] for key in COSTS if key in run.metrics},
        run.run_id,
    )


def measure_coverages(study: Study) -> dict[str, float]:
    """Compute the share of training boxes that the anchors of each trial cover.

    A box is covered if it has an anchor with an IoU of at least the foreground threshold of the trial.

    Returns:
        Shares by name of the trial, for trials with a value of the metric and a valid configuration.

    Raises:
        FileNotFoundError: the dataset does not exist.
        ValueError: the dataset does not fit the study.
    """
    labels = training_boxes(study.config)
    return {
        trial.name: coverage_of(labels, trial.config, trial.config.anchors.anchor_list).covered
        for trial, _ in study.measured
        if trial.config is not None
    }


def value_text(value: Any) -> str:
    """Format a value of a setting as short text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and value.startswith("[["):
        return list_name(anchors_of(value))
    if not isinstance(value, list | tuple):
        return str(value)
    pairs = all(isinstance(item, list | tuple) and len(item) == 2 for item in value)
    return list_name(value) if pairs else ", ".join(map(str, value))
