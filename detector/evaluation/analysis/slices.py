"""Details of an evaluation: average precision by properties of boxes, reaction time, confusion and calibration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from detector.evaluation.analysis.matches import (
    Calibration,
    Confusion,
    OperatingPoint,
    best_operating_point,
    calibrate,
    confusion_matrix,
    found_labels,
    match_boxes,
)
from detector.evaluation.analysis.tracks import Reaction, find_waits, summarize_waits, track_motion
from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.evaluation.collector import Protocol, RecordingBoxes, evaluate_recordings

__all__ = ["SLICES", "Details", "Slice", "Slicing", "measure_details"]

Rates = Callable[[RecordingBoxes, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Slicing:
    """A quantity by which boxes are divided into slices.

    Args:
        title: name of the quantity.
        unit: unit of the edges.
        edges: increasing; a box on an edge is in the slice above it.
        of_detections: whether detections have it too; otherwise a false detection counts in every slice.
    """

    title: str
    unit: str
    edges: tuple[float, ...]
    of_detections: bool


SLICES = {
    "size": Slicing("box size, square root of the area", "px", (16, 32, 64, 96), True),
    "speed": Slicing("speed of the box's centre", "px/s", (10, 30, 100, 300), False),
    "event_rate": Slicing("events in the box", "events/px/s", (1, 3, 10, 30), True),
    "track_age": Slicing("time since the track's first label", "s", (0.25, 1, 4), False),
    "stream_age": Slicing("time since the stream began, without state", "s", (1, 2, 5, 20), True),
}


@dataclass(frozen=True)
class Slice:
    """Metrics of the boxes whose quantity is in [start, stop); None means no bound.

    Args:
        boxes: number of labels in the slice.
        ap: AP 0.50:0.95, mean over classes; None without labels, as are the next two.
        ap50: AP at IoU 0.5.
        recall: share of the labels that were found at the operating point.
    """

    start: float | None
    stop: float | None
    boxes: int
    ap: float | None
    ap50: float | None
    recall: float | None


@dataclass(frozen=True)
class Details:
    """All results beside mAP; boxes are matched at IoU 0.5.

    Args:
        operating_point: the score at which F1 is highest; confusion, recall and reaction time are measured there.
        slices: slices of each of `SLICES` whose quantity is known.
        confusion: pairs of labelled and detected classes.
        calibration: precision by score.
        reaction: event time from the first label of a track to its first detection.
    """

    operating_point: OperatingPoint
    slices: dict[str, list[Slice]]
    confusion: Confusion
    calibration: Calibration
    reaction: Reaction

    def to_dict(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {**asdict(self), "operating_point": self.operating_point._asdict()}


def measure_details(
    recordings: Sequence[RecordingBoxes],
    classes: Mapping[int, str],
    size: tuple[int, int],
    protocol: Protocol,
    rates: Rates | None = None,
) -> Details:
    """Analyse the detections of a detector.

    Args:
        recordings: labels and detections, see `FramePredictions.recordings`.
        classes: label map ids and names of the classes that count.
        size: height and width of a frame in pixels.
        protocol: rules for which boxes count.
        rates: function for the events per pixel and second in boxes of a recording; there are no slices by it if None.
    """
    evaluator = evaluate_recordings(recordings, classes, size, protocol)
    parts = [(boxes, match_boxes(boxes)) for boxes in evaluator.recordings]
    point = best_operating_point(parts)
    waits = [
        find_waits(recording, *part, protocol, point.score) for recording, part in zip(recordings, parts, strict=True)
    ]
    quantities = [_quantities(recording, rates) for recording in recordings]
    found = [found_labels(*part, point.score) for part in parts]
    slices = {
        name: _measure(evaluator, name, quantities, found)
        for name in SLICES
        if all(name in of_labels for of_labels, _ in quantities)
    }
    boxes = [part for part, _ in parts]
    confusion = confusion_matrix(boxes, evaluator.classes, point.score)
    return Details(point, slices, confusion, calibrate(parts), summarize_waits(waits))


def _quantities(recording: RecordingBoxes, rates: Rates | None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The quantities of `SLICES` that are known, of labels and of detections."""
    tracks = track_motion(recording.all_labels, recording.labels, recording.frames.delta_t)
    of_labels = {"speed": tracks.speed, "track_age": tracks.age}
    of_detections: dict[str, np.ndarray] = {}
    for boxes, values in ((recording.labels, of_labels), (recording.detections, of_detections)):
        values["size"] = np.sqrt(boxes["w"].astype(np.float64) * boxes["h"])
        values["stream_age"] = (boxes["t"] - recording.frames.first_t) / 1e6
        if rates is not None:
            values["event_rate"] = rates(recording, boxes)
    return of_labels, of_detections


def _measure(
    evaluator: CocoEvaluator,
    name: str,
    quantities: Sequence[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]],
    found: Sequence[np.ndarray],
) -> list[Slice]:
    """Metrics of each slice; `found` states which evaluated labels of each recording were found."""
    slicing = SLICES[name]
    bounds: list[float | None] = [None, *slicing.edges, None]
    labels = [_slice_of(of_labels[name], slicing) for of_labels, _ in quantities]
    detections = None
    if slicing.of_detections:
        detections = [_slice_of(of_detections[name], slicing) for _, of_detections in quantities]
    ap, ap50 = evaluator.precision_by(labels, len(bounds) - 1, detections)
    evaluated = [part[boxes.labels.row] for part, boxes in zip(labels, evaluator.recordings, strict=True)]
    slice_of, hit = np.concatenate(evaluated), np.concatenate(found)
    rows = []
    for index, (start, stop) in enumerate(pairwise(bounds)):
        inside = slice_of == index
        number = int(inside.sum())
        metrics = (float(ap[index]), float(ap50[index]), float(hit[inside].mean())) if number else (None, None, None)
        rows.append(Slice(start, stop, number, *metrics))
    return rows


def _slice_of(values: np.ndarray, slicing: Slicing) -> np.ndarray:
    return np.where(np.isnan(values), -1, np.digitize(values, slicing.edges))
