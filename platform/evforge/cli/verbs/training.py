"""Verbs that train: quickstart, train, tune."""

from typing import Annotated

from evforge.cli.settings import GROUPS, Settings
from evforge.cli.verbs.next_command import print_next
from evforge.display.json_output import json_text, only_json
from evforge.display.live import announce

__all__ = ["START", "quickstart", "train", "tune"]

START = "loading the libraries and checking the settings; Ray starts next"
"""Line that is printed within a second, as the next one may take several."""


def quickstart(settings: Settings, *, output: str | None = None) -> None:
    """Run all steps on synthetic recordings: data, search, evaluation, export, registration.

    Args:
        output: folder for all results; runs/quickstart-<time> if not given
    """
    _announce_start(settings)
    from evforge import quickstart as chain
    from evforge.space.space import load_space

    config = settings.resolve(chain.recipe(), load_space(chain.space_file()).settings)
    folder = chain.quickstart(config, output, settings.overrides)
    print_next("report", folder)


def train(
    settings: Annotated[Settings, "data", "model", "anchors", "loss", "optim", "eval", "train", "track"],
    *,
    resume: str | None = None,
) -> None:
    """Train a detector.

    Args:
        resume: folder of a run to resume with the settings of this run, or a folder of runs, which means its newest
            training; --config replaces all settings, and a flag replaces one setting
    """
    _announce_start(settings)
    from evforge.training import train as training
    from evforge.training.run_folder import is_training, load_config, newest_run

    if resume is not None:
        resume = str(newest_run(resume, is_training, "training"))
    base = load_config(resume) if resume is not None else None
    result = training.train(settings.resolve(base), resume)
    metrics = f"mAP {result.metrics['val_mean_ap']:.3f}  mAP50 {result.metrics['val_mean_ap50']:.3f}"
    print(f"val {metrics}\nbest checkpoint: {result.best_checkpoint}")
    print_next("evaluate", result.path)


def tune(
    settings: Settings,
    space: str | None = None,
    *,
    resume: str | None = None,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Search for the best anchors, thresholds, widths, or other settings.

    Args:
        space: YAML file of the search space, see tune_spaces/ for examples
        resume: folder of an interrupted study to resume with the settings and the search space of this study, or a
            folder of runs, which means its newest study
        dry_run: print the trials, their resources and their cost, and start nothing
        json: with --dry_run, print this as one JSON document
    """
    if resume is not None and (dry_run or space is not None or settings.file is not None or settings.overrides):
        raise ValueError("--resume: the study has its own space and settings, allowed: no other arguments")
    if json and not dry_run:
        raise ValueError("--json: allowed with --dry_run only")
    if resume is None and space is None:
        raise ValueError("space: got nothing, allowed: a YAML file of a search space, or --resume FOLDER")
    if not dry_run:
        _announce_start(settings)
    from evforge.search import tune as search
    from evforge.search.dry_run import describe_search, search_facts
    from evforge.space.space import load_space
    from evforge.training.run_folder import is_study, newest_run

    if space is None:
        result = search.resume(str(newest_run(str(resume), is_study, "study")))
    else:
        settings.resolve(between=load_space(space).settings)
        if dry_run:
            with only_json(json):
                prepared = search.prepare(settings.resolve(), space, settings.overrides)
                text = json_text(search_facts(*prepared)) if json else describe_search(*prepared)
            print(text)
            if json:
                return
            print_next("tune", space, settings=settings, groups=GROUPS)
            return
        result = search.tune(settings.resolve(), space, settings.overrides)
    print(f"best settings: {result.best_config}\nbest checkpoint: {result.best_checkpoint}")
    print_next("evaluate", result.path)


def _announce_start(settings: Settings) -> None:
    """Print a line before the large libraries are imported, unless the settings are wrong or only printed."""
    settings.check()
    if not settings.print_only:
        announce(START)
