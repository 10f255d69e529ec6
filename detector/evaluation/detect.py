"""The loop that runs a detector over the batches of a split, used for evaluation, checks and videos."""

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
    """Detect objects in a batch. The recurrent state is first cleared in batch rows where a new stream begins.

    Args:
        detector: detector on the device of the batch. Its recurrent state is updated.
        batch: dict with "inputs" (T, B, C, H, W), and "mask_keep_memory" (B,), which is 0 where a new stream begins.
        score_thresh: lowest score of a detection.
        nms_thresh: of two boxes of the same class with an IoU above this, the one with the lower score is dropped.

    Returns:
        List of T lists of B dicts, see `SingleStageDetector.get_boxes`.
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
        detector: detector on `device`. Its recurrent state is cleared before the first and after the last batch.
        batches: dicts as returned by `SequenceDataset.__getitem__`.
        score_thresh: lowest score of a detection.
        nms_thresh: of two boxes of the same class with an IoU above this, the one with the lower score is dropped.
        device: device of the detector; the CPU if None.
        autocast: context manager that sets the precision of the network; float32 if None.

    Yields:
        Each batch, unchanged, and its detections: a list of T lists of B dicts, see `SingleStageDetector.get_boxes`.
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
