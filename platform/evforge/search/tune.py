"""Searches: trials of a search space under Ray Tune, each with one process or several workers, and `best.yaml`."""

import functools
import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from ray import tune as ray_tune

from detector.config import Config
from detector.config.extensions import TABLES
from detector.single_stage_detector import check_backbone
from evforge import EvForgeError
from evforge.anchors.candidates import resolve_lists
from evforge.cluster.ray_compat import restored_callbacks, search_was_saved
from evforge.cluster.session import Resources, ray_session
from evforge.search.pareto import Candidate, front_table, front_yaml
from evforge.search.policies.population import Population
from evforge.search.policies.samplers import UnseenSearch
from evforge.search.policies.schedulers import save_scheduler_state
from evforge.search.policies.tables import make_sampler, make_scheduler
from evforge.search.trial import SEED, run_trial, run_trial_of_workers, trial_config
from evforge.search.trial_log import FOLDER, StudyLog
from evforge.search.trial_resources import concurrent_trials, trial_limits, trial_reserves
from evforge.search.trial_table import TrialRow
from evforge.space.space import Space, load_space, write_space
from evforge.tracking.tracker import Tracker
from evforge.training.run_folder import (
    BEST_CHECKPOINT,
    CONFIG_FILE,
    RESOURCES_TAG,
    SPACE_FILE,
    copy_checkpoint,
    read_record,
    unique_folder,
    write_record,
    write_text,
)
from evforge.training.train import check_config

__all__ = ["StudyResult", "prepare", "resolve", "resume", "tune"]

BEST_CONFIG, BEST_FOLDER, FRONT_FILE = "best.yaml", "best", "pareto.yaml"


@dataclass(frozen=True)
class StudyResult:
    """Result of a search.

    Args:
        best_config: YAML file with the winner's complete configuration, for `evforge train --config`
        best_checkpoint: checkpoint of the best epoch of the winner's best run
        best_run_id: id of the MLflow run of that checkpoint
        score: mean of the winner's metric over its seeds
        spread: standard deviation over its seeds; None for one seed
        rows: one row per trial, including the trials with further seeds
        run_id: id of the MLflow run of the study
        path: folder of the study
        front: YAML file with the Pareto front of `tune.metric` and `tune.against`; None without a cost
    """

    best_config: Path
    best_checkpoint: Path
    best_run_id: str
    score: float
    spread: float | None
    rows: list[TrialRow]
    run_id: str
    path: Path
    front: Path | None = None


