"""The scriptable form of a trained detector: everything from a frame to boxes, its state included.

Where it runs, the exported file needs neither Python nor torchvision.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.anchors import ANCHOR_LISTS
from detector.matching.decoding import best_class, class_scores, decode_boxes, select_rows
from detector.matching.nms import non_max_suppression
from detector.single_stage_detector import SingleStageDetector

__all__ = ["SSD", "BoxDecoder", "anchor_pairs"]


def anchor_pairs(anchor_list: str | Sequence[tuple[float, float]]) -> list[list[float]]:
    """(ratio, scale) pairs of an anchor list, given by its name or by themselves."""
    pairs = ANCHOR_LISTS[anchor_list] if isinstance(anchor_list, str) else anchor_list
    return [[float(ratio), float(scale)] for ratio, scale in pairs]


class BoxDecoder(nn.Module):
    """Turns predictions into rows of boxes, in float32."""

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
        """Decode without non-maximum suppression.

        Args:
            anchors: (N, A, 4) cx, cy, w, h in pixels.
            loc_preds: (N, A, 4) box offsets.
            cls_preds: (N, A, K) scores without background.
            varx: scale of the centre offsets.
            vary: scale of the size offsets.
            score_thresh: rows at or below this score are left out.
            batch_size: B.

        Returns:
            List T of list B of (M, 6) x1, y1, w, h, score, class_id (1..K): a row for every anchor and class, but for
            boxes that have no area or hold NaN.
        """
        boxes = decode_boxes(anchors, loc_preds, varx, vary)
        return select_rows(boxes, cls_preds.float(), score_thresh, batch_size)


class SSD(nn.Module):
    """The scriptable form of a trained detector.

    Args:
        net: trained detector; a copy in evaluation mode and without memory is kept.
        anchor_list: name of the anchor list or its (ratio, scale) pairs; must be the one `net` was trained with.

    Raises:
        ValueError: `anchor_list` is not the detector's.
    """

    precision: Tensor
    head_precision: Tensor

    def __init__(
        self, net: SingleStageDetector, anchor_list: str | Sequence[tuple[float, float]] = "PSEE_ANCHORS"
    ) -> None:
        super().__init__()
        net = copy.deepcopy(net).eval()
        given = anchor_pairs(anchor_list)
        if given != anchor_pairs(net.box_coder.anchor_list):
            raise ValueError(f"anchor_list: got {given}, allowed: the detector's own, {net.box_coder.anchor_list}")
        net.reset_all()
        self.in_channels = net.in_channels
        self.feature_extractor = net.feature_extractor
        self.rpn = net.rpn
        self.anchors = net.box_coder
        self.box_decoder = BoxDecoder()
        self.varx = float(net.box_coder.variances[0])
        self.vary = float(net.box_coder.variances[1])
        # Empty: they turn with the weights of backbone and head.
        self.register_buffer("precision", torch.zeros(0))
        self.register_buffer("head_precision", torch.zeros(0))
        self.eval()

    def forward(self, x: Tensor, score_thresh: float = 0.4) -> list[list[Tensor]]:
        """Advance the streams and decode without non-maximum suppression.

        Args:
            x: (T, B, C, H, W) frames, of any floating point type.
            score_thresh: rows at or below this score are left out. A threshold below 0 leaves out nothing: two
                detectors give rows of the same anchors and classes, boxes without area included.

        Returns:
            List T of list B of (M, 6) x1, y1, w, h, score, class_id (1..K), in pixels of x, cropped to the frame. Boxes
            of which nothing is left there, and those that hold NaN, are dropped.
        """
        boxes, scores = self._boxes(x)
        return select_rows(boxes, scores, score_thresh, x.size(1), score_thresh < 0)

    @torch.jit.export
    def detect(
        self, x: Tensor, score_thresh: float = 0.4, nms_thresh: float = 0.5, max_boxes: int = 500
    ) -> list[list[Tensor]]:
        """Advance the streams and decode with non-maximum suppression: the boxes of `SingleStageDetector.get_boxes`.

        Args:
            x: (T, B, C, H, W) frames.
            score_thresh: rows at or below this score are left out.
            nms_thresh: overlap above which the lower of two scores of a class is dropped.
            max_boxes: rows of a frame that enter the suppression.
        """
        boxes, scores = self._boxes(x)
        kept: list[list[Tensor]] = []
        for streams in select_rows(boxes, scores, score_thresh, x.size(1), True):  # empty ones count in max_boxes
            kept.append([non_max_suppression(rows, nms_thresh, max_boxes) for rows in streams])
        return kept

    @torch.jit.export
    def forward_network_without_box_decoding(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Advance the streams: box offsets (N, A, 4) and class logits (N, A, K + 1) of (T, B, C, H, W)."""
        return self.predict(self.feature_extractor(self._frames(x)))

    def predict(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Box offsets (N, A, 4) and class logits (N, A, K + 1), float32, of the feature maps."""
        loc, logits = self.rpn([level.to(self.head_precision.dtype) for level in features])
        return loc.float(), logits.float()

    @torch.jit.export
    def reset(self, mask: Tensor) -> None:
        """Clear the memory of the streams whose `mask` (B,) is 0."""
        self.feature_extractor.reset(mask)

    @torch.jit.export
    def reset_all(self) -> None:
        """Clear the memory of all streams."""
        self.feature_extractor.reset_all()

    def _frames(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise ValueError("x: got whole numbers, allowed: floating point frames, scaled as info_ssd_jit.json says")
        return x.to(self.precision.dtype)

    def _boxes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, A, 4) x1, y1, w, h, cropped to the frame, and scores (N, A, K)."""
        features = self.feature_extractor(self._frames(x))
        loc, logits = self.predict(features)
        boxes = decode_boxes(self.anchors(features, x), loc, self.varx, self.vary, x.size(3), x.size(4))
        return boxes, self.scores(logits)

    def scores(self, logits: Tensor) -> Tensor:
        """Scores (N, A, K) of logits; with the anchors' `max_decode`, NaN for all but the best class of an anchor."""
        scores = class_scores(logits)
        return best_class(scores) if self.anchors.max_decode else scores

    def train(self, mode: bool = True) -> "SSD":
        """Stays in evaluation mode, also where a module that holds it is trained."""
        return super().train(False)
