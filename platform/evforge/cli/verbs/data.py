"""Verbs about recordings and datasets: synth, labels, build, inspect, check, anchors."""

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Literal

from detector.config.label_timing import LabelTiming
from evforge.cli.settings import Settings
from evforge.cli.verbs.next_command import print_next

__all__ = ["anchors", "build", "check", "inspect", "labels", "synth"]


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
    """Write synthetic recordings with labels: a simulated event camera records moving objects.

    Args:
        output: folder to write to
        train: number of recordings to train on
        val: number of recordings to validate on
        test: number of recordings to test on
        duration_s: duration of each recording in seconds
        height: height of the sensor in pixels
        width: width of the sensor in pixels
        seed: random seed
    """
    from detector.synthetic import write_dataset

    counts = {"train": train, "val": val, "test": test}
    folder = write_dataset(output, counts, duration_s, height, width, seed=seed)
    print(f"recordings and labels: {folder}")
    print(f"next: evforge build {shlex.quote(str(folder))}/*/*_td.dat --output DATASET")


def build(
    recordings: list[str],
    settings: Annotated[Settings, "data"],
    *,
    output: str,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    label_map: str | None = None,
    sensor_height: int | None = None,
    sensor_width: int | None = None,
    skip_broken: bool = False,
    labels: str | None = None,
    layout: str | None = None,
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
) -> None:
    """Build a dataset folder of tensor files from recordings and their labels.

    By default, the split of a recording is the name of its folder (train, val or test). --train, --val and --test
    select splits by time instead. If the command is repeated, finished files are kept. Ray builds several recordings in
    parallel if they have at least 1 GB in total, or any size if RAY_ADDRESS is the address of a cluster.

    Args:
        recordings: files, folders with recordings at any depth, or addresses such as 's3://bucket/*/*_td.dat'; the
            labels of X.raw and X_td.dat are searched beside them, as X_bbox.npy, X.json (COCO), X_labels/ (YOLO),
            X_voc/ (Pascal VOC) and in other formats
        output: dataset folder to write, or its address
        train: range of seconds of each recording to train on, such as 0-20
        val: range of seconds of each recording to validate on
        test: range of seconds of each recording to test on
        label_map: ids and names of the classes, such as '{"0": "car"}', or a JSON file; the label map in the
            recordings' folders, or the classes named by the labels, if not given
        sensor_height: height of the sensor in pixels, for recordings that do not contain it
        sensor_width: width of the sensor in pixels, for recordings that do not contain it
        skip_broken: skip unusable recordings and list them at the end
        labels: label file, or folder of label files, of a single recording
        layout: name of a public dataset, whose unpacked folder is given as recordings: gen1, 1mpx, dsec_det, pedro,
            etram, etram_8, fred, mevdt, rvt_gen1, rvt_1mpx, or the import path of a Layout
        timing: how the label times are determined
    """
    from evforge.datasets import build as building
    from evforge.training.dry_step import check_representation

    config = settings.resolve()
    check_representation(config.data)
    texts = {"train": train, "val": val, "test": test}
    folder = building.build(
        recordings,
        output,
        config.data,
        {split: _seconds(split, text) for split, text in texts.items() if text is not None},
        _label_map(label_map),
        sensor=(sensor_height, sensor_width),
        skip_broken=skip_broken,
        labels=labels,
        layout=layout,
        timing=timing,
    )
    _print_dataset(folder, settings)


def inspect(
    paths: list[str],
    settings: Annotated[Settings, "data", "train"],
    *,
    output: str | None = None,
    sensor_height: int | None = None,
    sensor_width: int | None = None,
    labels: str | None = None,
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    json: bool = False,
) -> None:
    """Print and plot the contents of recordings or datasets: event rates, boxes, sample frames.

    Args:
        paths: recordings, tensor files, or dataset folders
        output: folder for the figures; runs/inspect-<name>-<time> if not given
        sensor_height: height of the sensor in pixels, for recordings that do not contain it
        sensor_width: width of the sensor in pixels, for recordings that do not contain it
        labels: label file, or folder of label files, of a single recording
        timing: how the label times of recordings are determined; datasets always use microseconds
        json: print the results as one JSON document
    """
    from evforge.datasets.inspect import inspect as run

    sensor = sensor_height, sensor_width
    folders = run(paths, settings.resolve(), output, sensor, timing, labels, as_json=json)
    if not json:
        for folder in folders:
            print(f"figures: {folder}")
        print_next("check", *paths, *_flags(sensor, labels, timing), settings=settings, groups=("data", "train"))


def check(
    paths: list[str],
    settings: Annotated[Settings, "data", "train"],
    *,
    output: str | None = None,
    sensor_height: int | None = None,
    sensor_width: int | None = None,
    labels: str | None = None,
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    json: bool = False,
) -> int:
    """Check recordings or a dataset for faults of labels, events, times, classes, splits and files, and draw them.

    Prints one line per fault, for at most ten faults of each kind. A fault is an error if data cannot be used or would
    make results wrong, and a warning if data is unusual. The exit code is 1 if there is an error, otherwise 0.

    Args:
        paths: either a dataset folder, or recordings and tensor files with labels in the same folder
        output: folder for the figures of the faults; runs/check-<name>-<time> if not given
        sensor_height: height of the sensor in pixels, for recordings that do not contain it
        sensor_width: width of the sensor in pixels, for recordings that do not contain it
        labels: label file, or folder of label files, of a single recording
        timing: how the label times of recordings are determined; datasets always use microseconds
        json: print the results as one JSON document
    """
    from evforge.datasets.check import check as run

    config = settings.resolve()
    sensor = sensor_height, sensor_width
    storage = config.train.storage
    code = run(paths, sensor, timing, data=config.data, output=output, storage=storage, labels=labels, as_json=json)
    if json:
        return code
    flags, both = _flags(sensor, labels, timing), ("data", "train")
    are_tensors = all(map(_has_tensors, map(Path, paths)))
    if code:
        print("to mend: the errors above; each names what is allowed")
        print_next("check", *paths, *flags, settings=settings, groups=both)
    elif not are_tensors:
        print_next("build", *paths, "--output", "DATASET", *flags, settings=settings, groups=("data",))
    elif len(paths) == 1 and all((Path(paths[0]) / split).is_dir() for split in ("train", "val")):
        print_next("train", "--data.dataset_path", paths[0], settings=settings, groups=both)
    else:
        print_next("inspect", *paths, settings=settings, groups=both)
    return code


