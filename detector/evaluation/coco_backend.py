"""The COCO measure itself, by a library: faster-coco-eval where it is installed, else pycocotools. Both give the same.

What boxes count in a range is told by numbers of theirs, their areas as a rule: labels whose number lies outside of
the range are neither wanted nor wrong, and so are detections that match such a label, and detections that match none
and lie outside themselves. A detection whose number is nan lies in every range.
"""

import contextlib
import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["IOUS", "RECALLS", "FrameBoxes", "coco_precision", "installed_library"]

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


class FrameBoxes(NamedTuple):
    """Labels and detections by frame, as plain arrays.

    Args:
        num_frames: labelled frames F.
        label_frame: (M,) frame 0..F-1 of every label.
        label_boxes: (M, 4) x, y, w, h in pixels.
        label_class: (M,) label map ids.
        label_row: (M,) rows in the array that the labels were given in.
        detection_frame: (D,) likewise for the detections; one can stand in several frames.
        detection_boxes: (D, 4)
        detection_class: (D,)
        detection_row: (D,)
        detection_score: (D,)
    """

    num_frames: int
    label_frame: np.ndarray
    label_boxes: np.ndarray
    label_class: np.ndarray
    label_row: np.ndarray
    detection_frame: np.ndarray
    detection_boxes: np.ndarray
    detection_class: np.ndarray
    detection_row: np.ndarray
    detection_score: np.ndarray


def installed_library() -> str:
    """Name of the library that measures."""
    return "faster-coco-eval" if importlib.util.find_spec("faster_coco_eval") else "pycocotools"


def coco_precision(
    parts: Sequence[FrameBoxes],
    classes: Mapping[int, str],
    ranges: Sequence[tuple[float, float]],
    label_values: np.ndarray,
    detection_values: np.ndarray,
    *,
    verbose: bool = False,
    library: str | None = None,
) -> np.ndarray:
    """Precision by IoU threshold, recall, class and range, of at most 100 detections of a frame and class.

    Args:
        parts: the boxes; frames are numbered through all of them.
        classes: label map ids and names of the classes that count.
        ranges: R pairs of the lowest and the highest number that count.
        label_values: (M,) numbers of the labels of all parts, in their order.
        detection_values: (D,) likewise of the detections.
        verbose: let the library print its table.
        library: its name; the installed one if None.

    Returns:
        (10, 101, K, R) precision at `IOUS` and `RECALLS`; -1 where there are no labels.
    """
    if not sum(len(part.label_frame) for part in parts):
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
            evaluation.params.maxDets = [100]  # the printed table alone needs 1 and 10 as well
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
            outside = np.array([row["area"] < aRng[0] or row["area"] > aRng[1] for row in ranked])
            ignored = np.repeat(outside[None], len(matches), axis=0)
            ignored[:, overlaps] = result["dtIgnore"]
            scores = [row["score"] for row in ranked]
            ids = [row["id"] for row in ranked]
            return {**result, "dtMatches": matches, "dtIgnore": ignored, "dtScores": scores, "dtIds": ids}

    return SparseEvaluation


def _datasets(
    parts: Sequence[FrameBoxes], classes: Mapping[int, str], label_values: np.ndarray, detection_values: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Labels and detections as both libraries want them."""
    first_frames = np.cumsum([0, *(part.num_frames for part in parts)])
    first_of = list(zip(first_frames.tolist(), parts, strict=False))
    labels = _annotations(
        np.concatenate([part.label_frame + first for first, part in first_of]),
        np.concatenate([part.label_boxes for part in parts]),
        np.concatenate([part.label_class for part in parts]),
        label_values,
    )
    detections = _annotations(
        np.concatenate([part.detection_frame + first for first, part in first_of]),
        np.concatenate([part.detection_boxes for part in parts]),
        np.concatenate([part.detection_class for part in parts]),
        detection_values,
    )
    scores = np.concatenate([part.detection_score for part in parts]).tolist()
    for row, score in zip(detections, scores, strict=True):
        row["score"] = score
    frames = [{"id": frame} for frame in range(int(first_frames[-1]))]
    common = {"images": frames, "categories": [{"id": key, "name": name} for key, name in classes.items()]}
    return {**common, "annotations": labels}, {**common, "annotations": detections}


def _annotations(
    frames: np.ndarray, boxes: np.ndarray, classes: np.ndarray, values: np.ndarray
) -> list[dict[str, Any]]:
    """One dict a box. Ids start at 1, because the libraries read 0 as "not matched"."""
    columns = zip(frames.tolist(), boxes.tolist(), classes.tolist(), values.tolist(), strict=True)
    return [
        {"id": key, "image_id": frame, "bbox": box, "category_id": class_id, "area": value, "iscrowd": 0}
        for key, (frame, box, class_id, value) in enumerate(columns, start=1)
    ]
