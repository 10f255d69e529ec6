"""COCO mAP by the protocol of event-camera detection: boxes are matched by time, then by IoU.

The measure itself is pycocotools'. What is particular to event cameras, as in Perot et al., "Learning to detect objects
with a 1 megapixel event camera" (NeurIPS 2020): labels come at single moments, only those moments count, boxes at the
start of a recording and small boxes do not.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["CocoEvaluator", "TimedBoxes", "filter_boxes"]

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
BOX_FIELDS = ("t", "x", "y", "w", "h", "class_id")


def filter_boxes(
    boxes: np.ndarray, first_t: int, skip_us: float, min_box_diag: float, min_box_side: float
) -> np.ndarray:
    """The boxes that count: not at the start of a recording and not too small. For labels and detections alike.

    A row with w = h = 0 is no box: it marks a frame that was looked at and holds none. Such rows stay, but for those at
    the start.

    Args:
        boxes: (M,) structured boxes.
        first_t: time in microseconds at which the recording's first frame starts.
        skip_us: boxes with `t - first_t <= skip_us` are dropped; 0 drops none.
        min_box_diag: smallest diagonal in pixels that stays.
        min_box_side: smallest width and smallest height in pixels that stay.

    Returns:
        The rows that stay, in their order.
    """
    width, height = boxes["w"].astype(np.float64), boxes["h"].astype(np.float64)
    large = (width**2 + height**2 >= min_box_diag**2) & (width >= min_box_side) & (height >= min_box_side)
    late = boxes["t"] - first_t > skip_us if skip_us > 0 else np.ones(len(boxes), bool)
    return boxes[late & (large | _is_marker(boxes))]


class TimedBoxes(NamedTuple):
    """Boxes of one recording by labelled frame, as plain arrays: what `CocoEvaluator` keeps.

    Args:
        num_frames: labelled frames F.
        label_frame: (M,) frame 0..F-1 of every label.
        label_boxes: (M, 4) x, y, w, h in pixels.
        label_class: (M,) label map ids.
        detection_frame: (D,) likewise for the detections; one can stand in several frames.
        detection_boxes: (D, 4)
        detection_class: (D,)
        detection_score: (D,)
    """

    num_frames: int
    label_frame: np.ndarray
    label_boxes: np.ndarray
    label_class: np.ndarray
    detection_frame: np.ndarray
    detection_boxes: np.ndarray
    detection_class: np.ndarray
    detection_score: np.ndarray


class CocoEvaluator:
    """Mean average precision over recordings.

    **Which frames count.** Every labelled time is a frame; detections far from all of them are ignored. A label row
    whose class is not in `classes`, or with w = h = 0, makes its time a labelled frame without adding a box.

    **Which detections belong to a frame.** The protocol allows detections within `time_tol` of the labelled time,
    bounds included. Of these a frame takes the ones of the **nearest** detection time (of two equally near the later,
    whose frame holds the labelled moment). The public toolbox (prophesee-ai/prophesee-automotive-dataset-toolbox,
    Apache-2.0) takes all of them. That is the same where the next detections lie beyond the tolerance; but of a
    detector that answers every 50 ms it takes three copies of every object, two of which count as false.
    A detection row whose class is not in `classes` marks a time at which the detector answered "nothing"; without
    such a row a frame that got no answer takes its neighbour's.

    Boxes are cropped to the frame. Areas are in the pixels of the boxes given: small below 32^2, big above 96^2.

    **Merging.** `recordings` is a list of plain arrays, so partial results of several evaluators are joined by
    `a.recordings += b.recordings`; their order does not matter but for ties of scores.

    Args:
        classes: label map ids and names, or names of the ids 0, 1, ...; a class named "empty" is no class.
        height: frame height in pixels.
        width: frame width in pixels.
        time_tol: largest distance in microseconds between a label and its detections.
        eval_rate: frames a second that are evaluated, of the labelled ones those nearest to a regular grid that starts
            at a recording's first; -1 takes all.
        verbose: whether pycocotools prints its table.

    Raises:
        ValueError: no class, a frame without area, a negative tolerance, a rate that is neither -1 nor positive.
    """

    def __init__(  # noqa: PLR0917
        self,
        classes: Mapping[int, str] | Sequence[str],
        height: int,
        width: int,
        time_tol: int = 50_000,
        eval_rate: float = -1,
        verbose: bool = False,
    ) -> None:
        names = classes if isinstance(classes, Mapping) else dict(enumerate(classes))
        self.classes = {int(key): name for key, name in sorted(names.items()) if name != "empty"}
        if not self.classes:
            raise ValueError(f"classes: got {classes!r}, allowed: at least one name besides 'empty'")
        if len(set(self.classes.values())) != len(self.classes):
            raise ValueError(f"classes: got {classes!r}, allowed: distinct names")
        if height <= 0 or width <= 0:
            raise ValueError(f"height, width: got {height}, {width}, allowed: numbers above 0")
        if time_tol < 0:
            raise ValueError(f"time_tol: got {time_tol}, allowed: microseconds of at least 0")
        if eval_rate != -1 and eval_rate <= 0:
            raise ValueError(
                f"eval_rate: got {eval_rate}, allowed: -1 for every labelled time, or a rate in Hz above 0"
            )
        self.height, self.width, self.time_tol, self.eval_rate, self.verbose = (
            height,
            width,
            time_tol,
            eval_rate,
            verbose,
        )
        self.recordings: list[TimedBoxes] = []
        self._precision: np.ndarray | None = None

    def partial_eval(self, labels: Sequence[np.ndarray], detections: Sequence[np.ndarray]) -> None:
        """Add recordings.

        Args:
            labels: for every recording its (M,) structured boxes with the fields of `BBOX_dtype`, in any order of rows
                and fields, packed or not.
            detections: for every recording its (D,) structured boxes; `class_confidence` is the score.

        Raises:
            ValueError: the lists differ in length, or fields are missing.
        """
        if len(labels) != len(detections):
            raise ValueError(
                f"labels, detections: got {len(labels)} and {len(detections)} recordings, allowed: as many"
            )
        for label_rows, detection_rows in zip(labels, detections, strict=True):
            _require_fields("labels", label_rows, BOX_FIELDS)
            _require_fields("detections", detection_rows, (*BOX_FIELDS, "class_confidence"))
            self.recordings.append(self._match(label_rows, detection_rows))

    def accumulate(self) -> dict[str, float]:
        """Measure all recordings added so far.

        Returns:
            `mean_ap` (IoU 0.50:0.95), `mean_ap50`, `mean_ap75`, `mean_ap_small`, `mean_ap_medium`, `mean_ap_big` and
            `mean_ap_<class name>`. The keys are always the same, so that a logger or a scheduler never misses one, and
            the values never nan: where no label can be measured by (no box of that size or class, or none at all) the
            value is 0.0. A class without labels does not enter the means over classes.
        """
        precision = self._precision = self._evaluate()
        all_areas = precision[..., 0]
        results = {
            "mean_ap": _mean(all_areas),
            "mean_ap50": _mean(all_areas[_iou_index(0.5)]),
            "mean_ap75": _mean(all_areas[_iou_index(0.75)]),
        }
        for area, size in enumerate(("small", "medium", "big"), start=1):
            results[f"mean_ap_{size}"] = _mean(precision[..., area])
        for index, name in enumerate(self.classes.values()):
            results[f"mean_ap_{name}"] = _mean(all_areas[..., index])
        return results

    def precision_recall(self, iou: float = 0.5) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Curves of the last `accumulate()`, boxes of all sizes.

        Args:
            iou: threshold of a match, one of 0.50, 0.55, ..., 0.95.

        Returns:
            class name -> (recall (101,) 0, 0.01, ..., 1, interpolated precision (101,)); the precision is 0 beyond the
            highest recall reached and where the class has no labels.

        Raises:
            ValueError: another threshold.
            RuntimeError: `accumulate()` has not been called.
        """
        if self._precision is None:
            raise RuntimeError("precision_recall: nothing measured yet, call accumulate() first")
        curves = np.maximum(self._precision[_iou_index(iou), :, :, 0], 0.0)
        return {name: (RECALLS.copy(), curves[:, index].copy()) for index, name in enumerate(self.classes.values())}

    def _match(self, labels: np.ndarray, detections: np.ndarray) -> TimedBoxes:
        """The labels and detections of every evaluated frame of one recording."""
        frame_times = _thin(np.unique(labels["t"]).astype(np.int64), self.eval_rate)
        label_frame = np.searchsorted(frame_times, labels["t"])
        evaluated = np.isin(labels["t"], frame_times) & self._is_box(labels)
        rows, detection_frame = _nearest_detections(frame_times, detections["t"].astype(np.int64), self.time_tol)
        found = self._is_box(detections[rows])
        rows = rows[found]
        return TimedBoxes(
            len(frame_times),
            label_frame[evaluated],
            self._crop(labels[evaluated]),
            labels["class_id"][evaluated].astype(np.int64),
            detection_frame[found],
            self._crop(detections[rows]),
            detections["class_id"][rows].astype(np.int64),
            detections["class_confidence"][rows].astype(np.float64),
        )

    def _is_box(self, rows: np.ndarray) -> np.ndarray:
        return np.isin(rows["class_id"], list(self.classes)) & ~_is_marker(rows)

    def _crop(self, rows: np.ndarray) -> np.ndarray:
        """(M, 4) x, y, w, h inside the frame."""
        x, y, w, h = (rows[name].astype(np.float64) for name in ("x", "y", "w", "h"))
        x1, x2 = np.clip(x, 0, self.width), np.clip(x + w, 0, self.width)
        y1, y2 = np.clip(y, 0, self.height), np.clip(y + h, 0, self.height)
        return np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)

    def _evaluate(self) -> np.ndarray:
        """Precision (IoU thresholds 10, recalls 101, classes, areas 4) for at most 100 detections; -1: no labels."""
        from pycocotools.coco import COCO

        if not sum(len(recording.label_frame) for recording in self.recordings):
            return np.full((len(IOUS), len(RECALLS), len(self.classes), 4), -1.0)
        with contextlib.nullcontext() if self.verbose else contextlib.redirect_stdout(io.StringIO()):
            truth, found = COCO(), COCO()
            truth.dataset, found.dataset = self._datasets()
            truth.createIndex()
            found.createIndex()
            evaluation = _evaluation_class()(truth, found, "bbox")
            if not self.verbose:
                evaluation.params.maxDets = [100]  # the printed table alone needs 1 and 10 as well
            evaluation.evaluate()
            evaluation.accumulate()
            if self.verbose:
                evaluation.summarize()
        return evaluation.eval["precision"][..., -1]

    def _datasets(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Labels and detections as pycocotools wants them; frames are numbered through all recordings."""
        first_frames = np.cumsum([0, *(recording.num_frames for recording in self.recordings)]).tolist()
        labels: list[dict[str, Any]] = []
        detections: list[dict[str, Any]] = []
        for first, recording in zip(first_frames, self.recordings, strict=False):
            labels += _annotations(
                recording.label_frame + first, recording.label_boxes, recording.label_class, first_id=len(labels) + 1
            )
            detections += _annotations(
                recording.detection_frame + first,
                recording.detection_boxes,
                recording.detection_class,
                first_id=len(detections) + 1,
                scores=recording.detection_score,
            )
        frames = [{"id": frame, "height": self.height, "width": self.width} for frame in range(first_frames[-1])]
        common = {"images": frames, "categories": [{"id": key, "name": name} for key, name in self.classes.items()]}
        return {**common, "annotations": labels}, {**common, "annotations": detections}


def _evaluation_class() -> type:
    """pycocotools' COCOeval, spared the search for a match where there is none to find.

    With a low score floor most detections overlap no label. The result is the same; 600 frames of 100 detections take a
    quarter of the time.
    """
    from pycocotools.cocoeval import COCOeval

    class SparseEvaluation(COCOeval):
        def evaluateImg(self, imgId: int, catId: int, aRng: list[float], maxDet: int) -> dict[str, Any] | None:  # noqa: N802, N803
            key = imgId, catId
            detections, ious = self._dts[key], self.ious[key]
            if not len(ious):  # no labels or no detections
                return super().evaluateImg(imgId, catId, aRng, maxDet)
            order = np.argsort([-row["score"] for row in detections], kind="mergesort")[:maxDet]
            ranked = [detections[row] for row in order]
            overlaps = ious.max(axis=1) >= self.params.iouThrs[0]
            self._dts[key], self.ious[key] = [ranked[row] for row in np.flatnonzero(overlaps)], ious[overlaps]
            result = super().evaluateImg(imgId, catId, aRng, maxDet)
            self._dts[key], self.ious[key] = detections, ious

            matches = np.zeros((len(self.params.iouThrs), len(ranked)))
            matches[:, overlaps] = result["dtMatches"]
            outside = np.array([not aRng[0] <= row["area"] <= aRng[1] for row in ranked])
            ignored = np.repeat(outside[None], len(matches), axis=0)
            ignored[:, overlaps] = result["dtIgnore"]
            scores = [row["score"] for row in ranked]
            ids = [row["id"] for row in ranked]
            return {**result, "dtMatches": matches, "dtIgnore": ignored, "dtScores": scores, "dtIds": ids}

    return SparseEvaluation


def _annotations(
    frames: np.ndarray, boxes: np.ndarray, classes: np.ndarray, first_id: int, scores: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """One dict a box. Ids start at 1, because pycocotools reads 0 as "not matched"."""
    columns = zip(frames.tolist(), boxes.tolist(), classes.tolist(), strict=True)
    rows: list[dict[str, Any]] = [
        {"id": key, "image_id": frame, "bbox": box, "category_id": class_id, "area": box[2] * box[3], "iscrowd": 0}
        for key, (frame, box, class_id) in enumerate(columns, start=first_id)
    ]
    if scores is not None:
        for row, score in zip(rows, scores.tolist(), strict=True):
            row["score"] = score
    return rows


def _nearest_detections(frame_times: np.ndarray, times: np.ndarray, time_tol: int) -> tuple[np.ndarray, np.ndarray]:
    """For every frame the rows of the detection time nearest to it, within the tolerance.

    Args:
        frame_times: (F,) increasing.
        times: (D,) times of the detections in any order.
        time_tol: largest distance, itself allowed.

    Returns:
        rows (R,) of the detections and the frame (R,) each stands in.
    """
    nothing = np.zeros(0, np.int64)
    if not len(times) or not len(frame_times):
        return nothing, nothing
    order = np.argsort(times, kind="stable")
    moments, starts, counts = np.unique(times[order], return_index=True, return_counts=True)
    later = np.searchsorted(moments, frame_times).clip(max=len(moments) - 1)
    earlier = (later - 1).clip(min=0)
    nearest = np.where(np.abs(moments[later] - frame_times) <= np.abs(moments[earlier] - frame_times), later, earlier)
    counts = np.where(np.abs(moments[nearest] - frame_times) <= time_tol, counts[nearest], 0)
    frames = np.repeat(np.arange(len(frame_times)), counts)
    within = np.arange(len(frames)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[starts[nearest][frames] + within], frames


def _thin(times: np.ndarray, rate: float) -> np.ndarray:
    """Of increasing times those nearest to the instants first + k / rate, at most one an instant; all if rate is -1.

    Times are rounded to the grid, because labels of "60 Hz" lie 16,666 or 16,667 us apart: waiting for a full period
    since the last one would skip more and more.
    """
    if rate == -1 or not len(times):
        return times
    period = 1e6 / rate
    instant = np.rint((times - times[0]) / period)
    distance = np.abs(times - times[0] - instant * period)
    order = np.lexsort((distance, instant))
    _, best = np.unique(instant[order], return_index=True)
    return times[order[best]]


def _is_marker(rows: np.ndarray) -> np.ndarray:
    """Rows that mark a frame without boxes."""
    return (rows["w"] == 0) & (rows["h"] == 0)


def _require_fields(argument: str, rows: np.ndarray, fields: tuple[str, ...]) -> None:
    found = rows.dtype.names or ()
    if not set(fields) <= set(found):
        raise ValueError(f"{argument}: got fields {', '.join(found) or 'none'}, required: {', '.join(fields)}")


def _iou_index(iou: float) -> int:
    close = np.flatnonzero(np.isclose(IOUS, iou))
    if not len(close):
        raise ValueError(f"iou: got {iou}, allowed: 0.50, 0.55, ..., 0.95")
    return int(close[0])


def _mean(precision: np.ndarray) -> float:
    """Mean where there are labels, else 0."""
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else 0.0
