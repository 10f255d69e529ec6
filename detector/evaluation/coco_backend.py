"""COCO precision, computed by faster-coco-eval if it is installed, otherwise by pycocotools.

Both libraries give the same results. Each box has a value, usually its area, and the precision is computed for several
ranges of this value. For each range, three kinds of boxes are ignored: labels with a value outside the range, the
detections that match such labels, and unmatched detections with a value outside the range. NaN is inside every range.
"""

import contextlib
import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["IOUS", "RECALLS", "EvaluatedBoxes", "FrameRows", "coco_precision", "installed_library"]

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


class FrameRows(NamedTuple):
    """M boxes of several frames, either labels or detections.

    Args:
        frame: (M,) index 0..F-1 of the frame of each box.
        boxes: (M, 4) x, y, w, h in pixels.
        class_id: (M,) class id of each box, as in the label map.
        row: (M,) index of each box in the array that was passed to `CocoEvaluator.partial_eval`.
    """

    frame: np.ndarray
    boxes: np.ndarray
    class_id: np.ndarray
    row: np.ndarray

    def area(self) -> np.ndarray:
        """Return the (M,) areas of the boxes in square pixels."""
        return self.boxes[:, 2] * self.boxes[:, 3]


class EvaluatedBoxes(NamedTuple):
    """Labels and detections of the evaluated frames of a recording.

    Args:
        num_frames: number F of evaluated frames.
        labels: labels of these frames.
        detections: D detections of these frames.
        score: (D,) score of each detection.
    """

    num_frames: int
    labels: FrameRows
    detections: FrameRows
    score: np.ndarray


def installed_library() -> str:
    """Return the name of the library that is used by default."""
    return "faster-coco-eval" if importlib.util.find_spec("faster_coco_eval") else "pycocotools"


def coco_precision(
    parts: Sequence[EvaluatedBoxes],
    classes: Mapping[int, str],
    ranges: Sequence[tuple[float, float]],
    label_values: np.ndarray,
    detection_values: np.ndarray,
    *,
    verbose: bool = False,
    library: str | None = None,
) -> np.ndarray:
    """Compute the precision for each IoU threshold, recall, class and range of values.

    In each frame, only the 100 detections of a class with the highest scores are used.

    Args:
        parts: boxes of each recording.
        classes: names of the evaluated classes, by class id in the label map.
        ranges: R ranges of values, each as (lowest, highest). Both bounds are included.
        label_values: (M,) value of each label, for the labels of all `parts` in order.
        detection_values: (D,) value of each detection, for the detections of all `parts` in order.
        verbose: whether the library prints its table of results.
        library: "faster-coco-eval" or "pycocotools"; the result of `installed_library` if None.

    Returns:
        (10, 101, K, R) precision at 10 IoU thresholds (`IOUS`) and 101 recalls (`RECALLS`), for K classes and R ranges;
        -1 for a class that has no labels in a range.
    """
    if not sum(len(part.labels.frame) for part in parts):
        return np.full((len(IOUS), len(RECALLS), len(classes), len(ranges)), -1.0)
    make, make_index = _LIBRARIES[library or installed_library()]()
    with contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO()):
        truth, found = make_index(), make_index()
        truth.dataset, found.dataset = _datasets(parts, classes, label_values, detection_values)
        truth.createIndex()
        found.createIndex()
        evaluation = make(truth, found, "bbox")
        evaluation.params.areaRng = [list(limits) for limits in ranges]
        if not verbose:
            evaluation.params.maxDets = [100]  # only the printed table needs the limits 1 and 10
        evaluation.evaluate()
        evaluation.accumulate()
        if verbose:
            evaluation.summarize()
    return np.asarray(evaluation.eval["precision"])[..., -1]


def _faster_coco_eval() -> tuple[Callable[..., Any], Callable[..., Any]]:
    from functools import partial

    from faster_coco_eval import COCO, COCOeval_faster

    return partial(COCOeval_faster, print_function=print), partial(COCO, print_function=print)


def _pycocotools() -> tuple[Callable[..., Any], Callable[..., Any]]:
    from pycocotools.coco import COCO

    return _sparse_evaluation(), COCO


_LIBRARIES = {"faster-coco-eval": _faster_coco_eval, "pycocotools": _pycocotools}


def _sparse_evaluation() -> type:
    """Return a faster subclass of pycocotools' COCOeval that gives the same results.

    It does not search for matches of detections whose IoU with all labels is too low. With a low score threshold, most
    detections are of this kind, and 600 frames of 100 detections take a quarter of the time.
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
            outside = np.array([row["area"] < aRng[0] or row["area"] > aRng[1] for row in ranked])
            ignored = np.repeat(outside[None], len(matches), axis=0)
            ignored[:, overlaps] = result["dtIgnore"]
            scores = [row["score"] for row in ranked]
            ids = [row["id"] for row in ranked]
            return {**result, "dtMatches": matches, "dtIgnore": ignored, "dtScores": scores, "dtIds": ids}

    return SparseEvaluation


def _datasets(
    parts: Sequence[EvaluatedBoxes], classes: Mapping[int, str], label_values: np.ndarray, detection_values: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Create two COCO datasets, one of labels and one of detections, as dicts that both libraries read."""
    first_frames = np.cumsum([0, *(part.num_frames for part in parts)])
    labels = _annotations([part.labels for part in parts], first_frames, label_values)
    detections = _annotations([part.detections for part in parts], first_frames, detection_values)
    for row, score in zip(detections, np.concatenate([part.score for part in parts]).tolist(), strict=True):
        row["score"] = score
    frames = [{"id": frame} for frame in range(int(first_frames[-1]))]
    common = {"images": frames, "categories": [{"id": key, "name": name} for key, name in classes.items()]}
    return {**common, "annotations": labels}, {**common, "annotations": detections}


def _annotations(parts: Sequence[FrameRows], first_frames: np.ndarray, values: np.ndarray) -> list[dict[str, Any]]:
    """Create one COCO annotation per box. Ids start at 1, because the libraries use the id 0 for "not matched"."""
    columns = zip(
        np.concatenate([part.frame + first for part, first in zip(parts, first_frames, strict=False)]).tolist(),
        np.concatenate([part.boxes for part in parts]).tolist(),
        np.concatenate([part.class_id for part in parts]).tolist(),
        values.tolist(),
        strict=True,
    )
    return [
        {"id": key, "image_id": frame, "bbox": box, "category_id": class_id, "area": value, "iscrowd": 0}
        for key, (frame, box, class_id, value) in enumerate(columns, start=1)
    ]
