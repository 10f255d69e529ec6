"""The verbs of the `evlab` command: plain functions whose signatures are their command lines.

Each imports what it needs inside itself, so that `evlab --help` answers at once, and ends with what it made and where.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from evlab.arguments import Settings

__all__ = ["VERBS"]


def quickstart(settings: Settings, *, output: str | None = None) -> None:
    """Run the whole chain on synthetic recordings: data, search, evaluation, export, registration.

    Args:
        output: folder for everything it makes; runs/quickstart-<time> if not given
    """
    from evlab import quickstart as chain
    from evlab.space import load_space

    config = settings.resolve(chain.recipe(), load_space(chain.space_file()).settings)
    chain.quickstart(config, output, settings.overrides)


def synth(
    output: str,
    *,
    train: int = 12,
    val: int = 3,
    test: int = 3,
    duration_s: float = 10.0,
    height: int = 120,
    width: int = 160,
    seed: int = 0,
) -> None:
    """Write synthetic recordings with labels: moving objects seen by a simulated event camera.

    Args:
        output: folder to write to
        train: recordings to train on
        val: recordings to validate on
        test: recordings to test on
        duration_s: seconds of a recording
        height: height of the sensor in pixels
        width: width of the sensor in pixels
        seed: seed of all randomness
    """
    from detector.synthetic import write_dataset

    counts = {"train": train, "val": val, "test": test}
    folder = write_dataset(output, counts, duration_s, height, width, seed=seed)
    print(f"recordings and labels: {folder}\nnext: evlab build {folder}/*/*_td.dat --output DATASET")


def build(
    recordings: list[str],
    settings: Settings,
    *,
    output: str,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    label_map: str | None = None,
) -> None:
    """Turn recordings and their labels into a dataset folder of tensor files.

    A recording keeps the split that its folder is named after (train, val, test), or is cut by time.

    Args:
        recordings: DAT or RAW files; the labels of X.raw are X_bbox.npy, those of X_td.dat too
        output: dataset folder to write
        train: seconds of each recording to train on, such as 0-20
        val: seconds to validate on
        test: seconds to test on
        label_map: ids and names of the classes, such as '{"0": "car"}', or a file of them; that of the recordings'
            folders if not given
    """
    from detector.data.build import build_dataset

    config = settings.resolve()
    texts = {"train": train, "val": val, "test": test}
    cuts = {split: _seconds(split, text) for split, text in texts.items() if text is not None}
    paths = [Path(name) for name in recordings]
    folder = build_dataset(paths, Path(output), config.data, cuts or None, _label_map(label_map))
    print(f"dataset: {folder}\nnext: evlab train --data.dataset_path {folder}")


def train(settings: Settings, *, resume: str | None = None) -> None:
    """Train a detector.

    Args:
        resume: folder of an earlier run to go on with; its settings hold unless others are given
    """
    from detector.config import Config
    from evlab import train as training
    from evlab.runs import CONFIG_FILE

    base = Config.load(Path(resume) / CONFIG_FILE) if resume is not None else None
    result = training.train(settings.resolve(base), resume)
    figures = "  ".join(f"{name} {result.metrics[f'val_{key}']:.3f}" for name, key in _FIGURES.items())
    print(f"val {figures}\nbest checkpoint: {result.best_checkpoint}\nnext: evlab evaluate {result.path}")


def tune(space: str, settings: Settings) -> None:
    """Search anchors, thresholds, widths, or any other setting.

    Args:
        space: YAML file of the search space, see tune_spaces/
    """
    from evlab import tune as search
    from evlab.space import load_space

    settings.resolve(between=load_space(space).settings)
    result = search.tune(settings.resolve(), space, settings.overrides)
    print(f"best settings: {result.best_config}\nbest checkpoint: {result.best_checkpoint}")
    print(f"next: evlab evaluate {result.path}, or evlab train --config {result.best_config}")


def evaluate(checkpoint: str, settings: Settings, *, split: Literal["val", "test"] = "test") -> None:
    """Measure COCO mAP of a trained detector.

    Args:
        checkpoint: checkpoint, or folder of a run or study
        split: what to measure on
    """
    from evlab import evaluate as measuring

    config = settings.resolve(measuring.checkpoint_config(measuring.find_checkpoint(checkpoint)))
    found = measuring.evaluate(checkpoint, config, split)
    print(f"{found.text()}\npictures: {found.pictures}")


def export(checkpoint: str, output: str, *, score_thresh: float = 0.4) -> None:
    """Write a trained detector as TorchScript, and check the file.

    Args:
        checkpoint: checkpoint, or folder of a run or study
        output: folder to write to
        score_thresh: score from which users of the file should show a box
    """
    from evlab import export as exporting

    print(f"exported model, checked: {exporting.export(checkpoint, output, score_thresh) / 'model.ptjit'}")


def registry(
    action: Literal["list", "show", "promote"],
    settings: Settings,
    *,
    name: str | None = None,
    version: int | None = None,
) -> None:
    """List registered models, show one, or promote a version to champion if it is better.

    Args:
        action: what to do
        name: registered model; track.registered_model_name if not given
        version: version of it; the newest if not given
    """
    from evlab.registry import promote
    from evlab.registry_table import describe, newest, overview
    from evlab.tracking import Tracker

    track = settings.resolve().track
    tracker = Tracker(track.tracking_uri, track.experiment)
    name = name or track.registered_model_name
    if action == "promote":
        version = version if version is not None else newest(tracker, name)
        result = promote(tracker, name, version)
        print(f"{name} version {version}: {'now champion' if result.promoted else 'not promoted'}, {result.reason}")
    elif action == "show":
        print(describe(tracker, name, version))
    else:
        print(overview(tracker))


def doctor() -> int:
    """Look at what is installed, reachable or mismatched."""
    from evlab.doctor import doctor as look

    return look()


VERBS: dict[str, Callable[..., int | None]] = {
    "quickstart": quickstart,
    "synth": synth,
    "build": build,
    "train": train,
    "tune": tune,
    "evaluate": evaluate,
    "export": export,
    "registry": registry,
    "doctor": doctor,
}

_FIGURES = {"mAP": "mean_ap", "mAP50": "mean_ap50"}


def _seconds(split: str, text: str) -> tuple[float, float]:
    first, _, last = text.partition("-")
    try:
        return float(first), float(last)
    except ValueError:
        raise ValueError(f"--{split}: got {text!r}, allowed: seconds from-to, such as 0-20") from None


def _label_map(text: str | None) -> dict[int, str] | None:
    from detector.config import parse_label_map, read_label_map

    if text is None:
        return None
    return parse_label_map(text, "--label_map") if text.lstrip().startswith("{") else read_label_map(text)
