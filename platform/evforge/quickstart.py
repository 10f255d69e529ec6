"""The complete workflow on synthetic recordings, from data to a registered model."""

import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detector.config import Config
from detector.data.builder.dataset import build_dataset
from detector.synthetic import write_dataset
from evforge.evaluation.checkpoint import checkpoint_config
from evforge.evaluation.evaluate import SHEET, evaluate
from evforge.evaluation.export import export
from evforge.recipes import find_config
from evforge.registry.listing import verdict
from evforge.registry.publish import publish
from evforge.search.trial_table import trial_table
from evforge.search.tune import tune
from evforge.tracking.tracker import Tracker
from evforge.training.run_folder import unique_folder

__all__ = ["quickstart", "recipe"]

RECORDINGS = {"train": 10, "val": 2, "test": 3}
DURATION_S, HEIGHT, WIDTH, SEED = 10.0, 120, 160, 0


def recipe() -> Config:
    """Load the settings of the quickstart from `recipes/synthetic.yaml`."""
    return Config.load(find_config("synthetic"))


def space_file() -> Path:
    """Find `tune_spaces/smoke.yaml`, the search space of the quickstart, in the installed package or the repository."""
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
    """Run all steps from synthetic recordings to a registered model, and print the results.

    The steps are: build a dataset, search, evaluate, export, register.

    Args:
        config: settings; `data.dataset_path` and `train.storage` are replaced, so that all files are in `output`.
        output: folder for all files; a new folder in `train.storage` if None.
        overrides: `{"group.leaf": value}`; these values replace settings in the file of the search space.
        recordings: number of recordings in each split, such as `{"train": 10, "val": 2, "test": 3}`.
        duration_s: seconds per recording.
        space: YAML file of the search space; `tune_spaces/smoke.yaml` if None.

    Returns:
        The folder with all files.

    Raises:
        ValueError: a setting is not valid.
        EvForgeError: every trial failed.
    """
    folder = Path(output) if output is not None else unique_folder(config.train.storage, "quickstart")
    print(f"quickstart: all files are written to {folder}", flush=True)
    with _step("1/6 recordings and dataset"):
        source = write_dataset(folder / "recordings", recordings, duration_s, HEIGHT, WIDTH, seed=SEED)
        dataset = build_dataset(sorted(source.glob("*/*_td.dat")), folder / "dataset", config.data)
    own = {"data.dataset_path": str(dataset), "train.storage": str(folder)}
    with _step("2/6 search"):
        study = tune(config, space or space_file(), {**(overrides or {}), **own})
    with _step("3/6 evaluation on the test split"):
        found = evaluate(study.best_checkpoint, folder=folder / "evaluate-test")
        print(found.text())
    with _step("4/6 export and checks"):
        exported = export(study.best_checkpoint, folder / "exported")
        print(f"the cases of jitting_test pass on {exported / 'model.ptjit'}")
    track = checkpoint_config(study.best_checkpoint).track
    with _step("5/6 registration"):
        tracker, name = Tracker(track.tracking_uri, track.experiment), track.registered_model_name
        version, result = publish(tracker, name, study.best_run_id, found, exported)
        print(f"registered as version {version}\n{verdict(name, result)}")
    with _step("6/6 results"):
        print(
            trial_table(study.rows),
            "",
            f"test mAP50 {found.metrics['mean_ap50']:.3f}  mAP {found.metrics['mean_ap']:.3f}",
            f"exported model: {exported / 'model.ptjit'}",
            f"detections on test recordings: {found.folder / SHEET}",
            f"best settings: {study.best_config}  (evforge train --config {study.best_config})",
            f"runs, metrics and models in a browser: {ui_words(track.tracking_uri)}",
            sep="\n",
        )
    return folder


def ui_words(uri: str | None) -> str:
    """Return the command that shows a store in a browser; None is the database in the working folder."""
    return "evforge ui" if uri is None else f"evforge ui --track.tracking_uri {shlex.quote(uri)}"


@contextmanager
def _step(name: str) -> Iterator[None]:
    print(f"\n== {name}", flush=True)
    start = time.monotonic()
    yield
    print(f"== {name}: {time.monotonic() - start:.0f} s", flush=True)
