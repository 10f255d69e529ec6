"""COCO mAP for event cameras: detections are assigned to labelled frames, then matched with labels by IoU.

The metric itself is computed by a library, see `detector.evaluation.coco_backend`. The protocol is that of Perot et
al., "Learning to detect objects with a 1 megapixel event camera" (NeurIPS 2020): only labelled times are evaluated, and
boxes at the start of a recording and small boxes are left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from detector.config.checks import require, require_choice
from detector.evaluation.box_filters import crop_boxes, require_finite
from detector.evaluation.coco_backend import IOUS, RECALLS, EvaluatedBoxes, FrameRows, coco_precision
from detector.evaluation.pairing import pair_by_frame, pair_by_time, thin, whole_numbers
from detector.events.frames import Frames
from detector.utils.corners import is_large

__all__ = ["CocoEvaluator"]

AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "big": (96.0**2, 1e10),
}
"""Ranges of box areas in square pixels, as defined by COCO."""
BOX_FIELDS = ("t", "x", "y", "w", "h", "class_id")


class CocoEvaluator:
    """Mean average precision (mAP) over recordings.

    **Boxes.** Boxes are cropped to the frame. A label or detection is evaluated if its class is in `classes`, it has an
    area after cropping, and it is not smaller than `min_box_diag` and `min_box_side`. Small boxes have an area of up to
    32^2 square pixels, big boxes of at least 96^2, in the pixels of the given boxes.

    **Frames.** A frame is evaluated if it has evaluated labels. Detections in frames without any label are ignored. A
    frame may have only labels that are not evaluated. With `empty_frames="count"`, all detections in such a frame are
    false positives. With `empty_frames="ignore"`, the frame and its detections are left out, as in the public toolbox
    (prophesee-ai/prophesee-automotive-dataset-toolbox, Apache-2.0).

    **Times.** If the `frames` of a recording are given, a time t belongs to the frame with start < t <= end. If a frame
    has labels at several times, only the labels of the last time are evaluated. Without `frames`, as for files of other
    tools, labels and detections are paired by time, see `pair_by_time`. A label time without detections of any class
    then gets the detections of a neighbouring frame.

    **Merging.** The results of two evaluators are joined by `a.recordings += b.recordings` and
    `a.left_out += b.left_out`. The order of recordings affects the metrics only if scores are equal.

    Args:
        classes: class names: a dict with the class ids as keys, or a sequence for the class ids 0, 1, ... A class named
            "empty" is skipped.
        height: frame height in pixels.
        width: frame width in pixels.
        time_tol: largest time in microseconds between a label and its detections. Used only without `frames`.
        eval_rate: evaluated times per second, or -1 to evaluate all labelled times. With a rate, the labelled times
            nearest to a regular grid are evaluated. The grid starts at the first labelled time of a recording.
        verbose: whether the COCO library prints its table.
        skip_us: labels in the first `skip_us` microseconds of a recording are left out. A recording starts with frame
            0, or at time 0 without `frames`.
        min_box_diag: smallest diagonal of an evaluated box in pixels.
        min_box_side: smallest width and height of an evaluated box in pixels.
        empty_frames: "count" to evaluate labelled frames without evaluated labels, "ignore" to leave them out.

    Attributes:
        recordings: labels and detections of the evaluated frames, one item per recording.
        left_out: dict from each reason to the number of labels, detections or frames that were left out.

    Raises:
        ValueError: no class is given, two classes have the same name, the frame has no area, a limit is negative,
            `eval_rate` is neither -1 nor positive, or `empty_frames` is unknown.
    """

    def __init__(  # noqa: PLR0917
        self,
        classes: Mapping[int, str] | Sequence[str],
        height: int,
        width: int,
        time_tol: int = 50_000,
        eval_rate: float = -1,
        verbose: bool = False,
        *,
        skip_us: int = 0,
        min_box_diag: float = 0,
        min_box_side: float = 0,
        empty_frames: Literal["count", "ignore"] = "count",
    ) -> None:
        names = classes if isinstance(classes, Mapping) else dict(enumerate(classes))
        self.classes = {int(key): name for key, name in sorted(names.items()) if name != "empty"}
        require(bool(self.classes), "classes", classes, "at least one name besides 'empty'")
        require(len(set(self.classes.values())) == len(self.classes), "classes", classes, "distinct names")
        require(height > 0 and width > 0, "height, width", (height, width), "numbers above 0")
        filters = {"time_tol": time_tol, "skip_us": skip_us, "min_box_diag": min_box_diag, "min_box_side": min_box_side}
        for name, value in filters.items():
            require(value >= 0, name, value, "numbers of at least 0")
        allowed = "-1 for every labelled time, or a rate in Hz above 0"
        require(eval_rate == -1 or eval_rate > 0, "eval_rate", eval_rate, allowed)
        require_choice("empty_frames", empty_frames, ("count", "ignore"))
        self.height, self.width, self.eval_rate, self.verbose = height, width, eval_rate, verbose
        self.time_tol, self.skip_us, self.empty_frames = time_tol, skip_us, empty_frames
        self.min_box_diag, self.min_box_side = min_box_diag, min_box_side
        self.recordings: list[EvaluatedBoxes] = []
        self.left_out: Counter[str] = Counter()
        self._precision: np.ndarray | None = None

    def partial_eval(
        self,
        labels: Sequence[np.ndarray],
        detections: Sequence[np.ndarray],
        frames: Sequence[Frames | Sequence[int] | Mapping[str, int] | None] | None = None,
    ) -> None:
        """Add the labels and detections of recordings.

        Args:
            labels: for each recording, (M,) structured boxes with the fields of `BBOX_dtype`. Rows and fields may be in
                any order. The fields may be packed or aligned.
            detections: for each recording, (D,) structured boxes. The field `class_confidence` is the score.
            frames: for each recording, the frames in which its detections were made, or None if they are not known.
                For files that `predict` wrote, `detector.inference.frames_file.read_frames` returns them.

        Raises:
            ValueError: the sequences differ in length, a field is missing, a time or class id is not a whole number, or
                a value is not finite.
        """
        frames = [None] * len(labels) if frames is None else frames
        if not len(labels) == len(detections) == len(frames):
            lengths = f"{len(labels)}, {len(detections)} and {len(frames)}"
            raise ValueError(f"labels, detections, frames: got {lengths} recordings, allowed: as many of each")
        for label_rows, detection_rows, of_recording in zip(labels, detections, frames, strict=True):
            _check("labels", label_rows, BOX_FIELDS)
            _check("detections", detection_rows, (*BOX_FIELDS, "class_confidence"))
            known = None if of_recording is None else Frames.of(of_recording)
            self.recordings.append(self._select_frames(label_rows, detection_rows, known))

    def quantities(self) -> dict[str, int]:
        """Return the number of labels that enter each metric of `accumulate()`, by name of the metric."""
        classes = _join(r.labels.class_id for r in self.recordings)
        areas = _join(r.labels.area() for r in self.recordings)
        counts = dict.fromkeys(("mean_ap", "mean_ap50", "mean_ap75"), len(areas))
        for size, (low, high) in list(AREA_RANGES.items())[1:]:
            counts[f"mean_ap_{size}"] = int(((areas >= low) & (areas <= high)).sum())
        return counts | {f"ap/{name}": int((classes == key).sum()) for key, name in self.classes.items()}

    def accumulate(self) -> dict[str, float | None]:
        """Compute the metrics of all recordings added so far.

        Returns:
            Dict with the keys `mean_ap` (IoU 0.50:0.95), `mean_ap50`, `mean_ap75`, `mean_ap_small`, `mean_ap_medium`,
            `mean_ap_big`, and `ap/<class name>` of each class. All keys are always present. A metric is None if
            there are no labels of its size or class. The exceptions are `mean_ap` and `mean_ap50`: without any labels,
            they are 0.0 if frames were evaluated. Means over classes skip classes without labels.
        """
        areas = _join(r.labels.area() for r in self.recordings), _join(r.detections.area() for r in self.recordings)
        ranges = list(AREA_RANGES.values())
        precision = coco_precision(self.recordings, self.classes, ranges, *areas, verbose=self.verbose)
        self._precision, all_areas = precision, precision[..., 0]
        results = {
            "mean_ap": _mean(all_areas),
            "mean_ap50": _mean(all_areas[_iou_index(0.5)]),
            "mean_ap75": _mean(all_areas[_iou_index(0.75)]),
        }
        if any(recording.num_frames for recording in self.recordings):
            results.update({name: results[name] or 0.0 for name in ("mean_ap", "mean_ap50")})
        for index, size in enumerate(list(AREA_RANGES)[1:], start=1):
            results[f"mean_ap_{size}"] = _mean(precision[..., index])
        for index, name in enumerate(self.classes.values()):
            results[f"ap/{name}"] = _mean(all_areas[..., index])
        return results

    def precision_recall(self, iou: float = 0.5) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return the precision-recall curves that the last `accumulate()` computed for boxes of all sizes.

        Args:
            iou: IoU threshold of a match, one of 0.50, 0.55, ..., 0.95.

        Returns:
            For the name of each class with labels, two (101,) arrays: the recalls 0, 0.01, ..., 1 and the interpolated
            precision at each recall. The precision is 0 above the highest recall that was reached.

        Raises:
            ValueError: `iou` is not one of these thresholds.
            RuntimeError: `accumulate()` has not been called.
        """
        if self._precision is None:
            raise RuntimeError("precision_recall: nothing measured yet, call accumulate() first")
        curves = self._precision[_iou_index(iou), :, :, 0]
        return {
            name: (RECALLS.copy(), curves[:, index].copy())
            for index, name in enumerate(self.classes.values())
            if curves[0, index] > -1
        }

    def precision_by(
        self,
        label_slices: Sequence[np.ndarray],
        count: int,
        detection_slices: Sequence[np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute the average precision for disjoint groups of boxes ("slices"), for example for ranges of speed.

        For each slice, the boxes of other slices are ignored, as COCO does for sizes.

        Args:
            label_slices: one (M,) array for each recording, in the order in which recordings were added: the slice
                0..`count`-1 of each label that was passed to `partial_eval`, or -1 for a label in no slice.
            count: number of slices.
            detection_slices: the same for detections. An unmatched detection is then a false positive in its own slice
                only. If None, it is a false positive in every slice.

        Returns:
            (count,) AP at IoU 0.50:0.95 and (count,) AP at IoU 0.5, both averaged over the classes; NaN for slices
            without labels.
        """
        labels = [part[r.labels.row] for part, r in zip(label_slices, self.recordings, strict=True)]
        if detection_slices is None:
            detections = [np.full(len(r.score), np.nan) for r in self.recordings]
        else:
            detections = [part[r.detections.row] for part, r in zip(detection_slices, self.recordings, strict=True)]
        ranges = [(float(index), float(index)) for index in range(count)]
        values = (np.concatenate(parts).astype(np.float64) for parts in (labels, detections))
        precision = coco_precision(self.recordings, self.classes, ranges, *values)
        parts = [precision[..., index] for index in range(count)]
        ap, ap50 = ([_mean(part[rows]) for part in parts] for rows in (slice(None), _iou_index(0.5)))
        return np.array(ap, np.float64), np.array(ap50, np.float64)  # None becomes NaN

    def _select_frames(self, labels: np.ndarray, detections: np.ndarray, frames: Frames | None) -> EvaluatedBoxes:
        """Select the labels and detections of the evaluated frames of one recording, and update `left_out`."""
        label_times, detection_times = (
            whole_numbers("labels", labels, "t"),
            whole_numbers("detections", detections, "t"),
        )
        candidates = thin(np.unique(label_times), self.eval_rate)
        if frames is None:
            pairing = pair_by_time(label_times, detection_times, candidates, self.time_tol)
        else:
            pairing = pair_by_frame(label_times, detection_times, candidates, frames)
        start = 0 if frames is None else frames.first_t
        late = (pairing.times - start > self.skip_us) | (self.skip_us == 0)
        label_frame, detection_frame = (_drop_frames(of, late) for of in (pairing.labels, pairing.detections))
        label_rows, label_reasons = self._select_boxes(labels, label_frame)
        detection_rows, detection_reasons = self._select_boxes(detections, detection_frame)
        evaluated = late.copy()
        if self.empty_frames == "ignore":
            evaluated &= np.isin(np.arange(len(late)), label_rows.frame)
            of_frame = evaluated[detection_rows.frame]
            detection_rows = FrameRows(*(column[of_frame] for column in detection_rows))
        wanted = np.isin(labels["class_id"], list(self.classes))
        in_time = pairing.labels >= 0
        other = ~np.isin(detections["class_id"], list(self.classes)) & ((detections["w"] != 0) | (detections["h"] != 0))
        late_or_early = np.zeros(len(detections), bool) if frames is None else ~frames.inside(detection_times)
        self.left_out += Counter(
            {
                "labels outside of the recording": int((wanted & pairing.outside).sum()),
                "labels before the last labelled time of their frame": int(
                    (wanted & ~in_time & ~pairing.outside & np.isin(label_times, candidates)).sum()
                ),
                "labels in the skipped start": int((wanted & in_time & (label_frame < 0)).sum()),
                "label times whose detections answer a later label time": pairing.shared,
                "labelled frames without a box that counts": int(late.sum() - evaluated.sum()),
                "detections outside of the recording": int(late_or_early.sum()),
                "detections of classes that are not evaluated": int(other.sum()),
                **{f"labels {reason}": count for reason, count in label_reasons.items()},
                **{f"detections {reason}": count for reason, count in detection_reasons.items()},
            }
        )
        number = np.cumsum(evaluated) - 1
        return EvaluatedBoxes(
            int(evaluated.sum()),
            label_rows._replace(frame=number[label_rows.frame]),
            detection_rows._replace(frame=number[detection_rows.frame]),
            detections["class_confidence"][detection_rows.row].astype(np.float64),
        )

    def _select_boxes(self, rows: np.ndarray, frame: np.ndarray) -> tuple[FrameRows, dict[str, int]]:
        """Select the boxes that are evaluated. Return them, and the number of dropped boxes for each reason.

        Args:
            rows: (M,) structured boxes.
            frame: (M,) evaluated frame of each box; -1 for boxes in no evaluated frame.
        """
        found = np.flatnonzero((frame >= 0) & np.isin(rows["class_id"], list(self.classes)))
        boxes = crop_boxes(rows[found], self.height, self.width)
        inside = (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
        large = inside & is_large(boxes[:, 2], boxes[:, 3], self.min_box_diag, self.min_box_side)
        reasons = {
            "without area in the frame": int((~inside).sum()),
            "below the smallest box": int((inside & ~large).sum()),
        }
        kept = found[large]
        return FrameRows(frame[kept], boxes[large], rows["class_id"][kept].astype(np.int64), kept), reasons


def _drop_frames(frame: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return `frame` with -1 for the boxes whose frame is not kept.

    Args:
        frame: (M,) index of the frame of each box, or -1.
        kept: (F,) bool, whether each frame is kept.
    """
    return np.where(np.append(kept, False)[frame], frame, -1)


def _join(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])


def _check(argument: str, rows: np.ndarray, fields: tuple[str, ...]) -> None:
    found = rows.dtype.names or ()
    if not set(fields) <= set(found):
        raise ValueError(f"{argument}: got fields {', '.join(found) or 'none'}, required: {', '.join(fields)}")
    require_finite(argument, rows, fields)
    whole_numbers(argument, rows, "class_id")


def _iou_index(iou: float) -> int:
    close = np.flatnonzero(np.isclose(IOUS, iou))
    require(len(close) > 0, "iou", iou, "0.50, 0.55, ..., 0.95")
    return int(close[0])


def _mean(precision: np.ndarray) -> float | None:
    """Compute the mean precision over the classes that have labels; None if no class has labels."""
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else None
