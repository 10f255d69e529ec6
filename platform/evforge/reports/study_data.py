"""What a study's folder and its runs in MLflow tell of it: its trials, what they reached and what they cost."""

import json
import math
import time
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
from evforge.training.run_folder import CONFIG_FILE, COSTS, RESOURCES_TAG, SPACE_FILE, read_record

__all__ = ["Study", "StudyTrial", "measure_coverages", "read_study", "value_text"]

LEAST_TRIALS = 4
"""With fewer, an importance means nothing."""


@dataclass(frozen=True)
class StudyTrial:
    """A trial as MLflow remembers it.

    Args:
        name: of its run.
        config: what it trained with; None if its sample made no configuration.
        values: what was drawn, by key.
        status: of its run.
        early: whether the scheduler stopped it.
        failure: why it failed, empty if it did not.
        history: (epoch, value) of the study's metric.
        seconds: from the start of its run to its end, breaks of a search that was cut off included.
        costs: parameters and milliseconds of a frame, as far as they were logged.
        run_id: the MLflow run.
    """

    name: str
    config: Config | None
    values: dict[str, Any]
    status: str
    early: bool
    failure: str
    history: list[tuple[int, float]]
    seconds: float
    costs: dict[str, float]
    run_id: str

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max((epoch for epoch, _ in self.history), default=0)

    def best(self, mode: str) -> float | None:
        """The best value of the metric, None before the first validation."""
        choose = max if mode == "max" else min
        return choose((value for _, value in self.history), default=None)


@dataclass(frozen=True)
class Study:
    """A search.

    Args:
        folder: the study's.
        config: its base configuration.
        space: what was searched.
        tracker: the store of its runs.
        run_id: the study's own run.
        trials: in the order of starting, those with further seeds last.
        resources: CPUs and GPUs that a trial reserved, by name; empty if they were not recorded.
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
        """The trials that have a value, with the best one of each."""
        found = [(trial, trial.best(self.config.tune.mode)) for trial in self.trials]
        return [(trial, value) for trial, value in found if value is not None]

    @property
    def ranked(self) -> list[tuple[StudyTrial, float]]:
        """The same, best first."""
        return sorted(self.measured, key=lambda pair: pair[1], reverse=self.config.tune.mode == "max")

    def front(self, cost: str) -> list[str]:
        """Names of the trials that no other beats in metric and cost, cheapest first."""
        candidates = [
            Candidate(trial.name, value, trial.costs[cost], trial.epochs, trial.run_id, self.folder, trial.values)
            for trial, value in self.measured
            if cost in trial.costs
        ]
        return [one.name for one in front(candidates, self.config.tune.mode)]

    def importances(self) -> dict[str, float]:
        """Key -> share of the metric's variation that it explains, by Optuna's fANOVA; empty with too few trials.

        Optuna's own choice, PED-ANOVA, looks at the best tenth of the trials: of two dozen that is two or three.
        """
        import optuna

        keys = [key for key, domain in self.space.domains.items() if len(set(map(repr, domain.extremes))) > 1]
        complete = [pair for pair in self.measured if all(key in pair[0].values for key in keys)]
        if len(complete) < LEAST_TRIALS or not keys:
            return {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        found = optuna.create_study(direction="maximize" if self.config.tune.mode == "max" else "minimize")
        for trial, value in complete:
            drawn = {key: _primitive(self.space.domains[key], trial.values[key]) for key in keys}
            kinds = {key: _distribution(self.space.domains[key], self, key) for key in keys}
            found.add_trial(optuna.trial.create_trial(params=drawn, distributions=kinds, value=value))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(found, evaluator=evaluator)
        return {key: float(share) for key, share in shares.items()}


def read_study(folder: str | Path) -> Study:
    """Read a study, ended or not.

    Args:
        folder: the study's folder.

    Raises:
        FileNotFoundError: it is none of a study.
        ValueError: the store of its runs cannot be read.
    """
    folder = Path(folder).absolute()
    record = read_record(folder)
    if not (folder / SPACE_FILE).is_file():
        raise FileNotFoundError(f"{folder}: no study, which has a {SPACE_FILE}")
    config, space = Config.load(folder / CONFIG_FILE), load_space(folder / SPACE_FILE)
    tracker = Tracker(record.tracking_uri, record.experiment)
    trials = [_read_trial(tracker, run, config, space) for run in tracker.runs(record.run_id)]
    return Study(folder, config, space, tracker, record.run_id, trials, _resources(tracker.run_info(record.run_id)))


def _read_trial(tracker: Tracker, run: RunInfo, base: Config, space: Space) -> StudyTrial:
    drawn = {key: run.params[key] for key in (*space.domains, SEED) if key in run.params}
    try:
        config = base.with_overrides(drawn)
    except ValueError:
        config = None
    known = config.to_flat() if config is not None else drawn
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


def _resources(run: RunInfo) -> dict[str, float]:
    return json.loads(run.tags.get(RESOURCES_TAG, "{}"))


def measure_coverages(study: Study) -> dict[str, float]:
    """Trial -> share of training boxes with an anchor at or above its foreground threshold; low-quality matches aside.

    Raises:
        FileNotFoundError: the dataset is not there.
        ValueError: it does not fit the study.
    """
    labels = training_boxes(study.config)
    return {
        trial.name: coverage_of(labels, trial.config, trial.config.anchors.anchor_list).covered
        for trial, _ in study.measured
        if trial.config is not None
    }


def _primitive(domain: Domain, value: Any) -> Any:
    return value if not domain.is_choice else value_text(value)


def _distribution(domain: Domain, study: Study, key: str) -> Any:
    """Optuna's form of a domain; its choices are those that were drawn."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if domain.is_choice:
        drawn = (value_text(trial.values[key]) for trial, _ in study.measured if key in trial.values)
        return CategoricalDistribution(sorted(set(drawn)))
    if domain.kind == "randint":
        return IntDistribution(int(domain.low), int(domain.high))
    return FloatDistribution(domain.low, domain.high, log=domain.kind == "loguniform")


def value_text(value: Any) -> str:
    """A value of a setting in a few letters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and value.startswith("[["):
        return list_name(anchors_of(value))
    return list_name(value) if isinstance(value, list) else str(value)