def resolve(config: Config, space: Space, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration of a study: the base, then the settings of the space file, then `overrides`."""
    return config.with_overrides({**space.settings, **(overrides or {})})


def prepare(config: Config, space_file: str | Path, overrides: Mapping[str, Any] | None = None) -> tuple[Config, Space]:
    """Check a search before it starts.

    Arguments and errors are those of `tune`.

    Returns:
        The settings of the study, and its search space with all anchor lists resolved.
    """
    space = load_space(space_file)
    config = resolve(config, space, overrides)
    config = check_config(config, config.tune.metric)
    space = resolve_lists(space, config)
    space.check(config, check_backbone)
    make_sampler(config, space)
    scheduler = make_scheduler(config, space)
    if scheduler is not None:
        save_scheduler_state(scheduler)  # raises if the search could not be resumed
    for key, table in TABLES.items():
        for option in space.domains[key].options if key in space.domains else ():
            table[option]  # raises if the option cannot be imported
    return config, space


def tune(config: Config, space_file: str | Path, overrides: Mapping[str, Any] | None = None) -> StudyResult:
    """Search a space.

    Args:
        config: base configuration.
        space_file: search space, see `evforge.space.space`; its settings replace those of the base.
        overrides: `{"group.leaf": value}`; they replace the settings of the space file.

    Raises:
        ValueError: a setting or the space is invalid.
        FileNotFoundError: the dataset or the space file does not exist.
        EvForgeError: every trial failed, a sample did not reach its model, or a trial needs more CPUs or GPUs than
            Ray has.
    """
    config, space = prepare(config, space_file, overrides)
    with ray_session(dashboard=config.train.workers > 1) as resources:
        concurrent_trials(config, resources, 1)  # raises if no trial could ever start
        folder = unique_folder(config.train.storage, "study")
        write_space(space_file, space, folder / SPACE_FILE)
        tracker = Tracker(config.track.tracking_uri, config.track.experiment)
        tags = {"config_fingerprint": config.fingerprint(), "path": str(folder), "space": Path(space_file).name}
        with tracker.run(folder.name, config.to_flat(), tags) as run_id:
            tracker.log_text(run_id, config.to_yaml(), CONFIG_FILE)
            tracker.log_file(run_id, folder / SPACE_FILE)
            write_record(folder, config, tracker, run_id)
            return _Study(config, space, tracker, run_id, folder, resources).run()


def resume(folder: str | Path) -> StudyResult:
    """Resume an interrupted search in the same MLflow runs.

    Finished trials are kept. Trials that are unfinished, whose process died, or that could not write a checkpoint
    resume from their last checkpoint. The sampler and the scheduler resume with their state.

    Args:
        folder: folder of the study.

    Raises:
        FileNotFoundError: the folder is not that of a study, or the dataset no longer exists.
        ValueError: the dataset no longer fits the study.
        EvForgeError: every trial failed.
    """
    folder = Path(folder).absolute()
    record = read_record(folder)
    if not (folder / SPACE_FILE).is_file():
        raise FileNotFoundError(f"{folder}: not the folder of a study, which contains {SPACE_FILE}")
    config, space = check_config(Config.load(folder / CONFIG_FILE)), load_space(folder / SPACE_FILE)
    tracker = Tracker(record.tracking_uri, record.experiment)
    with ray_session(config.train.workers > 1) as resources, tracker.resumed(record.run_id):
        return _Study(config, space, tracker, record.run_id, folder, resources).run()


@dataclass
class _Study:
    """The steps of one search. A step that an earlier process began is resumed."""

    config: Config
    space: Space
    tracker: Tracker
    run_id: str
    folder: Path
    resources: Resources

    def run(self) -> StudyResult:
        log, found = self._search("search", *self._searcher())
        candidates = sorted(found, key=self._rank, reverse=True)
        best = candidates[: self.config.tune.final_top_k]
        rows, finals = log.rows(), list[Candidate]()
        first = self.config.train.seed
        seeds = range(first + 1, first + self.config.tune.final_seeds)
        if seeds:
            samples = [{**one.sample, SEED: seed} for one in best for seed in seeds]
            print(f"\ntraining the best {len(best)} again with {len(seeds)} further seeds each", flush=True)
            final_log, finals = self._search("final", ray_tune.grid_search(samples), {}, len(samples), False)
            rows += final_log.rows()
        result = self._write_best(self._winner(best, finals), rows)
        return replace(result, front=self._write_front(log))

    def _rank(self, one: Candidate) -> float:
        """Larger for a better metric."""
        return one.value if self.config.tune.mode == "max" else -one.value

    def _searcher(self) -> tuple[Any, dict[str, Any], int]:
        """Ray's domain of the sample, further arguments of its TuneConfig, and the number of trials."""
        settings, sampler = self.config.tune, make_sampler(self.config, self.space)
        if isinstance(sampler, list):
            return ray_tune.grid_search(sampler), {}, len(sampler)
        if isinstance(sampler, optuna.samplers.BaseSampler):
            against = settings.against != "none"
            metric = [settings.metric, settings.against] if against else settings.metric
            mode = [settings.mode, "min"] if against else settings.mode
            suggest = functools.partial(self.space.suggest, self.config)
            sampler = UnseenSearch(sampler, suggest, metric, mode, settings.space_seed)
        return None, {"search_alg": sampler, "num_samples": settings.num_samples}, settings.num_samples

    def _search(
        self, name: str, samples: Any, search: dict[str, Any], count: int, stop_early: bool = True
    ) -> tuple[StudyLog, list[Candidate]]:
        """Run trials to their end.

        Args:
            name: name of the folder of the trials, in that of the study.
            samples: Ray's domain of the sample; None if a searcher draws it.
            search: further arguments of Ray's TuneConfig.
            count: number of trials.
            stop_early: use the scheduler.

        Raises:
            EvForgeError: no trial has a checkpoint and a finite metric.
        """
        # Ray prints the whole traceback of a failed trial. The log prints its last line, and its run has the rest.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        threads, limits = trial_limits(self.config, self.resources, count)
        reserves = trial_reserves(self.config, self.resources, count)
        self.tracker.set_tag(self.run_id, RESOURCES_TAG, json.dumps(reserves))
        resolve_trial = functools.partial(trial_config, self.config, self.space)
        work = functools.partial(
            run_trial if self.config.train.workers == 1 else run_trial_of_workers,
            resolve=resolve_trial,
            folder=self.folder,
            threads=threads,
            use_gpu=self.resources.use_gpu(self.config.train.use_gpu),
        )
        trainable = ray_tune.with_resources(work, limits)
        if search_was_saved(self.folder / name):
            tuner = ray_tune.Tuner.restore(str(self.folder / name), trainable, resume_errored=True)
            (log,) = restored_callbacks(tuner)
        else:
            scheduler = make_scheduler(self.config, self.space) if stop_early else None
            prefix = "trial" if name == "search" else name
            log = StudyLog(self.tracker, self.run_id, self.folder, self.config, resolve_trial, scheduler, prefix)
            tuner = ray_tune.Tuner(
                trainable,
                param_space={} if samples is None else {"sample": samples},
                tune_config=self._tune_config(scheduler, search, count),
                run_config=self._run_config(name, log),
            )
        try:
            tuner.fit()
        finally:
            log.end_open()
            log.print_table()
        log.check_samples_reached_models()
        return log, self._measured(log)

    def _tune_config(self, scheduler: Any, search: dict[str, Any], count: int) -> ray_tune.TuneConfig:
        # The trials of a population take turns. What they reserve limits how many run at a time.
        concurrent = (
            None if isinstance(scheduler, Population) else concurrent_trials(self.config, self.resources, count)
        )
        return ray_tune.TuneConfig(
            scheduler=scheduler,
            reuse_actors=self.config.train.workers == 1,
            max_concurrent_trials=concurrent,
            trial_dirname_creator=lambda trial: f"{FOLDER}{trial.trial_id}",
            **search,
        )

    def _run_config(self, name: str, log: StudyLog) -> Any:
        settings = self.config.tune
        return ray_tune.RunConfig(
            name=name,
            storage_path=str(self.folder),
            callbacks=[log],
            verbose=0,
            failure_config=ray_tune.FailureConfig(max_failures=self.config.train.max_failures),
            # Ray keeps the last checkpoint and the best one. The log removes the checkpoints of a population.
            checkpoint_config=ray_tune.CheckpointConfig(
                num_to_keep=None if isinstance(log.scheduler, Population) else 1,
                checkpoint_score_attribute=settings.metric,
                checkpoint_score_order=settings.mode,
            ),
        )

    def _measured(self, log: StudyLog) -> list[Candidate]:
        found = [one for one in log.candidates() if one.checkpoint.is_dir()]
        if not found:
            reasons = dict.fromkeys(record.reason for record in log.trials.values() if record.reason)
            raise EvForgeError(f"{self.folder}: every trial failed: {'; '.join(reasons) or 'no metric'}")
        return found

    def _winner(self, candidates: Sequence[Candidate], finals: Sequence[Candidate]) -> list[Candidate]:
        """The trials of the sample with the best mean over its seeds, best trial first."""
        groups: dict[str, list[Candidate]] = {_without_seed(one): [one] for one in candidates}
        for one in finals:
            groups[_without_seed(one)].append(one)
        best = max(groups.values(), key=lambda trials: statistics.fmean(map(self._rank, trials)))
        return sorted(best, key=self._rank, reverse=True)

    def _write_best(self, winners: Sequence[Candidate], rows: list[TrialRow]) -> StudyResult:
        best, values, metric = winners[0], [one.value for one in winners], self.config.tune.metric
        score, spread = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
        result, metrics = f"{metric} {score:.4f}, one seed", {f"best_{metric}": score}
        if spread is not None:
            result = f"{metric} {score:.4f} +- {spread:.4f}, mean and standard deviation of {len(values)} seeds"
            metrics[f"best_{metric}_spread"] = spread
        config = trial_config(self.config, self.space, best.sample)
        settings = config.with_overrides({SEED: self.config.train.seed})
        text = f"# {self.folder.name}: {result}\n{_schedule_text(best)}{settings.to_yaml()}"
        print(f"\nthe best of {self.folder.name}: {result}", flush=True)
        folder = self.folder / BEST_FOLDER
        folder.mkdir(exist_ok=True)
        write_text(self.folder / BEST_CONFIG, text)
        copy_checkpoint(best.checkpoint, folder / BEST_CHECKPOINT)
        write_record(folder, config, self.tracker, best.run_id)
        self.tracker.log_text(self.run_id, text, BEST_CONFIG)
        self.tracker.log_metrics(self.run_id, {**metrics, f"best_{metric}_seeds": float(len(values))}, step=0)
        paths = self.folder / BEST_CONFIG, folder / BEST_CHECKPOINT
        return StudyResult(*paths, best.run_id, score, spread, rows, self.run_id, self.folder)

    def _write_front(self, log: StudyLog) -> Path | None:
        settings, found = self.config.tune, log.front()
        if not found:
            return None
        path = self.folder / FRONT_FILE
        write_text(path, front_yaml(found, settings.metric, settings.against))
        self.tracker.log_file(self.run_id, path)
        table = front_table(found, settings.metric, settings.against)
        print(f"\n{settings.metric} against {settings.against}, the front: {path}\n{table}", flush=True)
        return path


def _schedule_text(best: Candidate) -> str:
    """Comment lines with the settings that a population used before the last ones; empty if there are no others."""
    if len(best.schedule) < 2:
        return ""
    parts = (
        f"# from epoch {first}: {', '.join(f'{k} {v}' for k, v in part.items())}\n" for first, part in best.schedule
    )
    return "# schedule of the population, which ends with the settings below:\n" + "".join(parts)


def _without_seed(one: Candidate) -> str:
    return repr([item for item in one.sample.items() if item[0] != SEED])
