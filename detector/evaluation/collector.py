"""Collection of the labels and detections in labelled frames on all ranks, and computation of the metrics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np
import torch.distributed as dist
from torch import Tensor

from detector.config import Config
from detector.data.sequence_file import VideoInfo
from detector.evaluation.coco_evaluator import CocoEvaluator
from detector.events.frames import Frames
from detector.events.types import BBOX_dtype

__all__ = ["NOTHING_COUNTS", "FramePredictions", "Measured", "Protocol", "RecordingBoxes", "evaluate_recordings"]

NOTHING_COUNTS = (
    "{}: no labelled frame counts: labels are outside of the recordings or in the first data.skip_us microseconds, or "
    "eval.empty_frames is ignore and no box is left by data.classes, data.min_box_diag and data.min_box_side"
)
Curves = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Protocol:
    """Settings of an evaluation. mAP values are comparable only if these settings are the same.

    Each field has the meaning of the setting with the same name in `DataConfig` or `EvalConfig`.
    """

    skip_us: int = 0
    min_box_diag: float = 0
    min_box_side: float = 0
    empty_frames: Literal["count", "ignore"] = "count"
    score_thresh: float = 0.001
    nms_thresh: float = 0.5

    @classmethod
    def of(cls, config: Config) -> "Protocol":
        """Select the settings of the evaluation from a configuration."""
        leaves = vars(config.to_hparams())
        return cls(**{key.name: leaves[key.name] for key in fields(cls)})

    def evaluator(self, classes: Mapping[int, str], size: tuple[int, int]) -> CocoEvaluator:
        """Create an evaluator with these settings; `size` is the height and width of the frames in pixels."""
        return CocoEvaluator(
            classes,
            *size,
            skip_us=self.skip_us,
            min_box_diag=self.min_box_diag,
            min_box_side=self.min_box_side,
            empty_frames=self.empty_frames,
        )


@dataclass(frozen=True)
class Measured:
    """Result of an evaluation.

    Args:
        metrics: metrics by name, see `CocoEvaluator.accumulate`.
        precision_recall: curve of each class at IoU 0.5, see `CocoEvaluator.precision_recall`.
        left_out: dict from each reason to the number of labels, detections or frames that were left out.
    """

    metrics: dict[str, float | None]
    precision_recall: Curves
    left_out: dict[str, int]


class RecordingBoxes(NamedTuple):
    """Labels and detections of a recording, as `BBOX_dtype` arrays in network pixels.

    Args:
        path: path of the tensor file.
        frames: all frames of the recording.
        all_labels: all labels of the recording, including classes that are not evaluated.
        labels: labels in the frames from which detections were collected, and labels outside all frames.
        detections: detections in labelled frames. The time of a detection is the end of its frame.
    """

    path: str
    frames: Frames
    all_labels: np.ndarray
    labels: np.ndarray
    detections: np.ndarray


class FramePredictions:
    """Collects the detections in labelled frames on one rank.

    Args:
        classes: names of the evaluated classes, by class id in the label map.
        class_ids: class ids in the label map for the labels 1, 2, ..., K of the detector.
        protocol: settings of the evaluation.
    """

    def __init__(self, classes: dict[int, str], class_ids: Sequence[int], protocol: Protocol) -> None:
        self.classes = classes
        self.class_ids = np.asarray([0, *class_ids], np.uint32)
        self.protocol = protocol
        self.size: tuple[int, int] | None = None
        self._found: dict[str, tuple[VideoInfo, list[int], list[np.ndarray]]] = {}

    def add(self, preds: list[list[dict[str, Tensor]]], video_infos: Sequence, frame_is_labeled: Tensor) -> None:
        """Collect the detections in the labelled frames of a batch.

        Args:
            preds: list of T lists of B detections, see `SingleStageDetector.get_boxes`.
            video_infos: list of B pairs: the `VideoInfo` of the recording (None for a batch row without a recording),
                and the index of the first frame of the batch in the recording.
            frame_is_labeled: (T, B) bool, whether each frame is labelled.
        """
        for info, _ in video_infos:
            if info is not None:  # needed without a labelled frame, too: labels outside the frames are counted
                self._found.setdefault(info.path, (info, [], []))
                self.size = (info.height, info.width)
        for t, b in frame_is_labeled.nonzero().tolist():
            info, start_frame = video_infos[b]
            _, numbers, boxes = self._found[info.path]
            numbers.append(start_frame + t)
            boxes.append(self._to_bbox(preds[t][b], info.frames.end_of(start_frame + t)))

    def recordings(self) -> list[RecordingBoxes]:
        """Return the boxes of each recording on this rank, in the order in which the recordings were added."""
        return [self._recording(*found) for found in self._found.values()]

    def _recording(self, info: VideoInfo, numbers: list[int], boxes: list[np.ndarray]) -> RecordingBoxes:
        labels = info.labels[np.isin(info.frames.find(info.labels["t"]), [-1, *numbers])]
        detections = np.concatenate([np.zeros(0, BBOX_dtype), *boxes])
        return RecordingBoxes(info.path, info.frames, info.labels, labels, detections)

    def measure(self) -> Measured | None:
        """Compute the metrics over all ranks. All ranks return the same result.

        Returns:
            The metrics, or None if no frame was evaluated.
        """
        own = []
        if self.size is not None:
            evaluator = evaluate_recordings(self.recordings(), self.classes, self.size, self.protocol)
            own = [(self.size, evaluator.recordings, evaluator.left_out)]
        gathered = _gather(own)
        result: list[Measured | None] = [None]
        if not dist.is_initialized() or dist.get_rank() == 0:
            parts = [part for of_rank in gathered for part in of_rank]
            result[0] = self._join(parts) if parts else None
        if dist.is_initialized():
            dist.broadcast_object_list(result, src=0)
        return result[0]

    def _join(self, parts: list[tuple[tuple[int, int], list, Counter[str]]]) -> Measured | None:
        whole = self.protocol.evaluator(self.classes, parts[0][0])
        for _, recordings, left_out in parts:
            whole.recordings += recordings
            whole.left_out += left_out
        if not any(recording.num_frames for recording in whole.recordings):
            return None
        metrics = whole.accumulate()
        return Measured(metrics, whole.precision_recall(), dict(whole.left_out))

    def _to_bbox(self, detections: dict[str, Tensor], t: int) -> np.ndarray:
        corners = detections["boxes"].float().cpu().numpy()
        rows = np.zeros(len(corners), BBOX_dtype)
        rows["t"] = t
        rows["x"], rows["y"] = corners[:, 0], corners[:, 1]
        rows["w"], rows["h"] = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
        rows["class_id"] = self.class_ids[detections["labels"].cpu().numpy()]
        rows["class_confidence"] = detections["scores"].float().cpu().numpy()
        return rows


def evaluate_recordings(
    recordings: Sequence[RecordingBoxes], classes: Mapping[int, str], size: tuple[int, int], protocol: Protocol
) -> CocoEvaluator:
    """Create an evaluator and add the boxes of recordings to it.

    Args:
        recordings: labels and detections of each recording.
        classes: names of the evaluated classes, by class id in the label map.
        size: height and width of the frames in pixels.
        protocol: settings of the evaluation.
    """
    evaluator = protocol.evaluator(classes, size)
    labels, detections = [r.labels for r in recordings], [r.detections for r in recordings]
    evaluator.partial_eval(labels, detections, [r.frames for r in recordings])
    return evaluator


def _gather(item: Any) -> list[Any]:
    if not dist.is_initialized():
        return [item]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, item)
    return parts
