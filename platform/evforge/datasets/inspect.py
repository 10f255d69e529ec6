"""`evforge inspect`: statistics and figures of recordings and datasets."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.config import Config
from detector.config.groups import DataConfig
from detector.data.check.inventory import DataFile, Sensor, give_labels, label_names
from detector.data.check.statistics import LabelStatistics
from detector.data.check.survey import FileSurvey, frame_labels, sample_frames, survey_file
from detector.labels import LabelTiming, recording_stem
from evforge import one_line
from evforge.datasets.folders import find_files
from evforge.datasets.inspect_figures import Sample, boxes_figure, rate_figure, samples_figure
from evforge.datasets.inspect_text import survey_text
from evforge.display.figures import save_figure
from evforge.display.json_output import json_text, only_json
from evforge.training.run_folder import unique_folder

__all__ = ["inspect"]

NUM_SAMPLES = 8


def inspect(
    paths: Sequence[str],
    config: Config,
    output: str | None = None,
    sensor: Sensor = (None, None),
    timing: LabelTiming = LabelTiming(),  # noqa: B008  # it cannot be changed
    labels: str | None = None,
    as_json: bool = False,
) -> list[Path]:
    """Print statistics of recordings and datasets, and draw their figures.

    Args:
        paths: recordings, tensor files, dataset folders.
        config: settings; `data` states the smallest boxes that are evaluated, `train.storage` is the parent of new
            folders.
        output: folder for the figures. If there are several paths, each path has a subfolder. If None, a new folder is
            created for each path.
        sensor: height and width in pixels, for recordings that do not state them.
        timing: how the label times of recordings are determined.
        labels: label file or folder of a single recording; if None, labels are searched beside each recording.
        as_json: whether standard output is one JSON document instead of text.

    Returns:
        For each path, the folder with its figures.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: all files of a path are unreadable.
    """
    if labels is not None and len(paths) > 1:
        raise ValueError(f"--labels: got {labels} for {len(paths)} paths, allowed: a single recording")
    found = [(Path(path), give_labels(find_files(Path(path), sensor, timing, config.data), labels)) for path in paths]
    folders, facts = [], []
    for path, files in found:
        names = label_names(files)
        surveys, failures = _survey(files, config.data, names)
        with only_json(as_json):
            print(survey_text(path, surveys, names, config.data))
            for failure in failures:
                print(f"left out: {failure}")
        name = path.resolve().name.partition(".")[0]
        folder = Path(output) if output else unique_folder(config.train.storage, f"inspect-{name}")
        folder = folder / name if output and len(paths) > 1 else folder
        folders.append(_draw(folder, str(path), surveys, names, config.data))
        files_facts = [_facts(survey, names) for survey in surveys]
        facts.append({"path": path, "files": files_facts, "left_out": failures, "figures": folder})
    if as_json:
        print(json_text({"paths": facts}))
    return folders


def _facts(survey: FileSurvey, names: Mapping[int, str]) -> dict[str, Any]:
    """Return the statistics of a file as the dict that `--json` prints. Times are in microseconds, sizes in pixels."""
    labels, events = survey.labels, survey.events
    return {
        "path": survey.file.path,
        "split": survey.file.split,
        "format": survey.format,
        "sensor_height": survey.sensor_size[0],
        "sensor_width": survey.sensor_size[1],
        "network_height": survey.network_size[0],
        "network_width": survey.network_size[1],
        "first_t": survey.span[0],
        "last_t": survey.span[1],
        "delta_t": survey.delta_t,
        "num_frames": survey.num_frames,
        "num_events": int(events.counts.sum()) if events else None,
        "num_faulty_events": survey.faults.total if events else None,
        "mean_active_share": float(survey.active.mean()) if survey.active.size else None,
        "labels": labels
        and {
            "num_times": labels.times.size,
            "rate_hz": labels.rate_hz,
            "num_boxes": len(labels.sizes),
            "num_tracks": labels.num_tracks,
            "boxes_per_class": {names.get(key, str(key)): count for key, count in labels.class_counts().items()},
        },
    }


def _survey(
    files: Sequence[DataFile], data: DataConfig, names: Mapping[int, str]
) -> tuple[list[FileSurvey], list[str]]:
    """Compute the statistics of the tensor files, or of the recordings if there are no tensor files.

    Returns:
        The statistics of each readable file, and an error message for each unreadable file.
    """
    chosen = [file for file in files if file.is_tensor] or list(files)
    surveys, failures = [], []
    total = sum(file.path.stat().st_size for file in chosen)
    with tqdm(total=total, unit="B", unit_scale=True, desc="inspect", disable=None) as bar:
        for file in chosen:
            bar.set_postfix_str(file.path.name)
            size, start = file.path.stat().st_size, bar.n
            try:
                surveys.append(survey_file(file, data, names, partial(_advance, bar, size)))
            except (ValueError, OSError) as error:
                failures.append(error)
            bar.update(start + size - bar.n)
    if not surveys:
        raise failures[0]
    return surveys, [one_line(error) for error in failures]


def _advance(bar: tqdm, size: int, part: float) -> None:
    bar.update(int(part * size))


def _draw(folder: Path, title: str, surveys: Sequence[FileSurvey], names: Mapping[int, str], data: DataConfig) -> Path:
    """Write the figures to `folder` and return `folder`. The figure of box sizes is omitted if there are no labels."""
    labels = [survey.labels for survey in surveys if survey.labels]
    milliseconds = "/".join(sorted({f"{survey.delta_t / 1000:g}" for survey in surveys}))
    figures: dict[str, Callable[[], Any]] = {
        "event_rate": lambda: rate_figure(surveys, title),
        "samples": lambda: samples_figure(_samples(surveys, names), names, f"{title}: frames of {milliseconds} ms"),
    }
    if labels:
        text = f"{title}: first boxes, on the events of the {milliseconds} ms before them"
        figures["first_boxes"] = lambda: samples_figure(_first_boxes(surveys, names), names, text)
        figures["boxes"] = lambda: boxes_figure(LabelStatistics.join(labels), names, data, title)
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in figures.items():
        save_figure(folder / f"{name}.png", draw)
    return folder


def _samples(surveys: Sequence[FileSurvey], names: Mapping[int, str]) -> list[Sample]:
    """Load up to eight frames, evenly spread over the labelled times. Without labels, use the sampled times."""
    labelled = [(survey, int(time)) for survey in surveys if survey.labels for time in survey.labels.times]
    times = labelled or [(survey, int(time)) for survey in surveys for time in survey.sample_times]
    chosen = np.unique(np.linspace(0, len(times), NUM_SAMPLES, endpoint=False).astype(int) + len(times) // 16)
    return _load([times[index] for index in chosen] if times else [], names)


def _first_boxes(surveys: Sequence[FileSurvey], names: Mapping[int, str]) -> list[Sample]:
    """Load the frames of the first times with boxes, at most eight."""
    survey = next((survey for survey in surveys if survey.labels and len(survey.labels.sizes)), None)
    if survey is None:
        return []
    times = np.unique(frame_labels(survey, names)["t"])[:NUM_SAMPLES]
    return _load([(survey, int(time)) for time in times], names)


def _load(times: Sequence[tuple[FileSurvey, int]], names: Mapping[int, str]) -> list[Sample]:
    """Load the frames and boxes of files at the given times. The labels of each file are read once."""
    labels = {id(survey): frame_labels(survey, names) for survey, _ in times if survey.labels}
    samples = []
    for survey, time in times:
        (frame,) = sample_frames(survey.file, [time], survey.delta_t)
        found = labels.get(id(survey))
        boxes = None if found is None else found[found["t"] == time]
        samples.append(Sample(recording_stem(survey.file.path), time, frame, boxes))
    return samples
