"""The verbs of the `evlab` command: plain functions whose signatures are their command lines.

Each imports what it needs inside itself, so that `evlab --help` answers at once, and ends with what it made and where.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from evlab.arguments import Command, Settings, parse

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
    sensor_height: int | None = None,
    sensor_width: int | None = None,
    skip_broken: bool = False,
) -> None:
    """Turn recordings and their labels into a dataset folder of tensor files.

    A recording keeps the split that its folder is named after (train, val, test), or is cut by time. Started again,
    it keeps what is finished. Many or large recordings are shared out with Ray, on the cluster RAY_ADDRESS if set.

    Args:
        recordings: files, or addresses like 's3://bucket/*/*_td.dat'; the labels of X.raw are X_bbox.npy, those of
            X_td.dat too
        output: dataset folder to write, or its address
        train: seconds of each recording to train on, such as 0-20
        val: seconds to validate on
        test: seconds to test on
        label_map: ids and names of the classes, such as '{"0": "car"}', or a file of them; that of the recordings'
            folders if not given
        sensor_height: height of the sensor in pixels, for recordings that do not tell it
        sensor_width: width of the sensor in pixels, for recordings that do not tell it
        skip_broken: leave recordings out that cannot be used, and list them at the end
    """
    from evlab import build as building

    config = settings.resolve()
    texts = {"train": train, "val": val, "test": test}
    cuts = {split: _seconds(split, text) for split, text in texts.items() if text is not None}
    sensor = sensor_height, sensor_width
    folder = building.build(
        recordings, output, config.data, cuts, _label_map(label_map), sensor=sensor, skip_broken=skip_broken
    )
    mounted = folder if isinstance(folder, Path) else "FOLDER, a copy of it or where it is mounted"
    print(f"dataset: {folder}\nnext: evlab train --data.dataset_path {mounted}")


def inspect(
    paths: list[str],
    settings: Settings,
    *,
    output: str | None = None,
    sensor_height: int | None = None,
    sensor_width: int | None = None,
) -> None:
    """Show what recordings or datasets hold: figures, and pictures of rate, boxes and sample frames.

    Args:
        paths: recordings, tensor files, or dataset folders
        output: folder for the pictures; runs/inspect-<name>-<time> if not given
        sensor_height: height of the sensor in pixels, for recordings that do not tell it
        sensor_width: width of the sensor in pixels, for recordings that do not tell it
    """
    from evlab.inspect import inspect as look

    for folder in look(paths, settings.resolve(), output, (sensor_height, sensor_width)):
        print(f"pictures: {folder}")


def check(paths: list[str], *, sensor_height: int | None = None, sensor_width: int | None = None) -> int:
    """Look for faults of a dataset: labels, times, classes, splits, broken files.

    A line a finding: error, if data cannot be used or would spoil a figure; warning, if it is odd. Ends with code 1
    if there is an error, else with 0, warnings or not.

    Args:
        paths: a dataset folder, or recordings or tensor files with labels beside them
        sensor_height: height of the sensor in pixels, for recordings that do not tell it
        sensor_width: width of the sensor in pixels, for recordings that do not tell it
    """
    from evlab.check import check as look

    return look(paths, (sensor_height, sensor_width))


def anchors(dataset: str, settings: Settings, *, lists: list[str] | None = None, output: str | None = None) -> None:
    """Show how lists of anchors cover the training labels, and fit lists to them, before any training.

    Args:
        dataset: dataset folder
        lists: names, fit:K for K fitted anchors, literal lists such as '[[1, 1], [2, 1]]', search spaces; the
            settings' own, all named and two fitted ones if not given
        output: folder for picture and CSV file; runs/anchors-<time> if not given
    """
    from evlab.anchors import anchors as look

    folder = look(settings.resolve(between={"data.dataset_path": dataset}), lists, output)
    print(f"picture and figures: {folder}")


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


def tune(settings: Settings, space: str | None = None, *, resume: str | None = None, dry_run: bool = False) -> None:
    """Search anchors, thresholds, widths, or any other setting.

    Args:
        space: YAML file of the search space, see tune_spaces/
        resume: folder of a study that was cut off, to go on with; its settings and space hold
        dry_run: show what would be searched, with what and at which cost, and start nothing
    """
    from evlab import tune as search
    from evlab.plan import describe_plan
    from evlab.space import load_space

    if resume is not None:
        if dry_run or space is not None or settings.file is not None or settings.overrides:
            raise ValueError("--resume: the study's own space and settings hold, allowed: nothing besides")
        result = search.resume(resume)
    elif space is None:
        raise ValueError("space: is missing, allowed: a YAML file of a search space, or --resume FOLDER")
    else:
        settings.resolve(between=load_space(space).settings)
        if dry_run:
            print(describe_plan(*search.prepare(settings.resolve(), space, settings.overrides)))
            return
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


def submit(
    command: Command,
    *,
    address: str | None = None,
    status: str | None = None,
    logs: str | None = None,
    stop: str | None = None,
    list: bool = False,
) -> int:
    """Run a command on a cluster: evlab submit -- tune space.yaml --config settings.yaml.

    Ships the code and the YAML files that the command names, follows the log, and ends as the command does. Ctrl-C
    leaves the job running. Commands: build, train, tune.

    Args:
        command: the command line after --
        address: Ray's job server; that of RAY_API_SERVER_ADDRESS or RAY_ADDRESS, or http://127.0.0.1:8265 if not given
        status: id of a job to say the state of
        logs: id of a job to follow again
        stop: id of a job to end
        list: show all jobs
    """
    from evlab import submit as jobs

    asked = {"--status": status, "--logs": logs, "--stop": stop, "--list": list or None, "-- VERB ...": command or None}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"submit: got {' and '.join(given) or 'nothing'}, allowed: one of {', '.join(asked)}")
    if not command:
        return jobs.look_after(given[0], status or logs or stop or "", address)
    if command[0] not in jobs.JOBS:
        raise ValueError(f"submit: got {command[0]!r}, allowed: {', '.join(jobs.JOBS)}")
    return jobs.submit(command, parse(command[0], VERBS[command[0]], command[1:]), address)


def doctor(settings: Settings, *, address: str | None = None) -> int:
    """Look at what is installed, reachable or mismatched: here, and on a cluster if one is named.

    The cluster is the one of --address or RAY_ADDRESS. With settings it is asked for what they need, too.

    Args:
        address: Ray's job server on the cluster, such as http://127.0.0.1:8265
    """
    from evlab.doctor import doctor as look

    config = settings.resolve()
    return look(config if settings.file is not None or settings.overrides else None, address)


VERBS: dict[str, Callable[..., int | None]] = {
    "quickstart": quickstart,
    "synth": synth,
    "build": build,
    "inspect": inspect,
    "check": check,
    "anchors": anchors,
    "train": train,
    "tune": tune,
    "evaluate": evaluate,
    "export": export,
    "registry": registry,
    "submit": submit,
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
