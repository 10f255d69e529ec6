"""Searches with Ray Tune: check, run and resume a search, and write the best settings to `best.yaml`."""

import functools
import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from ray import tune as ray_tune

from detector.config import Config
from detector.config.checks import require
from detector.config.extensions import REPRESENTATIONS, TABLES
from detector.data_factory import psee_data
from detector.single_stage_detector import check_backbone
from evforge import EvForgeError
from evforge.anchors.candidates import resolve_lists
from evforge.cluster.placement import request, witnesses
from evforge.cluster.ray_compat import (
    before_retries,
    keep_environment_private,
    restored_callbacks,
    search_was_saved,
)
from evforge.cluster.session import Resources
from evforge.display.live import live_view
from evforge.search.pareto import Candidate, front_table, front_yaml
from evforge.search.policies.population import Population
from evforge.search.policies.samplers import UnseenSearch
from evforge.search.policies.schedulers import save_scheduler_state
from evforge.search.policies.tables import make_sampler, make_scheduler
from evforge.search.trial import SEED, TrialSetup, run_trial, run_trial_of_workers, trial_config
from evforge.search.trial_log import FOLDER, StudyLog
from evforge.search.trial_resources import concurrent_trials, final_trials, trial_limits, trial_reserves
from evforge.search.trial_table import TrialRow
from evforge.space.space import Space, load_space, space_text
from evforge.tracking.system_metrics import system_metrics, system_metrics_wanted
from evforge.tracking.tracker import Tracker
from evforge.training.driver import driven_run
from evforge.training.dry_step import check_parts
from evforge.training.run_folder import (
    BEST_CHECKPOINT,
    BEST_KEPT,
    HARDWARE_TAG,
    RESOURCES_TAG,
    SPACE_FILE,
    copy_checkpoint,
    load_config,
    read_record,
    write_record,
    write_text,
)
from evforge.training.train import check_config

__all__ = ["StudyResult", "prepare", "resolve", "resume", "tune"]

BEST_CONFIG, BEST_FOLDER, FRONT_FILE = "best.yaml", "best", "pareto.yaml"


