"""What a detector said about labelled frames, collected over recordings and ranks, and measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch.distributed as dist
from torch import Tensor

from detector.evaluation.box_filters import filter_boxes
from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.events.types import BBOX_dtype

__all__ = ["FramePredictions", "Measured", "Protocol", "RecordingBoxes"]

NO_CLASS = np.iinfo(np.uint32).max  # with w = h = 0: a moment at which there is no box
Curves = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Protocol:
    """What makes two mAP figures comparable; lengths in network pixels, times in microseconds."""

    skip_us: int
    time_tol_us: int
    min_box_diag: float
    min_box_side: float
    score_thresh: float
    nms_thresh: float


@dataclass(frozen=True)
class Measured:
    """Result of an evaluation: COCO figures, and recall and precision at IoU 0.5 of every class."""

    metrics: dict[str, float]
    precision_recall: Curves


class RecordingBoxes(NamedTuple):
    """What is measured of a recording; boxes as (M,) `BBOX_dtype` in network pixels.

    Args:
        path: tensor file.
        first_t: time in microseconds at which its first frame starts.
        delta_t: duration of a frame in microseconds.
        all_labels: every label of the recording, wanted or not.
        labels: those of labelled frames that count by the protocol, and markers of frames without boxes.
        detections: likewise; a detection bears the time at which its frame ends.
    """

    path: str
    first_t: int
    delta_t: int
    all_labels: np.ndarray
    labels: np.ndarray
    detections: np.ndarray


class FramePredictions:
    """Labels and detections of the labelled frames of one rank.

    Args:
        classes: label map ids and names of the classes that count.
        class_ids: label map id of each label 1..K, in their order.
        protocol: filters and tolerances.
    """

    def __init__(self, classes: dict[int, str], class_ids: Sequence[int], protocol: Protocol) -> None:
        self.classes = classes
        self.class_ids = np.asarray([NO_CLASS, *class_ids], np.uint32)
        self.protocol = protocol
        self.size: tuple[int, int] | None = None
        self._frames: dict[str, tuple[Any, list[np.ndarray], list[np.ndarray]]] = {}

    def add(self, preds: list[list[dict[str, Tensor]]], video_infos: Sequence, frame_is_labeled: Tensor) -> None:
        """Collect the labelled frames of a batch.

        Args:
            preds: list T of list B of detections.
            video_infos: list B of (VideoInfo or None, index of the batch's first frame).
            frame_is_labeled: (T, B) bool.
        """
        for t, b in frame_is_labeled.nonzero().tolist():
            info, start_frame = video_infos[b]
            begin = info.first_t + (start_frame + t) * info.delta_t
            end = begin + info.delta_t
            _, labels, detections = self._frames.setdefault(info.path, (info, [], []))
            labels.append(self._last_labels(info.labels, begin, end))
            detections.append(self._to_bbox(preds[t][b], end))
            self.size = (info.height, info.width)

    def recordings(self) -> list[RecordingBoxes]:
        """What this rank collected, in the order in which recordings were met."""
        return [
            RecordingBoxes(
                path, info.first_t, info.delta_t, info.labels, *(self._counted(part, info.first_t) for part in parts)
            )
            for path, (info, *parts) in self._frames.items()
        ]

    def _counted(self, boxes: Sequence[np.ndarray], first_t: int) -> np.ndarray:
        """The boxes of a recording that count by the protocol, see `filter_boxes`."""
        p = self.protocol
        return filter_boxes(np.concatenate(boxes), first_t, p.skip_us, p.min_box_diag, p.min_box_side)

    def measure(self) -> Measured:
        """mAP over all ranks: gathered, computed once on rank 0, the same on every rank.

        Raises:
            ValueError: no rank saw a labelled frame.
        """
        pairs = [(recording.labels, recording.detections) for recording in self.recordings()]
        gathered = _gather((self.size, pairs))
        result: list[Any] = [None]
        if _rank() == 0:
            sizes = [size for size, _ in gathered if size is not None]
            result[0] = self._evaluate(sizes[0], [pair for _, part in gathered for pair in part]) if sizes else None
        if dist.is_initialized():
            dist.broadcast_object_list(result, src=0)
        if result[0] is None:
            raise ValueError("no labelled frame to measure mAP on: no label of the split lies inside its frames")
        return result[0]

    def _evaluate(self, size: tuple[int, int], pairs: list[tuple[np.ndarray, np.ndarray]]) -> Measured:
        evaluator = CocoEvaluator(self.classes, *size, time_tol=self.protocol.time_tol_us)
        evaluator.partial_eval([labels for labels, _ in pairs], [detections for _, detections in pairs])
        return Measured(evaluator.accumulate(), evaluator.precision_recall())

    def _last_labels(self, labels: np.ndarray, begin: int, end: int) -> np.ndarray:
        """Boxes of the last labelled time in (begin, end] that are wanted and not outside; a marker if none is."""
        first, stop = np.searchsorted(labels["t"], [begin, end], side="right")
        rows = labels[first:stop]
        counts = (rows["t"] == rows["t"][-1:]) & np.isin(rows["class_id"], self.class_ids) & (rows["w"] * rows["h"] > 0)
        return rows[counts] if counts.any() else _marker(end)

    def _to_bbox(self, detections: dict[str, Tensor], t: int) -> np.ndarray:
        if len(detections["boxes"]) == 0:
            return _marker(t)
        corners = detections["boxes"].float().cpu().numpy()
        rows = np.zeros(len(corners), BBOX_dtype)
        rows["t"] = t
        rows["x"], rows["y"] = corners[:, 0], corners[:, 1]
        rows["w"], rows["h"] = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
        rows["class_id"] = self.class_ids[detections["labels"].cpu().numpy()]
        rows["class_confidence"] = detections["scores"].float().cpu().numpy()
        return rows


def _marker(t: int) -> np.ndarray:
    row = np.zeros(1, BBOX_dtype)
    row["t"], row["class_id"] = t, NO_CLASS
    return row


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _gather(item: Any) -> list[Any]:
    if not dist.is_initialized():
        return [item]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, item)
    return parts
