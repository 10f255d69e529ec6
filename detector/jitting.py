"""Export of a trained detector to TorchScript, beside a JSON file that says how to feed it.

The exported file holds everything from a frame to boxes, its memory included, and needs neither Python nor
torchvision where it runs.
"""

import argparse
import copy
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from detector.anchors import ANCHOR_LISTS
from detector.config import Config
from detector.preprocess import byte_code
from detector.single_stage_detector import SingleStageDetector

__all__ = [
    "INFO_NAME",
    "MODEL_NAME",
    "SSD",
    "BoxDecoder",
    "export_lightning_model",
    "export_ssd",
    "non_max_suppression",
]

MODEL_NAME = "model.ptjit"
INFO_NAME = "info_ssd_jit.json"


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
            List T of list B of (M, 6) x1, y1, w, h, score, class_id (1..K): a row for every anchor and class.
        """
        loc = loc_preds.float()
        size = anchors[..., 2:] * torch.exp((loc[..., 2:] * vary).clamp(max=10.0))
        corner = anchors[..., :2] + loc[..., :2] * varx * anchors[..., 2:] - 0.5 * size
        boxes = torch.cat([corner, size], dim=2)
        scores = cls_preds.float()
        steps: list[list[Tensor]] = []
        for t in range(scores.size(0) // batch_size):
            streams: list[Tensor] = []
            for b in range(batch_size):
                n = t * batch_size + b
                index = (scores[n] > score_thresh).nonzero()
                anchor, label = index[:, 0], index[:, 1]
                score = scores[n][anchor, label].unsqueeze(1)
                streams.append(torch.cat([boxes[n][anchor], score, (label + 1).unsqueeze(1).float()], dim=1))
            steps.append(streams)
        return steps


def non_max_suppression(rows: Tensor, nms_thresh: float, max_boxes: int) -> Tensor:
    """Greedy suppression within each class, in plain torch.

    Args:
        rows: (M, 6) x1, y1, w, h, score, class_id.
        nms_thresh: overlap above which the lower of two scores of a class is dropped.
        max_boxes: only this many rows of the highest scores are looked at.

    Returns:
        The rows that stay, by descending score.
    """
    order = rows[:, 4].argsort(descending=True, stable=True)
    rows = rows[order[:max_boxes]]
    low, high = rows[:, :2], rows[:, :2] + rows[:, 2:4]
    overlap = torch.minimum(high.unsqueeze(1), high) - torch.maximum(low.unsqueeze(1), low)
    inter = overlap.clamp(min=0).prod(dim=2)
    area = rows[:, 2] * rows[:, 3]
    same_class = rows[:, 5].unsqueeze(1) == rows[:, 5]
    covers = (inter > nms_thresh * (area.unsqueeze(1) + area - inter)) & same_class
    covers = covers.triu(diagonal=1).cpu()
    keep = torch.ones(rows.size(0), dtype=torch.bool)
    for i in range(rows.size(0)):
        if bool(keep[i]):
            keep.logical_and_(covers[i].logical_not())
    return rows[keep.to(rows.device)]


class SSD(nn.Module):
    """The scriptable form of a trained detector.

    Args:
        net: trained detector; a copy in evaluation mode and without memory is kept.
        anchor_list: name of the anchor list or its (ratio, scale) pairs; must be the one `net` was trained with.

    Raises:
        ValueError: `anchor_list` is not the detector's.
    """

    def __init__(
        self, net: SingleStageDetector, anchor_list: str | Sequence[tuple[float, float]] = "PSEE_ANCHORS"
    ) -> None:
        super().__init__()
        net = copy.deepcopy(net).eval()
        given = _anchor_pairs(anchor_list)
        if given != _anchor_pairs(net.box_coder.anchor_list):
            raise ValueError(f"anchor_list: got {given}, allowed: the detector's own, {net.box_coder.anchor_list}")
        net.reset_all()
        self.feature_extractor = net.feature_extractor
        self.rpn = net.rpn
        self.anchors = net.box_coder
        self.box_decoder = BoxDecoder()
        self.varx = float(net.box_coder.variances[0])
        self.vary = float(net.box_coder.variances[1])

    def forward(self, x: Tensor, score_thresh: float = 0.4) -> list[list[Tensor]]:
        """Advance the streams and decode without non-maximum suppression.

        Args:
            x: (T, B, C, H, W) frames.
            score_thresh: rows at or below this score are left out.

        Returns:
            List T of list B of (M, 6) x1, y1, w, h, score, class_id (1..K), in pixels of x, cropped to the frame.
        """
        features = self.feature_extractor(x)
        loc, logits = self.rpn(features)
        scores = logits.float().softmax(dim=2)[..., 1:]
        anchors = self.anchors(features, x)
        steps = self.box_decoder(anchors, loc, scores, self.varx, self.vary, score_thresh, x.size(1))
        cropped: list[list[Tensor]] = []
        for streams in steps:
            cropped.append([self._crop(rows, x.size(3), x.size(4)) for rows in streams])
        return cropped

    @torch.jit.export
    def detect(
        self, x: Tensor, score_thresh: float = 0.4, nms_thresh: float = 0.5, max_boxes: int = 500
    ) -> list[list[Tensor]]:
        """Advance the streams and decode with non-maximum suppression; rows as `forward`, by descending score.

        Args:
            x: (T, B, C, H, W) frames.
            score_thresh: rows at or below this score are left out.
            nms_thresh: overlap above which the lower of two scores of a class is dropped.
            max_boxes: rows of a frame that enter the suppression.
        """
        kept: list[list[Tensor]] = []
        for streams in self.forward(x, score_thresh):
            kept.append([non_max_suppression(rows, nms_thresh, max_boxes) for rows in streams])
        return kept

    @torch.jit.export
    def forward_network_without_box_decoding(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Advance the streams: box offsets (N, A, 4) and class logits (N, A, K + 1) of (T, B, C, H, W)."""
        loc, logits = self.rpn(self.feature_extractor(x))
        return loc, logits

    @torch.jit.export
    def reset(self, mask: Tensor) -> None:
        """Clear the memory of the streams whose `mask` (B,) is 0."""
        self.feature_extractor.reset(mask)

    @torch.jit.export
    def reset_all(self) -> None:
        """Clear the memory of all streams."""
        self.feature_extractor.reset_all()

    def _crop(self, rows: Tensor, height: int, width: int) -> Tensor:
        x1, y1 = rows[:, 0].clamp(0, width), rows[:, 1].clamp(0, height)
        x2, y2 = (rows[:, 0] + rows[:, 2]).clamp(0, width), (rows[:, 1] + rows[:, 3]).clamp(0, height)
        return torch.cat([torch.stack([x1, y1, x2 - x1, y2 - y1], dim=1), rows[:, 4:]], dim=1)