def labels(
    action: Literal["convert"],
    source: str,
    target: str,
    settings: Annotated[Settings, "data"],
    *,
    to: str | None = None,
    recording: str | None = None,
    label_map: str | None = None,
    sensor_height: int | None = None,
    sensor_width: int | None = None,
    overwrite: bool = False,
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
) -> None:
    """Convert labels from one format to another.

    Formats with one file per image, or with image numbers, also get a file timestamps.txt with the time of each image.

    Args:
        source: label file or folder; its format is detected, or given by --data.label_format
        target: label file or folder to write
        to: format to write: npy, coco, yolo, voc, mot, csv, or an import path; by default found from the name of target
        recording: the recording that the labels belong to, needed if the labels are relative to the image
        label_map: ids and names of the classes, such as '{"0": "car"}', or a JSON file; by default the names in source
        sensor_height: height of the sensor in pixels, for recordings that do not contain it
        sensor_width: width of the sensor in pixels, for recordings that do not contain it
        overwrite: replace an existing target; folders are not replaced
        timing: how the times of the labels are determined
    """
    from evforge.datasets.labels import convert

    names = _label_map(label_map)
    sensor = sensor_height, sensor_width
    data = settings.resolve().data
    convert(
        source,
        target,
        data,
        to=to,
        recording=recording,
        label_map=names,
        sensor=sensor,
        timing=timing,
        overwrite=overwrite,
    )
    kept = {key: text for key, text in settings.overrides.items() if key != "data.label_format"}  # that of the source
    words = [recording or "RECORDING", *_flags(sensor, target, LabelTiming())]
    print_next("check", *words, settings=replace(settings, overrides=kept), groups=("data",))


def anchors(
    dataset: str,
    settings: Annotated[Settings, "data", "model", "anchors", "train"],
    *,
    lists: list[str] | None = None,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Compare anchor lists without a training: measure how well they match the training labels, and fit new lists.

    Args:
        dataset: dataset folder
        lists: lists to compare: names of lists, fit:K for K fitted anchors, literal lists such as '[[1, 1], [2, 1]]',
            or YAML files of search spaces; if not given, the list of the settings, all named lists and two fitted lists
        output: folder for the figure and the CSV file; runs/anchors-<time> if not given
        json: print the results as one JSON document
    """
    from evforge.anchors.report import anchors as run

    folder = run(settings.resolve(between={"data.dataset_path": dataset}), lists, output, as_json=json)
    if not json:
        print(f"figure and CSV file: {folder}")
        groups = "data", "model", "anchors", "train"
        print_next("train", "--data.dataset_path", dataset, settings=settings, groups=groups)


def _print_dataset(folder: object, settings: Settings) -> None:
    """Print the path or address of a built dataset, and the command that trains with it."""
    print(f"dataset: {folder}")
    if not isinstance(folder, Path):
        print("to train: copy the dataset to a folder, or mount it; FOLDER is the path of this folder")
    path = folder if isinstance(folder, Path) else "FOLDER"
    print_next("train", "--data.dataset_path", path, settings=settings, groups=("data",))


def _flags(sensor: tuple[int | None, int | None], labels: str | None, timing: LabelTiming) -> list[str]:
    """Return the words of flags that were given for recordings."""
    given: dict[str, object] = {"sensor_height": sensor[0], "sensor_width": sensor[1], "labels": labels}
    for entry in fields(LabelTiming):
        value = getattr(timing, entry.name)
        given[f"label_{entry.name}"] = None if value == entry.default else value
    return [f"--{name}={value}" for name, value in given.items() if value is not None]


def _has_tensors(path: Path) -> bool:
    """Return whether a path is a tensor file, or a folder of tensor files, which `evforge build` writes."""
    from detector.data.check.inventory import find_data

    try:
        return all(file.is_tensor for file in find_data(path))
    except (ValueError, FileNotFoundError):  # addresses, or recordings in subfolders
        return False


def _seconds(split: str, text: str) -> tuple[float, float]:
    first, _, last = text.partition("-")
    try:
        return float(first), float(last)
    except ValueError:
        raise ValueError(f"--{split}: got {text!r}, allowed: a range of seconds, such as 0-20") from None


def _label_map(text: str | None) -> dict[int, str] | None:
    from detector.data.label_map import parse_label_map, read_label_map

    if text is None:
        return None
    if text.lstrip().startswith("{"):
        return parse_label_map(text, "--label_map")
    if not Path(text).is_file():
        allowed = 'ids and names, such as \'{"1": "person"}\', or a JSON file of them'
        raise ValueError(f"--label_map: got {text!r}, allowed: {allowed}")
    return read_label_map(text)
