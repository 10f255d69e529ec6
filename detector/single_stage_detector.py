"""The detection network, which combines a feature extractor, a box head, anchors and a loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detector.anchors import Anchors
from detector.config import Config
from detector.config.checks import require
from detector.config.extensions import FEATURE_EXTRACTORS
from detector.losses import DetectionLoss
from detector.matching.decoding import class_scores
from detector.rpn import BoxHead
from detector.utils.modes import evaluating

__all__ = ["Detector", "SingleStageDetector", "check_backbone"]


class Detector(nn.Module, ABC):
    """Interface of a detection network for training and evaluation."""

    @abstractmethod
    def compute_loss(
        self, x: Tensor, targets: list, reset_mask: Tensor, frame_is_labeled: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the losses of a batch as a dict of scalars, see `SingleStageDetector.compute_loss`."""

    @abstractmethod
    def get_boxes(self, x: Tensor, score_thresh: float = 0.4) -> list[list[dict[str, Tensor]]]:
        """Return the detections of a batch as a list of T lists of B dicts, see `SingleStageDetector.get_boxes`."""

    @abstractmethod
    def reset(self, mask: Tensor) -> None:
        """Clear the state of each stream with a 0 in `mask` (B,)."""

    @abstractmethod
    def reset_all(self) -> None:
        """Clear the state of all streams."""


