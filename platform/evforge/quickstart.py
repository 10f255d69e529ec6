"""The whole chain on synthetic recordings, from nothing to a registered model."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config import Config
from evforge.recipes import find_config
from evforge.training.run_folder import unique_folder

if TYPE_CHECKING:
    from evforge.evaluation.evaluate import Evaluation
    from evforge.search.tune import StudyResult

__all__ = ["quickstart", "recipe"]

RECORDINGS = {"train": 10, "val": 2, "test": 3}
DURATION_S, HEIGHT, WIDTH, SEED = 10.0, 120, 160, 0


def recipe() -> Config:
    """The settings that the quickstart starts from, `recipes/synthetic.yaml`."""
    return Config.load(find_config("synthetic"))


def space_file() -> Path:
    """The quickstart's search space: in the package when installed, in the repository's `tune_spaces` else."""
    package = Path(__file__).parent
    folders = (package / "tune_spaces", package.parents[1] / "tune_spaces")
    return next(folder for folder in folders if folder.is_dir()) / "smoke.yaml"


def quickstart(
    config: Config,
    output: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    recordings: Mapping[str, int] = RECORDINGS,
    duration_s: float = DURATION_S,
    space: Path | None = None,
) -> Path:
    """Synthesise, build, search, evaluate, export, check and register; print the results.

    Args:
        config: settings; the dataset and the storage are the quickstart's own.
        output: folder for everything it makes; a new one in `train.storage` if None.
        overrides: `{"group.leaf": value}` that replace the search space's settings.
        recordings: recordings of each split.
        duration_s: seconds of a recording.
        space: search space; `tune_spaces/smoke.yaml` if None.

    Returns:
        The folder.

    Raises:
        ValueError: a setting does not fit.
        EvForgeError: every trial failed.
    """
    from evforge.search.tune import tune

    folder = Path(output) if output is not None else unique_folder(config.train.storage, "quickstart")
    print(f"quickstart: everything goes to {folder}", flush=True)
    with _step("1/6 recordings and dataset"):
        dataset = _make_dataset(config, folder, recordings, duration_s)
    own = {"data.dataset_path": str(dataset), "train.storage": str(folder)}
    with _step("2/6 search"):
        study = tune(config, space or space_file(), {**(overrides or {}), **own})
    with _step("3/6 evaluation on the test split"):
        found = _evaluate(study, folder)
        print(found.text())
    with _step("4/6 export and checks"):
        exported = _export(study, folder)
    with _step("5/6 registration"):
        print(_register(study, found, exported))
    with _step("6/6 results"):
        print(_results(study, found, exported))
    return folder


@contextmanager
def _step(name: str) -> Iterator[None]:
    print(f"\n== {name}", flush=True)
    start = time.monotonic()
    yield
    print(f"== {name}: {time.monotonic() - start:.0f} s", flush=True)


def _make_dataset(config: Config, folder: Path, recordings: Mapping[str, int], duration_s: float) -> Path:
    from detector.data.builder.dataset import build_dataset
    from detector.synthetic import write_dataset

    source = write_dataset(folder / "recordings", recordings, duration_s, HEIGHT, WIDTH, seed=SEED)
    return build_dataset(sorted(source.glob("*/*_td.dat")), folder / "dataset", config.data)


def _evaluate(study: "StudyResult", folder: Path) -> "Evaluation":
    from evforge.evaluation.evaluate import evaluate

    return evaluate(study.best_checkpoint, folder=folder / "evaluate-test")


def _export(study: "StudyResult", folder: Path) -> Path:
    from evforge.evaluation.export import export

    exported = export(study.best_checkpoint, folder / "exported")
    print(f"the cases of jitting_test pass on {exported / 'model.ptjit'}")
    return exported


def _register(study: "StudyResult", found: "Evaluation", exported: Path) -> str:
    """Register the model and let it through the gate if it is better than the champion."""
    from evforge.evaluation.checkpoint import checkpoint_config
    from evforge.registry.listing import verdict
    from evforge.registry.publish import publish
    from evforge.tracking.tracker import Tracker

    track = checkpoint_config(study.best_checkpoint).track
    tracker, name = Tracker(track.tracking_uri, track.experiment), track.registered_model_name
    version, result = publish(tracker, name, study.best_run_id, found, exported)
    return f"registered as version {version}\n{verdict(name, result)}"


def _results(study: "StudyResult", found: "Evaluation", exported: Path) -> str:
    from evforge.evaluation.checkpoint import checkpoint_config
    from evforge.evaluation.evaluate import SHEET
    from evforge.search.trial_table import trial_table
    from evforge.tracking.tracker import ui_command

    return "\n".join(
        [
            trial_table(study.rows),
            "",
            f"test mAP50 {found.metrics['mean_ap50']:.3f}  mAP {found.metrics['mean_ap']:.3f}",
            f"exported model: {exported / 'model.ptjit'}",
            f"detections on test recordings: {found.folder / SHEET}",
            f"best settings: {study.best_config}  (evforge train --config {study.best_config})",
            "MLflow's pages, at http://127.0.0.1:5000:",
            f"  {ui_command(checkpoint_config(study.best_checkpoint).track.tracking_uri)}",
        ]
    )
