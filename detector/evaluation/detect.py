"""A detector over the streams of a split."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

from detector.evaluation.collector import FramePredictions
from detector.single_stage_detector import SingleStageDetector

__all__ = ["stream"]


@torch.inference_mode()
def stream(
    detector: SingleStageDetector,
    batches: Iterable[dict[str, Any]],
    predictions: FramePredictions,
    device: torch.device,
    autocast: AbstractContextManager,
) -> None:
    """Detect on the batches of a split, in order, and collect what is said about labelled frames.

    Args:
        detector: in evaluation mode, on the device; its state is cleared before and after.
        batches: see `SequenceDataset.__getitem__`.
        predictions: takes the detections; its protocol holds their score floor and the overlap of the suppression.
        device: where the detector is.
        autocast: arithmetic of the network.
    """
    protocol = predictions.protocol
    detector.reset_all()
    with autocast:
        for batch in batches:
            detector.reset(batch["mask_keep_memory"].to(device))
            inputs = batch["inputs"].to(device, non_blocking=True)
            found = detector.get_boxes(inputs, protocol.score_thresh, protocol.nms_thresh)
            predictions.add(found, batch["video_infos"], batch["frame_is_labeled"])
    detector.reset_all()
