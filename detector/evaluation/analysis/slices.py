"""Details of an evaluation: AP by properties of boxes, intervals of mAP, reaction time, confusion and calibration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from detector.evaluation.analysis.bootstrap import MapIntervals, map_intervals
from detector.evaluation.analysis.matches import (
    Calibration,
    Confusion,
    OperatingPoint,
    ThresholdCurve,
    calibrate,
    confusion_matrix,
    found_labels,
    match_boxes,
    threshold_curve,
)
from detector.evaluation.analysis.tracks import Reaction, find_waits, summarize_waits, track_motion
from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.evaluation.collector import Protocol, RecordingBoxes, evaluate_recordings

__all__ = ["ALL_CLASSES", "SLICES", "Details", "Slice", "Slicing", "measure_details"]

ALL_CLASSES = "(all classes)"
"""Key of all classes together in `Details.thresholds`, a name that no class has."""

Rates = Callable[[RecordingBoxes, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Slicing:
    """A quantity, such as speed, that divides boxes into slices. A slice is a range of the quantity.

    Args:
        title: name of the quantity.
        unit: unit of the edges.
        edges: increasing bounds between slices. A box whose value equals an edge is in the slice above this edge.
        of_detections: whether the quantity is known for detections, too. If not, a false detection is false in every
            slice.
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
    """Metrics of the boxes whose quantity is in [start, stop). A metric is None without labels.

    Args:
        start: lower bound; None for the first slice.
        stop: upper bound; None for the last slice.
        boxes: number of labels in the slice.
        ap: AP at IoU 0.50:0.95, mean over the classes.
        ap50: AP at IoU 0.5, mean over the classes.
        recall: share of the labels that match a detection with at least the score of `Details.operating_point`.
    """

    start: float | None
    stop: float | None
    boxes: int
    ap: float | None
    ap50: float | None
    recall: float | None


@dataclass(frozen=True)
class Details:
    """Results of an evaluation in addition to mAP. Boxes are matched at IoU 0.5.

    Args:
        operating_point: the score threshold with the highest F1. `confusion`, `reaction` and the recall in `slices`
            include only detections with at least this score.
        slices: dict from the name of a quantity (key of `SLICES`) to the metrics of its slices. Quantities that cannot
            be computed are missing.
        confusion: confusion matrix of labelled and detected classes.
        calibration: precision of detections by score.
        reaction: time from the first label of a track to the first detection of the track, measured in the recording.
            The time that the detector needs for its computations is not included.
        thresholds: F1, precision and recall by score threshold, by class name; first `ALL_CLASSES` together.
        intervals: intervals of mAP.
    """

    operating_point: OperatingPoint
    slices: dict[str, list[Slice]]
    confusion: Confusion
    calibration: Calibration
    reaction: Reaction
    thresholds: dict[str, ThresholdCurve] = field(default_factory=dict)
    intervals: MapIntervals = MapIntervals()

    def to_dict(self) -> dict[str, Any]:
        """Return all results as a dict that can be written as JSON. Of curves, it contains the best thresholds."""
        best = {name: {"labels": curve.labels, **curve.best._asdict()} for name, curve in self.thresholds.items()}
        tuples = {"operating_point": self.operating_point._asdict(), "intervals": self.intervals._asdict()}
        return {**asdict(self), **tuples, "thresholds": best}


def measure_details(
    recordings: Sequence[RecordingBoxes],
    classes: Mapping[int, str],
    size: tuple[int, int],
    protocol: Protocol,
    rates: Rates | None = None,
) -> Details:
    """Compute the results of an evaluation in addition to mAP.

    Args:
        recordings: labels and detections, see `FramePredictions.recordings`.
        classes: names of the evaluated classes, by class id in the label map.
        size: height and width of a frame in pixels.
        protocol: settings of the evaluation.
        rates: function `f(recording, boxes)` that returns the events per pixel and second inside each box. If None,
            there are no slices by event rate.
    """
    evaluator = evaluate_recordings(recordings, classes, size, protocol)
    parts = [(boxes, match_boxes(boxes)) for boxes in evaluator.recordings]
    thresholds = {ALL_CLASSES: threshold_curve(parts)}
    thresholds |= {name: threshold_curve(parts, key) for key, name in evaluator.classes.items()}
    point = thresholds[ALL_CLASSES].best
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
    intervals = map_intervals(boxes, evaluator.classes)
    return Details(point, slices, confusion, calibrate(parts), summarize_waits(waits), thresholds, intervals)


def _quantities(recording: RecordingBoxes, rates: Rates | None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return two dicts from names in `SLICES` to the value of each box: one for labels, one for detections."""
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
    """Compute the metrics of each slice of a quantity.

    Args:
        evaluator: evaluator that contains the recordings.
        name: key of `SLICES`.
        quantities: for each recording, the quantities of its labels and of its detections by name.
        found: for each recording, whether each evaluated label is matched with a detection, see `found_labels`.
    """
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
