"""Check that the recurrent state of one stream does not affect the detections of another stream."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.box import box_iou
from detector.data.dataset import SequenceDataset
from detector.data.sequence_file import SequenceFile
from detector.evaluation.detect import detect
from detector.single_stage_detector import SingleStageDetector

__all__ = ["StateLeak", "check_state_leak"]

CHECKED_FILES, CHECKED_WINDOWS = 4, 3
SAME_IOU, SAME_SCORE = 0.95, 0.01
ALLOWED_SHARE = 0.001
LEAST_SCORE = 0.05


@dataclass(frozen=True)
class StateLeak:
    """Result of `check_state_leak`, which compares two runs: each recording alone, and in batches with others.

    Two detections count as equal if they have the same class, an IoU of at least 0.95 and scores that differ by at most
    0.01.

    Args:
        files: number of recordings.
        frames: number of frames at the start of each recording that were compared; all frames if there are fewer.
        detections: number of compared detections in both runs together.
        changed: share of these detections without an equal detection in the other run; None without detections.
        max_score_change: largest difference between the scores of two equal detections; None if no two are equal.
        passed: whether at most 0.1 % of the detections changed, which rounding alone can cause; None without
            detections.
    """

    files: int
    frames: int
    detections: int
    changed: float | None
    max_score_change: float | None
    passed: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dict that can be written as JSON."""
        return asdict(self)


def check_state_leak(
    detector: SingleStageDetector, dataset: SequenceDataset, nms_thresh: float, device: torch.device
) -> StateLeak:
    """Detect objects in recordings one by one and in batches of two, and compare the detections.

    The batches contain each recording twice: first all recordings in reverse order, then in the original order. The
    detector runs in float32.

    Args:
        detector: detector on `device`.
        dataset: dataset of the split. Only the first 3 * T frames of up to four recordings are used.
        nms_thresh: of two boxes of the same class with an IoU above this, the one with the lower score is dropped.
        device: device of the detector.
    """
    num_frames = CHECKED_WINDOWS * dataset.targets.num_tbins
    chosen = {index * len(dataset.files) // CHECKED_FILES for index in range(CHECKED_FILES)}
    files = [replace(f, num_frames=min(f.num_frames, num_frames)) for f in (dataset.files[i] for i in sorted(chosen))]

    def found_in(some: Sequence[SequenceFile], batch_size: int) -> Iterator[tuple[tuple[str, int], dict[str, Tensor]]]:
        part = SequenceDataset(some, dataset.targets, batch_size, train=False)
        batches = (part[0, step] for step in range(len(part)))
        for batch, found in detect(detector, batches, LEAST_SCORE, nms_thresh, device):
            for b, (info, start) in enumerate(batch["video_infos"]):
                for t in range(len(found) if info is not None else 0):
                    if start + t < info.num_frames:
                        yield (info.path, start + t), {key: value.cpu() for key, value in found[t][b].items()}

    alone = {key: boxes for file in files for key, boxes in found_in([file], 1)}
    pairs = [(alone[key], boxes) for key, boxes in found_in([*reversed(files), *files], 2)]
    return _compare(pairs, len(files), num_frames)


def _compare(pairs: Sequence[tuple[dict[str, Tensor], dict[str, Tensor]]], files: int, frames: int) -> StateLeak:
    total = lonely = 0
    changes: list[float] = []
    for first, second in pairs:
        sure = [side["scores"] >= LEAST_SCORE + SAME_SCORE for side in (first, second)]
        total += sum(int(side.sum()) for side in sure)
        alike = (box_iou(first["boxes"], second["boxes"]) >= SAME_IOU) & (
            first["labels"][:, None] == second["labels"][None]
        )
        change = (first["scores"][:, None] - second["scores"][None]).abs()
        same = alike & (change <= SAME_SCORE)
        lonely += int((sure[0] & ~same.any(1)).sum()) + int((sure[1] & ~same.any(0)).sum())
        if same.any():
            nearest = torch.where(same, change, np.inf)
            changes += [float(nearest.amin(side)[same.any(side)].max()) for side in (0, 1)]
    share = lonely / total if total else None
    return StateLeak(
        files, frames, total, share, max(changes, default=None), None if share is None else share <= ALLOWED_SHARE
    )
