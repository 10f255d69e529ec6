"""Search: trials of a space under Ray Tune, of one process or of several workers, and `best.yaml` at the end."""

import functools
import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config import Config
from detector.config.extensions import TABLES
from evforge import EvForgeError
from evforge.anchors.candidates import resolve_lists
from evforge.cluster.ray_compat import restored_callbacks, search_was_saved
from evforge.cluster.session import Resources, ray_session
from evforge.search.pareto import front_table, front_yaml
from evforge.search.policies.tables import make_sampler, make_scheduler
from evforge.search.trial import SEED, run_trial, run_trial_of_workers, trial_config
from evforge.search.trial_resources import concurrent_trials, trial_limits, trial_reserves
from evforge.space.space import Space, load_space, write_space
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

if TYPE_CHECKING:
    from evforge.search.trial_log import StudyLog
    from evforge.search.trial_table import TrialRow
    from evforge.tracking.tracker import Tracker

__all__ = ["StudyResult", "prepare", "resolve", "resume", "tune"]

BEST_CONFIG, BEST_FOLDER, FRONT_FILE = "best.yaml", "best", "pareto.yaml"


@dataclass(frozen=True)
class StudyResult:
    """What a search made.

    Args:
        best_config: YAML file that `evforge train --config` takes as it is
        best_checkpoint: checkpoint of the best epoch of the winner's best run
        best_run_id: the MLflow run of that checkpoint
        score: mean of the winner's metric over its seeds
        spread: their standard deviation; None for one seed
        rows: a row a trial, those with further seeds included
        run_id: the MLflow run of the study
        path: folder of the study
        front: YAML file of the trials between which `tune.metric` and `tune.against` do not decide; None without a cost
    """

    best_config: Path
    best_checkpoint: Path
    best_run_id: str
    score: float
    spread: float | None
    rows: "list[TrialRow]"
    run_id: str
    path: Path
    front: Path | None = None


@dataclass(frozen=True)
class _Run:
    """One trial that was measured: `value` is the metric of its best validation, the rest is that validation's."""

    sample: dict[str, Any]
    value: float
    checkpoint: Path
    config: Config
    run_id: str
    schedule: tuple[tuple[int, dict[str, Any]], ...] = ()


