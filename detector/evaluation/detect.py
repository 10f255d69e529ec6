"""Run a detector over the streams of a split; evaluation, checks and videos use this loop."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from detector.single_stage_detector import SingleStageDetector

__all__ = ["Detections", "detect", "detect_batch"]

Detections = list[list[dict[str, Tensor]]]
"""List T of list B of boxes, see `SingleStageDetector.get_boxes`."""


def detect_batch(
    detector: SingleStageDetector, batch: dict[str, Any], score_thresh: float, nms_thresh: float
) -> Detections:
    """Reset the state of the streams that begin in a batch, then detect.

    Args:
        detector: detector on the device of the batch; its state is updated.
        batch: see `SequenceDataset.__getitem__`.
        score_thresh: lowest score.
        nms_thresh: overlap above which the lower of two scores of a class is dropped.
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
    """Detect on the batches of a split, in order.

    Args:
        detector: its state is reset before and after.
        batches: see `SequenceDataset.__getitem__`.
        score_thresh: lowest score.
        nms_thresh: overlap above which the lower of two scores of a class is dropped.
        device: device of the detector; the CPU if None.
        autocast: precision of the network; float32 if None.

    Yields:
        Each batch, unchanged, and its detections.
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