def export_ssd(
    ssd: SSD,
    params: argparse.Namespace | Mapping[str, Any],
    out_directory: str | Path,
    nms_thresh: float,
    score_thresh: float,
) -> Path:
    """Write `model.ptjit` and `info_ssd_jit.json`.

    Args:
        ssd: the detector to script.
        params: flat hyperparameters (`Config.to_hparams()`) with the trained `height` and `width`, `classes` and the
            `label_map` of files.
        out_directory: folder to write to, made if missing.
        nms_thresh: suppression threshold that users of the file should take.
        score_thresh: score threshold that users of the file should take.

    Returns:
        The model file.
    """
    out = Path(out_directory)
    out.mkdir(parents=True, exist_ok=True)
    ssd.reset_all()  # live memory would be baked into the file
    part = out / (MODEL_NAME + ".part")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.* is deprecated.*")
        torch.jit.script(ssd).save(str(part))
    values = dict(params) if isinstance(params, Mapping) else vars(params)
    info = _info(ssd, values, nms_thresh, score_thresh)
    info["sha256"] = hashlib.sha256(part.read_bytes()).hexdigest()
    os.replace(part, out / MODEL_NAME)
    info_part = out / (INFO_NAME + ".part")
    info_part.write_text(json.dumps(info, indent=2) + "\n")
    os.replace(info_part, out / INFO_NAME)
    return out / MODEL_NAME


def export_lightning_model(
    lightning_model: Any, out_directory: str | Path, nms_thresh: float, score_thresh: float
) -> Path:
    """Write `model.ptjit` and `info_ssd_jit.json` of a trained `LightningDetectionModel`; see `export_ssd`."""
    hparams = lightning_model.hparams
    ssd = SSD(lightning_model.detector, hparams["anchor_list"]).cpu()
    params = {
        **hparams,
        "classes": lightning_model.classes,
        "label_map": lightning_model.label_map,
        "height": lightning_model.height,
        "width": lightning_model.width,
    }
    return export_ssd(ssd, params, out_directory, nms_thresh, score_thresh)


def _info(ssd: SSD, params: Mapping[str, Any], nms_thresh: float, score_thresh: float) -> dict[str, Any]:
    """What a program needs to feed the model and to read its rows."""
    data = Config.from_hparams(params).data
    return {
        "preprocess": params["preprocess"],
        "preprocess_params": {"max_incr_per_pixel": data.max_incr_per_pixel, **data.utbin_parameters},
        "normalisation": {"divisor_of_counts": byte_code(data)[1]},
        "in_channels": data.in_channels,
        "delta_t": params["delta_t"],
        "num_tbins": params["num_tbins"],
        "height": params["height"],
        "width": params["width"],
        "classes": list(params["classes"]),
        "label_map": {str(key): name for key, name in params["label_map"].items()},
        "anchor_list": _anchor_pairs(ssd.anchors.anchor_list),
        "base_size": params["base_size"],
        "strides": list(ssd.feature_extractor.strides),
        "variances": [ssd.varx, ssd.vary],
        "score_thresh": score_thresh,
        "nms_thresh": nms_thresh,
        "max_boxes_per_input": params["max_boxes_per_input"],
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
    }


def _anchor_pairs(anchor_list: str | Sequence[tuple[float, float]]) -> list[list[float]]:
    pairs = ANCHOR_LISTS[anchor_list] if isinstance(anchor_list, str) else anchor_list
    return [[float(ratio), float(scale)] for ratio, scale in pairs]
