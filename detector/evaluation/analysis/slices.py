"""An evaluation in detail: average precision by what a box is like, reaction time, confusion and calibration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from detector.evaluation.analysis.tracks import Reaction, find_waits, summarize_waits, track_figures
from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.evaluation.collector import Protocol, RecordingBoxes

__all__ = ["SLICES", "Details", "Slice", "Slicing", "measure_details"]

Rates = Callable[[RecordingBoxes, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Slicing:
    """A quantity by which boxes are told apart.

    Args:
        title: what it is.
        unit: of the edges.
        edges: increasing; a box on an edge lies in the slice above it.
        of_detections: whether a detection has it too; else a false detection counts in every slice.
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
    "stream_age": Slicing("time since the stream began, without memory", "s", (1, 2, 5, 20), True),
}


@dataclass(frozen=True)
class Slice:
    """Figures of the boxes whose quantity lies in [start, stop); None stands for no bound.

    Args:
        boxes: labels in it.
        ap: AP 0.50:0.95, mean over classes; None without labels, as the two below.
        ap50: AP at IoU 0.5.
        recall: share of its labels that were found at the operating point.
    """

    start: float | None
    stop: float | None
    boxes: int
    ap: float | None
    ap50: float | None
    recall: float | None


@dataclass(frozen=True)
class Details:
    """All figures beside mAP; matches are at IoU 0.5.

    Args:
        operating_point: the score at which F1 is highest; confusion, recall and reaction time are measured there.
        slices: of each of `SLICES`, those whose quantity is known.
        confusion: what was found for what.
        calibration: what scores are worth.
        reaction: how long tracks wait for their first detection, in event time.
    """

    operating_point: OperatingPoint
    slices: dict[str, list[Slice]]
    confusion: Confusion
    calibration: Calibration
    reaction: Reaction

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "operating_point": self.operating_point._asdict()}


def measure_details(
    recordings: Sequence[RecordingBoxes],
    classes: Mapping[int, str],
    size: tuple[int, int],
    protocol: Protocol,
    rates: Rates | None = None,
) -> Details:
    """Look closer at what a detector said.

    Args:
        recordings: labels and detections, see `FramePredictions.recordings`.
        classes: label map ids and names of the classes that count.
        size: height and width of a frame in pixels.
        protocol: by which boxes count.
        rates: events a pixel and second in boxes of a recording; slices by it are left out if None.
    """
    evaluator = protocol.evaluator(classes, size)
    boxes_of = [r.labels for r in recordings], [r.detections for r in recordings]
    evaluator.partial_eval(*boxes_of, [r.frames for r in recordings])
    parts = [(boxes, match_boxes(boxes)) for boxes in evaluator.recordings]
    point = best_operating_point(parts)
    waits = [
        find_waits(recording, *part, protocol, point.score) for recording, part in zip(recordings, parts, strict=True)
    ]
    quantities = [_quantities(recording, rates) for recording in recordings]
    found = [found_labels(*part, point.score) for part in parts]
    slices = {}
    for name, slicing in SLICES.items():
        if all(name in of_labels for of_labels, _ in quantities):
            labels = [_slice_of(of_labels[name], slicing) for of_labels, _ in quantities]
            detections = (
                [_slice_of(of_detections[name], slicing) for _, of_detections in quantities]
                if slicing.of_detections
                else None
            )
            slices[name] = _measure(evaluator, slicing, labels, detections, found)
    boxes = [part for part, _ in parts]
    confusion = confusion_matrix(boxes, evaluator.classes, point.score)
    return Details(point, slices, confusion, calibrate(parts), summarize_waits(waits))


def _quantities(recording: RecordingBoxes, rates: Rates | None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of labels and of detections the quantities of `SLICES` that are known."""
    tracks = track_figures(recording.all_labels, recording.labels, recording.frames.delta_t)
    of_labels = {"speed": tracks.speed, "track_age": tracks.age}
    of_detections: dict[str, np.ndarray] = {}
    for boxes, values in ((recording.labels, of_labels), (recording.detections, of_detections)):
        values["size"] = np.sqrt(boxes["w"].astype(np.float64) * boxes["h"])
        values["stream_age"] = (boxes["t"] - recording.frames.first_t) / 1e6
        if rates is not None:
            values["event_rate"] = rates(recording, boxes)
    return of_labels, of_detections


def _slice_of(values: np.ndarray, slicing: Slicing) -> np.ndarray:
    return np.where(np.isnan(values), -1, np.digitize(values, slicing.edges))


def _measure(
    evaluator: CocoEvaluator,
    slicing: Slicing,
    labels: Sequence[np.ndarray],
    detections: Sequence[np.ndarray] | None,
    found: Sequence[np.ndarray],
) -> list[Slice]:
    bounds: list[float | None] = [None, *slicing.edges, None]
    count = len(bounds) - 1
    ap, ap50 = evaluator.precision_by(labels, count, detections)
    evaluated = [part[boxes.label_row] for part, boxes in zip(labels, evaluator.recordings, strict=True)]
    slice_of, hit = np.concatenate(evaluated), np.concatenate(found)
    rows = []
    for index in range(count):
        inside = slice_of == index
        number = int(inside.sum())
        figures = (float(ap[index]), float(ap50[index]), float(hit[inside].mean())) if number else (None, None, None)
        rows.append(Slice(bounds[index], bounds[index + 1], number, *figures))
    return rows
