"""A study read from its folder and its runs in MLflow: its trials, their results and their costs."""

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.config import Config
from evforge.anchors.candidates import anchors_of, coverage_of, list_name, training_boxes
from evforge.search.pareto import Candidate, front
from evforge.search.trial import SEED
from evforge.space.domains import Domain
from evforge.space.space import Space, load_space
from evforge.tracking.tracker import RunInfo, Tracker
from evforge.training.run_folder import COSTS, RESOURCES_TAG, SPACE_FILE, load_config, read_record

__all__ = ["Study", "StudyTrial", "measure_coverages", "read_study", "value_text"]

LEAST_TRIALS = 4
"""Least number of trials for which importances are computed."""


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
    """

    folder: Path
    config: Config
    space: Space
    tracker: Tracker
    run_id: str
    trials: list[StudyTrial]
    resources: dict[str, float] = field(default_factory=dict)

    @property
    def measured(self) -> list[tuple[StudyTrial, float]]:
        """Trials with at least one value of the metric, each with its best value."""
        found = [(trial, trial.best(self.config.tune.mode)) for trial in self.trials]
        return [(trial, value) for trial, value in found if value is not None]

    @property
    def ranked(self) -> list[tuple[StudyTrial, float]]:
        """The same pairs as `measured`, the best trial first."""
        return sorted(self.measured, key=lambda pair: pair[1], reverse=self.config.tune.mode == "max")

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

    def importances(self) -> dict[str, float]:
        """Compute with Optuna's fANOVA which share of the metric's variation each setting explains.

        Optuna's default method, PED-ANOVA, uses only the best tenth of the trials. Of 24 trials, it would use two or
        three.

        Returns:
            Shares by key of the setting; empty if there are too few trials.
        """
        import optuna

        domains = {
            key: domain for key, domain in self.space.domains.items() if len(set(map(repr, domain.extremes))) > 1
        }
        complete = self.complete(domains)
        if len(complete) < LEAST_TRIALS or not domains:
            return {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        found = optuna.create_study(direction="maximize" if self.config.tune.mode == "max" else "minimize")
        columns = {
            key: [value_text(trial.values[key]) if domain.is_choice else trial.values[key] for trial, _ in complete]
            for key, domain in domains.items()
        }
        kinds = {key: _distribution(domain, columns[key]) for key, domain in domains.items()}
        for index, (_, value) in enumerate(complete):
            sampled = {key: column[index] for key, column in columns.items()}
            found.add_trial(optuna.trial.create_trial(params=sampled, distributions=kinds, value=value))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(found, evaluator=evaluator)
        return {key: float(share) for key, share in shares.items()}


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
    resources = json.loads(tracker.run_info(record.run_id).tags.get(RESOURCES_TAG, "{}"))
    return Study(folder, config, space, tracker, record.run_id, trials, resources)


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


def _distribution(domain: Domain, sampled: Sequence[Any]) -> Any:
    """Convert a domain to a distribution of Optuna.

    Args:
        domain: the domain of a setting.
        sampled: values of the trials. If the domain is a choice, these are the options of the distribution.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if domain.is_choice:
        return CategoricalDistribution(sorted(set(sampled)))
    if domain.kind == "randint":
        return IntDistribution(int(domain.low), int(domain.high))
    return FloatDistribution(domain.low, domain.high, log=domain.kind == "loguniform")


def value_text(value: Any) -> str:
    """Format a value of a setting as short text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and value.startswith("[["):
        return list_name(anchors_of(value))
    return list_name(value) if isinstance(value, list) else str(value)