@dataclass(frozen=True)
class StudyResult:
    """Result of a search. The winner is the sample with the best mean metric over its seeds.

    Args:
        best_config: YAML file with the winner's complete configuration, for `evforge train --config`
        best_checkpoint: checkpoint of the best epoch in the winner's best run
        best_run_id: id of the MLflow run with that checkpoint
        score: mean of the winner's metric over its seeds
        spread: standard deviation of the winner's metric over its seeds; None for one seed
        rows: one row per trial, including the final trials with further seeds
        run_id: id of the MLflow run of the study
        path: folder of the study
        front: YAML file with the Pareto front of `tune.metric` and `tune.against`; None if the search has no cost
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
    """Return the configuration of a study: `config`, changed by the settings in the space file, then by `overrides`."""
    return config.with_overrides({**space.settings, **(overrides or {})})


def prepare(config: Config, space_file: str | Path, overrides: Mapping[str, Any] | None = None) -> tuple[Config, Space]:
    """Check the settings and the space of a search before it starts.

    Arguments and errors are the same as for `tune`.

    Returns:
        The settings of the study, and the search space, in which `resolve_lists` has fitted the anchor lists.
    """
    space = load_space(space_file)
    config = resolve(config, space, overrides)
    config = check_config(config, config.tune.metric)
    space = resolve_lists(space, config)
    space.check(config, check_backbone)
    sampler = make_sampler(config, space)
    unknown = (
        {key for sample in sampler for key in sample} - config.to_flat().keys() if isinstance(sampler, list) else ()
    )
    require(not unknown, "tune.searcher: samples", ", ".join(sorted(unknown)), "settings such as model.feature_base")
    scheduler = make_scheduler(config, space)
    if scheduler is not None:
        save_scheduler_state(scheduler)  # raises if a search with this scheduler could not be resumed
    for key, table in TABLES.items():
        for option in space.domains[key].options if key in space.domains else ():
            table[option]  # raises if the option cannot be imported
            one = config.with_overrides({key: option})
            check_parts(one)
            if key == REPRESENTATIONS.key:
                psee_data(one.to_hparams(), "train")  # raises if the dataset has another representation
    return config, space


def tune(config: Config, space_file: str | Path, overrides: Mapping[str, Any] | None = None) -> StudyResult:
    """Run a search.

    Args:
        config: base configuration.
        space_file: file of the search space, see `evforge.space.space`. Its settings replace those of `config`.
        overrides: `{"group.leaf": value}`. They replace the settings of the space file.

    Raises:
        ValueError: a setting or the space is invalid.
        FileNotFoundError: the dataset or the space file does not exist.
        EvForgeError: every trial failed, a model was trained with other settings than those of its sample, or a trial
            needs more CPUs or GPUs than Ray has.
    """
    config, space = prepare(config, space_file, overrides)
    files, tags = {SPACE_FILE: space_text(space_file, space)}, {"space": Path(space_file).name}
    return _run_study(config, space, None, files=files, tags=tags)


def resume(folder: str | Path) -> StudyResult:
    """Resume an interrupted search in the same MLflow runs.

    Finished trials are kept. A trial resumes from its last checkpoint if it is unfinished, if its process died, or if
    it could not write a checkpoint. The sampler and the scheduler continue with their saved states.

    Args:
        folder: folder of the study.

    Raises:
        FileNotFoundError: the folder is not the folder of a study, or the dataset no longer exists.
        ValueError: the dataset no longer fits the study.
        EvForgeError: every trial failed, or another process is running the study.
    """
    folder = Path(folder).absolute()
    read_record(folder)  # raises if it is not the folder of a run
    if not (folder / SPACE_FILE).is_file():
        raise FileNotFoundError(f"{folder}: not the folder of a study, which contains {SPACE_FILE}")
    return _run_study(check_config(load_config(folder)), load_space(folder / SPACE_FILE), folder)


def _run_study(config: Config, space: Space, folder: Path | None, **new: Any) -> StudyResult:
    """Run a study.

    Args:
        config: checked configuration.
        space: search space.
        folder: folder of the study to resume; None for a new study.
        new: arguments of `driven_run` for a new study.
    """
    fits = functools.partial(concurrent_trials, config, count=1)  # raises if no trial could ever start
    with driven_run("study", config, folder, fits, dashboard=config.train.workers > 1, **new) as run:
        study = _Study(config, space, run.tracker, run.run_id, run.folder, run.resources)
        with system_metrics(run.tracker.uri, run.run_id) if system_metrics_wanted() else nullcontext():
            return study.run()


@dataclass
class _Study:
    """Runs a search in two steps: the trials, and the final trials, which train the best samples with further seeds.

    In the folder of an interrupted study, the step that was interrupted is resumed.
    """

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
        """Return the metric of a trial, negated if a smaller metric is better."""
        return one.value if self.config.tune.mode == "max" else -one.value

    def _searcher(self) -> tuple[Any, dict[str, Any], int]:
        """Create what Ray Tune needs to draw the samples.

        Returns:
            Three values: a `ray.tune.grid_search` of all samples, or None if a searcher draws the samples; further
            arguments of `ray.tune.TuneConfig`; and the number of trials.
        """
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
        """Run all trials of one step of the search.

        Args:
            name: name of the folder for the trials, inside the folder of the study.
            samples: a `ray.tune.grid_search` of all samples; None if a searcher draws the samples.
            search: further arguments of `ray.tune.TuneConfig`.
            count: number of trials.
            stop_early: whether the scheduler is used.

        Returns:
            The log of all trials, and the trials that have a checkpoint and a finite metric. If there are no such
            trials, an EvForgeError is raised.
        """
        # Ray would print the whole traceback of a failed trial. `StudyLog` prints only the last line and stores the
        # traceback in the MLflow run.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        keep_environment_private()
        threads, limits = trial_limits(self.config, self.resources, count)
        reserves = trial_reserves(self.config, self.resources, count)
        self.tracker.set_tag(self.run_id, RESOURCES_TAG, json.dumps(reserves))
        self.tracker.set_tag(self.run_id, HARDWARE_TAG, self.resources.text())
        resolve_trial = functools.partial(trial_config, self.config, self.space)
        setup = TrialSetup(
            resolve_trial,
            self.folder,
            witnesses(self.config.data.dataset_path),
            threads,
            self.resources.use_gpu(self.config.train.use_gpu),
            self.resources.left_out,
        )
        run = functools.partial(run_trial if self.config.train.workers == 1 else run_trial_of_workers, setup=setup)
        trainable = ray_tune.with_resources(run, request(limits, self.resources.left_out))
        if search_was_saved(self.folder / name):
            tuner = ray_tune.Tuner.restore(str(self.folder / name), trainable, resume_errored=True)
            (log,) = restored_callbacks(tuner)
            log.move(self.tracker, self.folder)
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
        log.left_out = self.resources.left_out
        log.expect(count, final_trials(self.config, count) if name == "search" else 0)
        try:
            with before_retries(log.avoid_node), live_view(log.render) as log.progress.live:
                tuner.fit()
        finally:
            log.end_open()
            log.print_table()
        log.check_samples_reached_models()
        return log, self._measured(log)

    def _tune_config(self, scheduler: Any, search: dict[str, Any], count: int) -> ray_tune.TuneConfig:
        # The trials of a population run alternately. Their reserved resources limit how many run at the same time.
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
            # `StudyLog` removes the checkpoints of a population.
            checkpoint_config=ray_tune.CheckpointConfig(
                num_to_keep=None if isinstance(log.scheduler, Population) else BEST_KEPT,
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
        """Find the sample with the best mean metric over its seeds, and return its trials. The best trial is first.

        Args:
            candidates: the trials of the search.
            finals: the final trials, which train the best samples with further seeds.
        """
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
        link = f"[{best.name}](#/experiments/{self.tracker.experiment_id}/runs/{best.run_id})"
        self.tracker.note_result(self.run_id, f"{result}, by {link}.")
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
    """Return comment lines with the settings of the best trial in each range of epochs.

    The text is empty if the settings never changed, which is always the case without a population.
    """
    if len(best.schedule) < 2:
        return ""
    parts = (
        f"# from epoch {first}: {', '.join(f'{k} {v}' for k, v in part.items())}\n" for first, part in best.schedule
    )
    return "# schedule of the population, which ends with the settings below:\n" + "".join(parts)


def _without_seed(one: Candidate) -> str:
    return repr([item for item in one.sample.items() if item[0] != SEED])
