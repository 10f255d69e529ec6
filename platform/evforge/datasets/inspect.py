"""`evforge inspect`: figures and pictures of a recording or a dataset."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.config import Config
from detector.config.groups import DataConfig
from detector.data.check.inventory import DataFile, Sensor, find_data
from detector.data.check.statistics import LabelStatistics
from detector.data.check.survey import FileSurvey, labels_at, sample_frames, survey_file
from detector.data.label_map import label_map_near, read_label_map
from detector.labels import TimeUnit
from detector.utils.atomic_write import atomic_write
from detector.utils.decoration import decoration
from evforge import one_line
from evforge.datasets.inspect_figures import Sample, boxes_figure, rate_figure, samples_figure
from evforge.datasets.inspect_text import survey_text
from evforge.training.run_folder import unique_folder

__all__ = ["inspect"]

NUM_PICTURES = 8


def inspect(
    paths: Sequence[str],
    config: Config,
    output: str | None = None,
    sensor: Sensor = (None, None),
    label_time_unit: TimeUnit = "us",
) -> list[Path]:
    """Print figures of each path and draw its pictures.

    Args:
        paths: recordings, tensor files, dataset folders.
        config: `data` says which boxes the protocol drops, `train.storage` where folders of runs lie.
        output: folder for the pictures, with a folder of its own for each of several paths.
        sensor: height and width in pixels, for recordings that do not tell them.
        label_time_unit: unit of the label times of recordings.

    Returns:
        The folder of each path's pictures.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: none of a path's files can be read.
    """
    found = [(Path(path), find_data(path, sensor, label_time_unit)) for path in paths]
    folders = []
    for path, files in found:
        names = _label_map(files[0].path)
        surveys, failures = _survey(files, config.data, names)
        print(survey_text(path, surveys, names, config.data))
        for failure in failures:
            print(f"left out: {failure}")
        name = path.resolve().name.partition(".")[0]
        folder = Path(output) if output else unique_folder(config.train.storage, f"inspect-{name}")
        folder = folder / name if output and len(paths) > 1 else folder
        folders.append(_draw(folder, str(path), surveys, names, config.data))
    return folders


def _label_map(path: Path) -> dict[int, str]:
    found = label_map_near(path)
    return read_label_map(found) if found else {}


def _survey(
    files: Sequence[DataFile], data: DataConfig, names: Mapping[int, str]
) -> tuple[list[FileSurvey], list[str]]:
    """Every file that can be read, and why the others cannot; of recordings beside tensor files, the latter alone."""
    chosen = [file for file in files if file.is_tensor] or list(files)
    surveys, failures = [], []
    total = sum(file.path.stat().st_size for file in chosen)
    with tqdm(total=total, unit="B", unit_scale=True, desc="inspect") as bar:
        for file in chosen:
            bar.set_postfix_str(file.path.name)
            size = file.path.stat().st_size
            end = bar.n + size
            try:
                surveys.append(survey_file(file, data, names, partial(_advance, bar, size)))
            except (ValueError, OSError) as error:
                failures.append(error)
            bar.update(end - bar.n)
    if not surveys:
        raise failures[0]
    return surveys, [one_line(error) for error in failures]


def _advance(bar: tqdm, size: int, part: float) -> None:
    bar.update(int(part * size))


def _draw(folder: Path, title: str, surveys: Sequence[FileSurvey], names: Mapping[int, str], data: DataConfig) -> Path:
    """Write the figures; a path without labels has no figure of boxes."""
    labels = [survey.labels for survey in surveys if survey.labels]
    milliseconds = "/".join(sorted({f"{survey.delta_t / 1000:g}" for survey in surveys}))
    figures: dict[str, Callable[[], Any]] = {
        "event_rate": lambda: rate_figure(surveys, title),
        "samples": lambda: samples_figure(_samples(surveys), names, f"{title}: frames of {milliseconds} ms"),
    }
    if labels:
        figures["boxes"] = lambda: boxes_figure(LabelStatistics.join(labels), names, data, title)
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in figures.items():
        path = folder / f"{name}.png"
        with decoration(str(path)), atomic_write(path) as part:
            draw().savefig(part, format="png")
    return folder


def _samples(surveys: Sequence[FileSurvey]) -> list[Sample]:
    """Frames spread over all labelled times, or over all frames where nothing is labelled."""
    labeled = any(survey.labels and survey.labels.times.size for survey in surveys)
    times = [
        (survey, int(time))
        for survey in surveys
        for time in (survey.sample_times if not labeled else survey.labels.times if survey.labels else ())
    ]
    chosen = np.unique(np.linspace(0, len(times), NUM_PICTURES, endpoint=False).astype(int) + len(times) // 16)
    return [_sample(*times[index]) for index in chosen if index < len(times)]


def _sample(survey: FileSurvey, time: int) -> Sample:
    (frame,) = sample_frames(survey.file, [time], survey.delta_t)
    boxes = labels_at(survey, time) if survey.labels else None
    return Sample(survey.file.labels_path.name.removesuffix("_bbox.npy"), time, frame, boxes)
