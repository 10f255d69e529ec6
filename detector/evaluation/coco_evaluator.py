"""COCO mAP by the protocol of event-camera detection: boxes are matched by frame, then by IoU.

A library computes the metric, see `detector.evaluation.coco_backend`. The protocol is that of Perot et al., "Learning
to detect objects with a 1 megapixel event camera" (NeurIPS 2020): only labelled times count, and boxes at the start of
a recording and small boxes do not count.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from detector.config.checks import require, require_choice
from detector.evaluation.box_filters import crop_boxes, require_finite
from detector.evaluation.coco_backend import IOUS, RECALLS, FrameBoxes, FrameRows, coco_precision
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
    """Mean average precision over recordings.

    **Which frames count.** Every labelled time is a frame; a label row whose class is not in `classes` makes its time
    a labelled frame without adding a box. Detections of other frames are ignored. With `empty_frames="ignore"`, frames
    in which no box counts are left out with their detections, as in the public toolbox
    (prophesee-ai/prophesee-automotive-dataset-toolbox, Apache-2.0); with "count" false detections in them count.

    **Which detections belong to a label.** If the `frames` of a recording are given, those of the same frame: a label
    at t belongs to the frame with start < t <= end, as does a detection at the end of the frame. Of several labelled
    times in a frame the last counts. Without `frames`, which files of other tools do not state, see `pair_by_time`; a
    frame without detections then gets the detections of a neighbouring frame, unless a row with a class not in
    `classes` marks its time.

    **Which boxes count.** Boxes are cropped to the frame. Labels and detections without an area there and below the
    smallest sizes are dropped. Areas are in pixels of the given boxes: small up to 32^2, big from 96^2.

    **Merging.** `recordings` is a list of plain arrays, so partial results of several evaluators are joined by
    `a.recordings += b.recordings` and `a.left_out += b.left_out`; their order matters only for equal scores.

    Args:
        classes: label map ids and names, or names of the ids 0, 1, ...; a class named "empty" is skipped.
        height: frame height in pixels.
        width: frame width in pixels.
        time_tol: largest distance in microseconds between a label and its detections if frames are not known.
        eval_rate: evaluated frames per second: the labelled ones nearest to a regular grid that starts at the first of
            a recording; -1 for all.
        verbose: whether the COCO library prints its table.
        skip_us: labelled times up to this long after the start of frame 0 (time 0 without `frames`) do not count; 0 for
            all.
        min_box_diag: smallest diagonal in pixels of a box that counts.
        min_box_side: smallest width and height in pixels of a box that counts.
        empty_frames: whether labelled frames in which no box counts are evaluated.

    Attributes:
        recordings: boxes of the evaluated frames, by recording.
        left_out: numbers of labels, detections and frames that do not count, by reason.

    Raises:
        ValueError: there is no class, the frame has no area, a tolerance or filter is negative, or the rate is neither
            -1 nor positive.
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
        self.recordings: list[FrameBoxes] = []
        self.left_out: Counter[str] = Counter()
        self._precision: np.ndarray | None = None

    def partial_eval(
        self,
        labels: Sequence[np.ndarray],
        detections: Sequence[np.ndarray],
        frames: Sequence[Frames | Sequence[int] | Mapping[str, int] | None] | None = None,
    ) -> None:
        """Add recordings.

        Args:
            labels: for every recording its (M,) structured boxes with the fields of `BBOX_dtype`, in any order of rows
                and fields, packed or not.
            detections: for every recording its (D,) structured boxes; `class_confidence` is the score.
            frames: for every recording the frames in which its detections were made, or None if they are not known.
                `predict` writes them beside its files, see `detector.inference.frames_file.read_frames`.

        Raises:
            ValueError: the lists differ in length, fields are missing, a time is not whole or a box not finite.
        """
        frames = [None] * len(labels) if frames is None else frames
        if not len(labels) == len(detections) == len(frames):
            counts = f"{len(labels)}, {len(detections)} and {len(frames)}"
            raise ValueError(f"labels, detections, frames: got {counts} recordings, allowed: as many of each")
        for label_rows, detection_rows, of_recording in zip(labels, detections, frames, strict=True):
            _check("labels", label_rows, BOX_FIELDS)
            _check("detections", detection_rows, (*BOX_FIELDS, "class_confidence"))
            known = None if of_recording is None else Frames.of(of_recording)
            self.recordings.append(self._match(label_rows, detection_rows, known))

    def quantities(self) -> dict[str, int]:
        """Number of labels behind each metric of `accumulate()`; a metric without labels has no value."""
        classes = _join(r.labels.class_id for r in self.recordings)
        areas = _join(r.labels.area() for r in self.recordings)
        counts = dict.fromkeys(("mean_ap", "mean_ap50", "mean_ap75"), len(areas))
        for size, (low, high) in list(AREA_RANGES.items())[1:]:
            counts[f"mean_ap_{size}"] = int(((areas >= low) & (areas <= high)).sum())
        return counts | {f"ap/{name}": int((classes == key).sum()) for key, name in self.classes.items()}

    def accumulate(self) -> dict[str, float | None]:
        """Compute the metrics of all recordings added so far.

        Returns:
            `mean_ap` (IoU 0.50:0.95), `mean_ap50`, `mean_ap75`, `mean_ap_small`, `mean_ap_medium`, `mean_ap_big`, and
            `ap/<class name>` of each class. The keys are always the same. A metric without labels (no box of that
            size or class) is None, and the means over classes skip classes without labels; but `mean_ap` and
            `mean_ap50` are 0.0 without labels if any frame was evaluated.
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
        """Precision-recall curves of the last `accumulate()`, for boxes of all sizes.

        Args:
            iou: threshold of a match, one of 0.50, 0.55, ..., 0.95.

        Returns:
            class name -> (recall (101,) 0, 0.01, ..., 1, interpolated precision (101,)), for classes with labels; the
            precision is 0 beyond the highest recall reached.

        Raises:
            ValueError: `iou` is another threshold.
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
        """Average precision of slices of the boxes; boxes outside a slice are ignored, as COCO does for sizes.

        Args:
            label_slices: for every recording, in the order in which they were added, the slice 0..`count`-1 of each row
                of its labels; -1 for none.
            count: number of slices.
            detection_slices: slices of the detections, in the same form; those in another slice that match no label are
                ignored. If None, a detection that matches no label is wrong in every slice.

        Returns:
            (count,) AP 0.50:0.95 and (count,) AP at IoU 0.5, means over the classes; NaN for slices without labels.
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

    def _match(self, labels: np.ndarray, detections: np.ndarray, frames: Frames | None) -> FrameBoxes:
        """The labels and detections of every evaluated frame of one recording."""
        label_times, detection_times = (
            whole_numbers("labels", labels, "t"),
            whole_numbers("detections", detections, "t"),
        )
        moments = thin(np.unique(label_times), self.eval_rate)
        if frames is None:
            pairing = pair_by_time(label_times, detection_times, moments, self.time_tol)
        else:
            pairing = pair_by_frame(label_times, detection_times, moments, frames)
        start = 0 if frames is None else frames.first_t
        late = (pairing.times - start > self.skip_us) | (self.skip_us == 0)
        label_frame, detection_frame = (_renumber(of, late) for of in (pairing.labels, pairing.detections))
        label_rows, label_reasons = self._counting(labels, label_frame)
        detection_rows, detection_reasons = self._counting(detections, detection_frame)
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
                    (wanted & ~in_time & ~pairing.outside & np.isin(label_times, moments)).sum()
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
        return FrameBoxes(
            int(evaluated.sum()),
            label_rows._replace(frame=number[label_rows.frame]),
            detection_rows._replace(frame=number[detection_rows.frame]),
            detections["class_confidence"][detection_rows.row].astype(np.float64),
        )

    def _counting(self, rows: np.ndarray, frame: np.ndarray) -> tuple[FrameRows, dict[str, int]]:
        """The boxes of evaluated frames that count, and the number of those that do not, by reason."""
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


def _renumber(frame: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Frame of each row, -1 for frames that do not count."""
    return np.where(np.append(counts, False)[frame], frame, -1)


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
    """Mean over the classes that have labels; None without any."""
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else None
