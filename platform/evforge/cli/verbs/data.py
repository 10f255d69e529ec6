"""Verbs about recordings and datasets: make, build, inspect, check, and anchors for them."""

from pathlib import Path
from typing import Literal

from evforge.cli.parser import Settings

__all__ = ["anchors", "build", "check", "inspect", "synth"]


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
    print(f"recordings and labels: {folder}\nnext: evforge build {folder}/*/*_td.dat --output DATASET")


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
    label_time_unit: Literal["us", "ms", "s", "ns"] = "us",
    label_offset: int = 0,
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
        label_time_unit: unit of the label times; other units than microseconds are rounded to them
        label_offset: microseconds to add to the label times, for labels shifted against the events
    """
    from evforge.datasets import build as building

    config = settings.resolve()
    texts = {"train": train, "val": val, "test": test}
    cuts = {split: _seconds(split, text) for split, text in texts.items() if text is not None}
    sensor = sensor_height, sensor_width
    folder = building.build(
        recordings,
        output,
        config.data,
        cuts,
        _label_map(label_map),
        sensor=sensor,
        skip_broken=skip_broken,
        label_time_unit=label_time_unit,
        label_offset=label_offset,
    )
    mounted = folder if isinstance(folder, Path) else "FOLDER, a copy of it or where it is mounted"
    print(f"dataset: {folder}\nnext: evforge train --data.dataset_path {mounted}")


def inspect(
    paths: list[str],
    settings: Settings,
    *,
    output: str | None = None,
    sensor_height: int | None = None,
    sensor_width: int | None = None,
    label_time_unit: Literal["us", "ms", "s", "ns"] = "us",
) -> None:
    """Show what recordings or datasets hold: figures, and pictures of rate, boxes and sample frames.

    Args:
        paths: recordings, tensor files, or dataset folders
        output: folder for the pictures; runs/inspect-<name>-<time> if not given
        sensor_height: height of the sensor in pixels, for recordings that do not tell it
        sensor_width: width of the sensor in pixels, for recordings that do not tell it
        label_time_unit: unit of the label times of recordings; datasets have microseconds
    """
    from evforge.datasets.inspect import inspect as look

    for folder in look(paths, settings.resolve(), output, (sensor_height, sensor_width), label_time_unit):
        print(f"pictures: {folder}")


def check(
    paths: list[str],
    settings: Settings,
    *,
    sensor_height: int | None = None,
    sensor_width: int | None = None,
    label_time_unit: Literal["us", "ms", "s", "ns"] = "us",
) -> int:
    """Look for faults of a dataset: labels, times, classes, splits, broken files.

    A line a finding: error, if data cannot be used or would spoil a figure; warning, if it is odd. Ends with code 1
    if there is an error, else with 0, warnings or not.

    Args:
        paths: a dataset folder, or recordings or tensor files with labels beside them
        sensor_height: height of the sensor in pixels, for recordings that do not tell it
        sensor_width: width of the sensor in pixels, for recordings that do not tell it
        label_time_unit: unit of the label times of recordings; datasets have microseconds
    """
    from evforge.datasets.check import check as look

    return look(paths, (sensor_height, sensor_width), label_time_unit, data=settings.resolve().data)


def anchors(dataset: str, settings: Settings, *, lists: list[str] | None = None, output: str | None = None) -> None:
    """Show how lists of anchors cover the training labels, and fit lists to them, before any training.

    Args:
        dataset: dataset folder
        lists: names, fit:K for K fitted anchors, literal lists such as '[[1, 1], [2, 1]]', search spaces; the
            settings' own, all named and two fitted ones if not given
        output: folder for picture and CSV file; runs/anchors-<time> if not given
    """
    from evforge.anchors.report import anchors as look

    folder = look(settings.resolve(between={"data.dataset_path": dataset}), lists, output)
    print(f"picture and figures: {folder}")


def _seconds(split: str, text: str) -> tuple[float, float]:
    first, _, last = text.partition("-")
    try:
        return float(first), float(last)
    except ValueError:
        raise ValueError(f"--{split}: got {text!r}, allowed: seconds from-to, such as 0-20") from None


def _label_map(text: str | None) -> dict[int, str] | None:
    from detector.data.label_map import parse_label_map, read_label_map

    if text is None:
        return None
    return parse_label_map(text, "--label_map") if text.lstrip().startswith("{") else read_label_map(text)