def resolve(config: Config, space: Space, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration of a study: the base, the space file's settings, then single overrides."""
    return config.with_overrides({**space.settings, **(overrides or {})})


def prepare(config: Config, space_file: str | Path, overrides: Mapping[str, Any] | None = None) -> tuple[Config, Space]:
    """What `tune` searches, checked: its settings, and the space with its anchor lists resolved.

    Arguments and errors are those of `tune`.
    """
    space = load_space(space_file)
    config = check_config(resolve(config, space, overrides))
    space = resolve_lists(space, config)
    _check(config, space)
    return config, space


def tune(config: Config, space_file: str | Path, overrides: Mapping[str, Any] | None = None) -> StudyResult:
    """Search a space.

    Args:
        config: base configuration.
        space_file: the space, see `evforge.space.space`; settings in it replace the base's.
        overrides: `{"group.leaf": value}` that replace the space file's settings.

    Raises:
        ValueError: a setting or the space does not fit.
        FileNotFoundError: the dataset or the space file is not there.
        EvForgeError: every trial failed, a sample did not reach its model, or a trial needs more than there is.
    """
    from evforge.tracking.tracker import Tracker

    config, space = prepare(config, space_file, overrides)
    with ray_session(dashboard=config.train.workers > 1) as resources:
        concurrent_trials(config, resources, 1)  # refuses what would wait for ever
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
    """Go on with a search that was cut off, in the same MLflow runs.

    Finished trials stay as they are, unfinished ones and those whose process died or found the disk full go on from
    their last checkpoint, the searcher and the scheduler from what they knew.

    Args:
        folder: folder of the study.

    Raises:
        FileNotFoundError: the folder is none of a study, or the dataset is no longer there.
        ValueError: the dataset no longer fits the study.
        EvForgeError: every trial failed.
    """
    from evforge.tracking.tracker import Tracker

    folder = Path(folder).absolute()
    record = read_record(folder)
    if not (folder / SPACE_FILE).is_file():
        raise FileNotFoundError(f"{folder}: no study, which has a {SPACE_FILE}")
    config, space = check_config(Config.load(folder / CONFIG_FILE)), load_space(folder / SPACE_FILE)
    tracker = Tracker(record.tracking_uri, record.experiment)
    with ray_session(config.train.workers > 1) as resources, tracker.resumed(record.run_id):
        return _Study(config, space, tracker, record.run_id, folder, resources).run()


class _Study:
    """The steps of one search; a step that an earlier process began is gone on with."""

    def __init__(
        self, config: Config, space: Space, tracker: "Tracker", run_id: str, folder: Path, resources: Resources
    ) -> None:
        self.config, self.space, self.tracker = config, space, tracker
        self.run_id, self.folder, self.resources = run_id, folder, resources

    def run(self) -> StudyResult:
        log, runs = self._search("search", *self._searcher())
        candidates = sorted(runs, key=lambda run: self._sign * run.value, reverse=True)
        finals = self._train_again(candidates[: self.config.tune.final_top_k])
        rows = log.rows() + (finals[0].rows() if finals else [])
        best = self._winner(candidates, finals[1] if finals else [])
        return replace(self._write_best(best, rows), front=self._write_front(log))

    @property
    def _sign(self) -> int:
        return 1 if self.config.tune.mode == "max" else -1

    def _searcher(self) -> tuple[dict[str, Any], dict[str, Any], int]:
        """Ray's parameter space, further arguments of its TuneConfig, and the number of trials."""
        import optuna
        from ray import tune as ray_tune

        from evforge.search.policies.samplers import UnseenSearch

        settings, sampler = self.config.tune, make_sampler(self.config, self.space)
        if isinstance(sampler, list):
            return {"sample": ray_tune.grid_search(sampler)}, {}, len(sampler)
        if isinstance(sampler, optuna.samplers.BaseSampler):
            against = settings.against != "none"
            metric = [settings.metric, settings.against] if against else settings.metric
            mode = [settings.mode, "min"] if against else settings.mode
            suggest = functools.partial(self.space.suggest, self.config)
            sampler = UnseenSearch(sampler, suggest, metric, mode, settings.space_seed)
        return {}, {"search_alg": sampler, "num_samples": settings.num_samples}, settings.num_samples

    def _train_again(self, candidates: "Sequence[_Run]") -> "tuple[StudyLog, list[_Run]] | None":
        """Train the best candidates with further seeds."""
        from ray import tune as ray_tune

        first = self.config.train.seed
        seeds = range(first + 1, first + self.config.tune.final_seeds)
        samples = [{**run.sample, SEED: seed} for run in candidates for seed in seeds]
        if not samples:
            return None
        print(f"\ntraining the best {len(candidates)} again with {len(seeds)} further seeds each", flush=True)
        return self._search("final", {"sample": ray_tune.grid_search(samples)}, {}, len(samples), stop_early=False)

    def _search(
        self, name: str, param_space: dict[str, Any], search: dict[str, Any], count: int, stop_early: bool = True
    ) -> "tuple[StudyLog, list[_Run]]":
        """Run trials to their end."""
        from ray import tune as ray_tune

        from evforge.search.policies.population import Population
        from evforge.search.trial_log import StudyLog

        # Ray prints the whole traceback of each failed trial; the log tells its reason, and its run keeps the rest.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        threads, limits = trial_limits(self.config, self.resources, count)
        reserves = trial_reserves(self.config, self.resources, count)
        self.tracker.set_tag(self.run_id, RESOURCES_TAG, json.dumps(reserves))
        resolve_trial = functools.partial(trial_config, self.config, self.space)
        alone, use_gpu = self.config.train.workers == 1, self.resources.use_gpu(self.config.train.use_gpu)
        work = functools.partial(
            run_trial if alone else run_trial_of_workers,
            resolve=resolve_trial,
            folder=self.folder,
            threads=threads,
            use_gpu=use_gpu,
        )
        trainable = ray_tune.with_resources(work, limits)
        if search_was_saved(self.folder / name):
            tuner = ray_tune.Tuner.restore(str(self.folder / name), trainable, resume_errored=True)
            (log,) = restored_callbacks(tuner)
        else:
            concurrent = concurrent_trials(self.config, self.resources, count)
            scheduler = make_scheduler(self.config, self.space) if stop_early else None
            prefix = "trial" if name == "search" else name
            log = StudyLog(self.tracker, self.run_id, self.folder, self.config, resolve_trial, scheduler, prefix)
            tune_config = ray_tune.TuneConfig(
                scheduler=scheduler,
                reuse_actors=alone,
                # A population takes turns, all of it: what its trials reserve says how many run at a time.
                max_concurrent_trials=None if isinstance(scheduler, Population) else concurrent,
                trial_dirname_creator=_dirname,
                **search,
            )
            tuner = ray_tune.Tuner(
                trainable, param_space=param_space, tune_config=tune_config, run_config=self._run_config(name, log)
            )
        try:
            tuner.fit()
        finally:
            log.end_open("KILLED")
            log.print_table()
        log.check_samples_reached_models()
        return log, self._measured(log)

    def _run_config(self, name: str, log: "StudyLog") -> Any:
        from ray import tune as ray_tune

        from evforge.search.policies.population import Population

        settings = self.config.tune
        return ray_tune.RunConfig(
            name=name,
            storage_path=str(self.folder),
            callbacks=[log],
            verbose=0,
            failure_config=ray_tune.FailureConfig(max_failures=self.config.train.max_failures),
            # Ray keeps the last checkpoint besides the best one. Those of a population the log looks after.
            checkpoint_config=ray_tune.CheckpointConfig(
                num_to_keep=None if isinstance(log.scheduler, Population) else 1,
                checkpoint_score_attribute=settings.metric,
                checkpoint_score_order=settings.mode,
            ),
        )

    def _measured(self, log: "StudyLog") -> list[_Run]:
        """The trials that have a checkpoint and a finite metric.

        Raises:
            EvForgeError: there is none.
        """
        settings, runs = self.config.tune, []
        for record in log.trials.values():
            best = record.best(settings.metric, settings.mode)
            checkpoint = self.folder / best["checkpoint"] if best else self.folder
            if best is None or record.config is None or record.status == "failed" or not checkpoint.is_dir():
                continue
            sample = best["schedule"][-1][1]
            config = trial_config(self.config, self.space, sample)
            runs.append(_Run(sample, best[settings.metric], checkpoint, config, record.run_id, best["schedule"]))
        if not runs:
            reasons = dict.fromkeys(record.reason for record in log.trials.values())
            raise EvForgeError(f"{self.folder}: every trial failed: {'; '.join(filter(None, reasons)) or 'no metric'}")
        return runs

    def _winner(self, candidates: "Sequence[_Run]", finals: "Sequence[_Run]") -> "list[_Run]":
        """The runs of the sample with the best mean, best run first."""
        groups: dict[str, list[_Run]] = {}
        for run in candidates[: self.config.tune.final_top_k]:
            groups[_without_seed(run.config)] = [run]
        for run in finals:
            groups[_without_seed(run.config)].append(run)
        best = max(groups.values(), key=lambda runs: self._sign * statistics.fmean(run.value for run in runs))
        return sorted(best, key=lambda run: self._sign * run.value, reverse=True)

    def _write_best(self, runs: "Sequence[_Run]", rows: "list[TrialRow]") -> StudyResult:
        settings, values = self.config.tune, [run.value for run in runs]
        score, spread = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
        winner = runs[0].config.with_overrides({SEED: self.config.train.seed})
        figure = f"{settings.metric} {score:.4f}, one seed"
        if spread is not None:
            figure = f"{settings.metric} {score:.4f} +- {spread:.4f}, mean and standard deviation of {len(runs)} seeds"
        text = f"# {self.folder.name}: {figure}\n{_schedule_text(runs[0])}{winner.to_yaml()}"
        print(f"\nthe best of {self.folder.name}: {figure}", flush=True)
        best_config = self.folder / BEST_CONFIG
        write_text(best_config, text)
        folder = self.folder / BEST_FOLDER
        folder.mkdir(exist_ok=True)
        copy_checkpoint(runs[0].checkpoint, folder / BEST_CHECKPOINT)
        write_record(folder, runs[0].config, self.tracker, runs[0].run_id)
        self.tracker.log_text(self.run_id, text, BEST_CONFIG)
        found = {f"best_{settings.metric}": score, f"best_{settings.metric}_seeds": float(len(runs))}
        found |= {} if spread is None else {f"best_{settings.metric}_spread": spread}
        self.tracker.log_metrics(self.run_id, found, step=0)
        checkpoint = folder / BEST_CHECKPOINT
        return StudyResult(best_config, checkpoint, runs[0].run_id, score, spread, rows, self.run_id, self.folder)

    def _write_front(self, log: "StudyLog") -> Path | None:
        """Write and show the trials between which metric and cost do not decide."""
        settings, found = self.config.tune, log.front()
        if not found:
            return None
        path = self.folder / FRONT_FILE
        write_text(path, front_yaml(found, settings.metric, settings.against))
        self.tracker.log_file(self.run_id, path)
        table = front_table(found, settings.metric, settings.against)
        print(f"\n{settings.metric} against {settings.against}, the front: {path}\n{table}", flush=True)
        return path


def _check(config: Config, space: Space) -> None:
    from detector.evaluation.quantities import label_counts

    settings = config.tune
    counts = {f"val_{name}": count for name, count in label_counts(config, "val").items()}
    names = ["train_loss", *(name for name, count in counts.items() if count)]
    if settings.metric not in names:
        lacking = "which no label of the validation split can measure, " if settings.metric in counts else ""
        raise ValueError(f"tune.metric: got {settings.metric!r}, {lacking}allowed: {', '.join(names)}")
    space.check(config)
    make_sampler(config, space)
    scheduler = make_scheduler(config, space)
    if scheduler is not None:
        from evforge.search.policies.schedulers import save_scheduler_state

        save_scheduler_state(scheduler)
    for key, table in TABLES.items():
        for option in space.domains[key].options if key in space.domains else ():
            table[option]


def _schedule_text(run: _Run) -> str:
    """Comments on weights that were made with one sample after the other."""
    if len(run.schedule) < 2:
        return ""
    parts = (
        f"# from epoch {first}: {', '.join(f'{k} {v}' for k, v in part.items())}\n" for first, part in run.schedule
    )
    return "# a population's schedule, of which the settings below are the last:\n" + "".join(parts)


def _without_seed(config: Config) -> str:
    return config.with_overrides({SEED: 0}).fingerprint()


def _dirname(trial: Any) -> str:
    from evforge.search.trial_log import FOLDER

    return f"{FOLDER}{trial.trial_id}"
