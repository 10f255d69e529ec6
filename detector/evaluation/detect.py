"""The loop that runs a detector over the streams of a split. Evaluation, checks and videos use it."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from detector.single_stage_detector import SingleStageDetector

__all__ = ["Detections", "detect", "detect_batch"]

Detections = list[list[dict[str, Tensor]]]
"""List of T lists of the boxes of B frames, see `SingleStageDetector.get_boxes`."""


def detect_batch(
    detector: SingleStageDetector, batch: dict[str, Any], score_thresh: float, nms_thresh: float
) -> Detections:
    """Detect objects in a batch. The state is first reset in batch rows where a new stream begins.

    Args:
        detector: detector on the device of the batch. Its state is updated.
        batch: see `SequenceDataset.__getitem__`.
        score_thresh: lowest score of a detection.
        nms_thresh: of two boxes of the same class with an IoU above this, the one with the lower score is dropped.
    """
    detector.reset(batch["mask_keep_memory"])
    return detector.get_boxes(batch["inputs"], score_thresh, nms_thresh)


@torch.inference_mode()
def detect(
    detector: SingleStageDetector,
    batches: Iterable[dict[str, Any]],
    score_thresh: float,
    nms_thresh: float,
    device: torch.device | None = None,
    autocast: AbstractContextManager | None = None,
) -> Iterator[tuple[dict[str, Any], Detections]]:
    """Detect objects in the batches of a split, in order.

    Args:
        detector: detector on `device`. Its state is reset before the first and after the last batch.
        batches: see `SequenceDataset.__getitem__`.
        score_thresh: lowest score of a detection.
        nms_thresh: of two boxes of the same class with an IoU above this, the one with the lower score is dropped.
        device: device of the detector; the CPU if None.
        autocast: context manager that sets the precision of the network; float32 if None.

    Yields:
        Each batch, unchanged, together with its detections.
    """
    device = device or torch.device("cpu")
    detector.reset_all()
    try:
        for batch in batches:
            moved = {key: batch[key].to(device, non_blocking=True) for key in ("inputs", "mask_keep_memory")}
            with autocast or nullcontext():
                found = detect_batch(detector, moved, score_thresh, nms_thresh)
            yield batch, found
    finally:
        detector.reset_all()
