"""A trained detector as a module for `torch.jit.script`. It computes boxes from frames and keeps the recurrent state.

The exported file runs without Python and torchvision.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.anchors import anchor_pairs
from detector.config.checks import require
from detector.matching.decoding import best_class, class_scores, decode_boxes, select_rows
from detector.matching.nms import non_max_suppression
from detector.single_stage_detector import SingleStageDetector

__all__ = ["SSD", "BoxDecoder"]


class BoxDecoder(nn.Module):
    """Converts box offsets and scores to rows of boxes in float32."""

    def forward(
        self,
        anchors: Tensor,
        loc_preds: Tensor,
        cls_preds: Tensor,
        varx: float,
        vary: float,
        score_thresh: float,
        batch_size: int,
    ) -> list[list[Tensor]]:
        """Convert box offsets and scores to rows of boxes, without non-maximum suppression.

        Args:
            anchors: (N, A, 4) cx, cy, w, h in pixels.
            loc_preds: (N, A, 4) box offsets.
            cls_preds: (N, A, K) scores of the classes without background.
            varx: scale of the centre offsets.
            vary: scale of the size offsets.
            score_thresh: only rows with a score above this are returned.
            batch_size: number B of streams; N = T * B.

        Returns:
            List of T lists of B tensors (M, 6): x1, y1, w, h, score, class_id (1..K), one row per anchor and class.
            Boxes without area and boxes that contain NaN are dropped.
        """
        boxes = decode_boxes(anchors, loc_preds, varx, vary)
        return select_rows(boxes, cls_preds.float(), score_thresh, batch_size)


class SSD(nn.Module):
    """A trained detector as a module that `torch.jit.script` can compile.

    Args:
        net: trained detector. It is copied; the copy is in evaluation mode and has a clear state.
        anchor_list: name of the anchor list or its (ratio, scale) pairs. It must be the anchor list of `net`.

    Raises:
        ValueError: `anchor_list` is not the anchor list of `net`.
    """

    precision: Tensor
    head_precision: Tensor

    def __init__(
        self, net: SingleStageDetector, anchor_list: str | Sequence[tuple[float, float]] = "PSEE_ANCHORS"
    ) -> None:
        super().__init__()
        net = copy.deepcopy(net).eval()
        own = net.box_coder.anchor_list
        require(anchor_pairs(anchor_list) == own, "anchor_list", anchor_list, f"the list of the detector: {own}")
        net.reset_all()
        self.in_channels = net.in_channels
        self.feature_extractor = net.feature_extractor
        self.rpn = net.rpn
        self.anchors = net.box_coder
        self.box_decoder = BoxDecoder()
        self.varx = float(net.box_coder.variances[0])
        self.vary = float(net.box_coder.variances[1])
        # Empty tensors: `to()` changes their dtype together with the dtype of the weights of backbone and head.
        self.register_buffer("precision", torch.zeros(0))
        self.register_buffer("head_precision", torch.zeros(0))
        self.eval()

    def forward(self, x: Tensor, score_thresh: float = 0.4) -> list[list[Tensor]]:
        """Compute the boxes of frames without non-maximum suppression, and update the recurrent state.

        Args:
            x: (T, B, C, H, W) frames, of any floating point type.
            score_thresh: only rows with a score above this are returned. A value below 0 returns one row per anchor and
                class, including boxes without area, so that the rows of two detectors can be compared one by one.

        Returns:
            List of T lists of B tensors (M, 6): x1, y1, w, h, score, class_id (1..K), in pixels of x and cropped to
            the frame. Boxes outside the frame and boxes that contain NaN are dropped.
        """
        boxes, scores = self._boxes(x)
        return select_rows(boxes, scores, score_thresh, x.size(1), score_thresh < 0)

    @torch.jit.export
    def detect(
        self, x: Tensor, score_thresh: float = 0.4, nms_thresh: float = 0.5, max_boxes: int = 500
    ) -> list[list[Tensor]]:
        """Compute the boxes of frames with non-maximum suppression, and update the recurrent state.

        Args:
            x: (T, B, C, H, W) frames.
            score_thresh: only rows with a score above this are returned.
            nms_thresh: of two boxes of the same class with an IoU above this, the one with the lower score is dropped.
            max_boxes: largest number of rows per frame that enter non-maximum suppression. Lower scores are dropped.

        Returns:
            List of T lists of B tensors (M, 6): x1, y1, w, h, score, class_id (1..K), in pixels of x.
        """
        boxes, scores = self._boxes(x)
        kept: list[list[Tensor]] = []
        for streams in select_rows(
            boxes, scores, score_thresh, x.size(1), True
        ):  # boxes without area count in max_boxes
            kept.append([non_max_suppression(rows, nms_thresh, max_boxes) for rows in streams])
        return kept

    @torch.jit.export
    def forward_network_without_box_decoding(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return box offsets (N, A, 4), class logits (N, A, K + 1) of frames (T, B, C, H, W), and update the state."""
        return self.predict(self.feature_extractor(self._frames(x)))

    def predict(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute float32 box offsets (N, A, 4) and class logits (N, A, K + 1) from the feature maps."""
        loc, logits = self.rpn([level.to(self.head_precision.dtype) for level in features])
        return loc.float(), logits.float()

    @torch.jit.export
    def reset(self, mask: Tensor) -> None:
        """Clear the state of each stream whose value in `mask` (B,) is 0."""
        self.feature_extractor.reset(mask)

    @torch.jit.export
    def reset_all(self) -> None:
        """Clear the state of all streams."""
        self.feature_extractor.reset_all()

    def _frames(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise ValueError(
                "x: got whole numbers, allowed: floating point frames, scaled as stated in info_ssd_jit.json"
            )
        return x.to(self.precision.dtype)

    def _boxes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute boxes (N, A, 4) x1, y1, w, h, cropped to the frame, and scores (N, A, K)."""
        features = self.feature_extractor(self._frames(x))
        loc, logits = self.predict(features)
        boxes = decode_boxes(self.anchors(features, x), loc, self.varx, self.vary, x.size(3), x.size(4))
        return boxes, self.scores(logits)

    def scores(self, logits: Tensor) -> Tensor:
        """Compute scores (N, A, K) from logits.

        If `max_decode` of the anchors is set, all scores of an anchor except the highest are NaN.
        """
        scores = class_scores(logits)
        return best_class(scores) if self.anchors.max_decode else scores

    def train(self, mode: bool = True) -> "SSD":
        """Stay in evaluation mode. `mode` is ignored, so a parent module cannot set this module to training mode."""
        return super().train(False)
