"""COCO mAP by the protocol of event-camera detection: boxes are matched by time, then by IoU.

The measure itself is a library's, see `detector.evaluation.coco_backend`. What is particular to event cameras, as in
Perot et al., "Learning to detect objects with a 1 megapixel event camera" (NeurIPS 2020): labels come at single
moments, only those moments count, boxes at the start of a recording and small boxes do not.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from detector.evaluation.box_filters import is_marker
from detector.evaluation.coco_backend import IOUS, RECALLS, FrameBoxes, coco_precision
from detector.evaluation.pairing import nearest_detections, thin

__all__ = ["CocoEvaluator"]

AREA_RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
"""Square pixels of all, small, medium and big boxes, as COCO has them."""
BOX_FIELDS = ("t", "x", "y", "w", "h", "class_id")


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
        verbose: whether the COCO library prints its table.

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
        self.recordings: list[FrameBoxes] = []
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

    def precision_by(
        self,
        label_slices: Sequence[np.ndarray],
        count: int,
        detection_slices: Sequence[np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Average precision of slices of the boxes, as COCO does it for sizes: what is outside a slice is ignored.

        Args:
            label_slices: for every recording, in the order in which they were added, the slice 0..`count`-1 of each row
                of its labels; -1 for none.
            count: number of slices.
            detection_slices: likewise for the detections, of which those in another slice that match no label are
                ignored. If None, a detection that matches no label is wrong in every slice.

        Returns:
            (count,) AP 0.50:0.95 and (count,) AP at IoU 0.5, means over the classes; nan where there is no label.
        """
        labels = [part[r.label_row] for part, r in zip(label_slices, self.recordings, strict=True)]
        if detection_slices is None:
            detections = [np.full(len(r.detection_row), np.nan) for r in self.recordings]
        else:
            detections = [part[r.detection_row] for part, r in zip(detection_slices, self.recordings, strict=True)]
        ranges = [(float(index), float(index)) for index in range(count)]
        values = (np.concatenate(parts).astype(np.float64) for parts in (labels, detections))
        precision = coco_precision(self.recordings, self.classes, ranges, *values)
        by_slice = [precision[..., index] for index in range(count)]
        empty = [not (part > -1).any() for part in by_slice]
        ap, ap50 = ([_mean(part[rows]) for part in by_slice] for rows in (slice(None), _iou_index(0.5)))
        return np.where(empty, np.nan, ap), np.where(empty, np.nan, ap50)

    def _match(self, labels: np.ndarray, detections: np.ndarray) -> FrameBoxes:
        """The labels and detections of every evaluated frame of one recording."""
        frame_times = thin(np.unique(labels["t"]).astype(np.int64), self.eval_rate)
        label_frame = np.searchsorted(frame_times, labels["t"])
        evaluated = np.isin(labels["t"], frame_times) & self._is_box(labels)
        rows, detection_frame = nearest_detections(frame_times, detections["t"].astype(np.int64), self.time_tol)
        found = self._is_box(detections[rows])
        rows = rows[found]
        return FrameBoxes(
            len(frame_times),
            label_frame[evaluated],
            self._crop(labels[evaluated]),
            labels["class_id"][evaluated].astype(np.int64),
            np.flatnonzero(evaluated),
            detection_frame[found],
            self._crop(detections[rows]),
            detections["class_id"][rows].astype(np.int64),
            rows,
            detections["class_confidence"][rows].astype(np.float64),
        )

    def _is_box(self, rows: np.ndarray) -> np.ndarray:
        return np.isin(rows["class_id"], list(self.classes)) & ~is_marker(rows)

    def _crop(self, rows: np.ndarray) -> np.ndarray:
        """(M, 4) x, y, w, h inside the frame."""
        x, y, w, h = (rows[name].astype(np.float64) for name in ("x", "y", "w", "h"))
        x1, x2 = np.clip(x, 0, self.width), np.clip(x + w, 0, self.width)
        y1, y2 = np.clip(y, 0, self.height), np.clip(y + h, 0, self.height)
        return np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)

    def _evaluate(self) -> np.ndarray:
        """Precision (IoU thresholds 10, recalls 101, classes, areas 4); -1: no labels."""
        areas = [
            _areas([recording.label_boxes for recording in self.recordings]),
            _areas([recording.detection_boxes for recording in self.recordings]),
        ]
        return coco_precision(self.recordings, self.classes, AREA_RANGES, *areas, verbose=self.verbose)


def _areas(boxes: Sequence[np.ndarray]) -> np.ndarray:
    corners = np.concatenate([np.zeros((0, 4)), *boxes])
    return corners[:, 2] * corners[:, 3]


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