class SingleStageDetector(Detector):
    """Single-shot detector like SSD and RetinaNet, with a recurrent state for each stream (row of the batch).

    Args:
        feature_extractor: name or import path of the backbone, see `FEATURE_EXTRACTORS`.
        in_channels: channels of a frame.
        num_classes: number of classes K, without background.
        feature_base: output channels of the backbone's stem.
        feature_channels_out: channels of every pyramid level.
        anchor_list: name in `ANCHOR_LISTS`, or (ratio = height / width, scale) pairs.
        nlayers: number of hidden convolutions of the box head.
        max_boxes_per_input: largest number of boxes per frame that enter non-maximum suppression.
        fg_iou_threshold, bg_iou_threshold, allow_low_quality_matches, base_size, variances: see `Anchors`.
        first_stride, num_levels: see `RecurrentPyramid`.
        criterion: the loss; `DetectionLoss()` if None.

    Raises:
        ValueError: an argument is outside its range, or the backbone does not implement `FeatureExtractor`.
    """

    def __init__(
        self,
        feature_extractor: str,
        in_channels: int,
        num_classes: int,
        feature_base: int,
        feature_channels_out: int,
        anchor_list: str | Sequence[tuple[float, float]],
        nlayers: int = 0,
        max_boxes_per_input: int = 500,
        *,
        fg_iou_threshold: float = 0.5,
        bg_iou_threshold: float = 0.3,
        allow_low_quality_matches: bool = True,
        base_size: float = 32,
        variances: Sequence[float] = (0.1, 0.2),
        first_stride: int = 16,
        num_levels: int = 5,
        criterion: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.max_boxes_per_input = max_boxes_per_input
        sizes = in_channels, feature_base, feature_channels_out
        self.feature_extractor = FEATURE_EXTRACTORS.make(
            feature_extractor, *sizes, first_stride=first_stride, num_levels=num_levels
        )
        _check_extractor(feature_extractor, self.feature_extractor, first_stride, num_levels)
        self.box_coder = Anchors(
            num_levels=num_levels,
            base_size=base_size,
            anchor_list=anchor_list,
            fg_iou_threshold=fg_iou_threshold,
            bg_iou_threshold=bg_iou_threshold,
            allow_low_quality_matches=allow_low_quality_matches,
            variances=list(variances),
            first_stride=first_stride,
            num_classes=num_classes,
        )
        self.rpn = BoxHead(self.feature_extractor.cout, self.box_coder.num_anchors, num_classes + 1, nlayers)
        self.criterion = DetectionLoss() if criterion is None else criterion
        self._targets: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the box offsets and class logits of a batch, and update the recurrent state.

        Args:
            x: (T, B, C, H, W) frames, or (N, C, H, W) frames for one time step of N streams.

        Returns:
            A list of two tensors with N = T * B: box offsets (N, A, 4) and class logits (N, A, K + 1). Logit 0 is
            background.
        """
        return self.rpn(self.feature_extractor(x))

    def compute_loss(
        self, x: Tensor, targets: list, reset_mask: Tensor, frame_is_labeled: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch. Unlabelled frames update the recurrent state, but do not affect the losses.

        Args:
            x: (T, B, C, H, W) frames.
            targets: list of T lists with the boxes of B frames each, see `Anchors.encode`.
            reset_mask: (B,) values: 0 clears the state of a stream before the batch, 1 keeps the state.
            frame_is_labeled: (T, B) bool; None if all frames are labelled.

        Returns:
            A dict of the scalars "loc_loss" and "cls_loss". If no frame is labelled, both losses are 0 and every
            parameter gets a gradient of 0.

        Raises:
            ValueError: a target on the CPU is invalid, see `Anchors.encode`. The message contains the index t * B + b
                of the frame.
        """
        self.reset(reset_mask)
        features = self.feature_extractor(x)
        frames = [frame for step in targets for frame in step]
        numbers = None
        if frame_is_labeled is not None and not frame_is_labeled.all():
            selected = frame_is_labeled.flatten().nonzero().squeeze(1)
            features = [level[selected.to(level.device)] for level in features]
            numbers = selected.tolist()
            frames = [frames[n] for n in numbers]
        if not frames:
            zero = torch.stack([p.sum() * 0.0 for p in self.parameters()]).sum()
            return {"loc_loss": zero, "cls_loss": zero}
        loc_preds, cls_preds = self.rpn(features)
        # The losses do not keep references to the targets, so the next batch may overwrite the targets.
        self._targets = self.box_coder.encode(features, x, [frames], out=self._targets, numbers=numbers)
        loc_targets, cls_targets = self._targets
        return self.criterion(loc_preds, loc_targets, cls_preds, cls_targets)

    @torch.no_grad()
    def get_boxes(
        self, x: Tensor, score_thresh: float = 0.4, nms_thresh: float = 0.5, max_boxes: int | None = None
    ) -> list[list[dict[str, Tensor]]]:
        """Detect boxes in the frames of a batch, and update the recurrent state.

        The network runs in evaluation mode. The previous mode is restored afterwards.

        Args:
            x: (T, B, C, H, W) frames.
            score_thresh: only detections with a score above this are returned.
            nms_thresh: of two boxes of a frame and class with an IoU above this, the one with lower score is dropped.
            max_boxes: largest number of boxes per frame that enter non-maximum suppression; `max_boxes_per_input` if
                None.

        Returns:
            A list of T lists of B dicts. Each dict contains "boxes" (M, 4) as x1, y1, x2, y2 in pixels of `x`, "scores"
            (M,) and "labels" (M,) in 1..K.
        """
        with evaluating(self):
            features = self.feature_extractor(x)
            loc_preds, cls_preds = self.rpn(features)
        return self.box_coder.decode(
            features,
            x,
            loc_preds,
            class_scores(cls_preds),
            batch_size=x.size(1),
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            max_boxes_per_input=self.max_boxes_per_input if max_boxes is None else max_boxes,
        )

    def reset(self, mask: Tensor) -> None:
        """Clear the state of each stream with a 0 in `mask` (B,)."""
        self.feature_extractor.reset(mask)

    def reset_all(self) -> None:
        """Clear the state of all streams."""
        self.feature_extractor.reset_all()

    @torch.no_grad()
    def map_cls_weights(
        self, module_src: "SingleStageDetector", old_classes: Sequence[str], new_classes: Sequence[str]
    ) -> None:
        """Copy weights of the last class layer from another detector: background and the classes in both detectors.

        Args:
            module_src: detector trained on `old_classes`, with the same box head and number of anchors per cell.
            old_classes: class names of `module_src`, in the order of the labels 1..K of `module_src`.
            new_classes: class names of this detector, in the order of the labels 1..K of this detector.
        """
        pairs = [(0, 0)]
        pairs += [(old_classes.index(name) + 1, k + 1) for k, name in enumerate(new_classes) if name in old_classes]
        old_rows, new_rows = (list(rows) for rows in zip(*pairs, strict=True))
        source, target = module_src.rpn.cls_head[-1], self.rpn.cls_head[-1]
        anchors = self.rpn.num_anchors
        for name in ("weight", "bias"):
            old = getattr(source, name).unflatten(0, (anchors, len(old_classes) + 1))
            new = getattr(target, name).unflatten(0, (anchors, len(new_classes) + 1))
            new[:, new_rows] = old[:, old_rows].to(new)


def check_backbone(config: Config) -> None:
    """Raise a ValueError if the backbone of the settings cannot be built. The check builds it with few channels."""
    model = config.model
    first, count = model.first_stride, model.num_levels
    SingleStageDetector(model.feature_extractor, 1, 1, 8, 8, "PSEE_ANCHORS", first_stride=first, num_levels=count)


def _check_extractor(name: str, extractor: Any, first_stride: int, num_levels: int) -> None:
    """Raise a ValueError if a backbone lacks an attribute of `FeatureExtractor` or has other strides than required."""
    key = f"model.feature_extractor {name}"
    missing = [part for part in ("strides", "cout", "reset", "reset_all") if not hasattr(extractor, part)]
    require(
        not missing, key, f"a module without {', '.join(missing)}", "a detector.feature_extractors.FeatureExtractor"
    )
    strides = [first_stride * 2**level for level in range(num_levels)]
    allowed = f"{strides}, from model.first_stride {first_stride} and model.num_levels {num_levels}"
    require(list(extractor.strides) == strides, f"{key}: strides", list(extractor.strides), allowed)
