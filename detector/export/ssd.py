"""Export of a trained detector to TorchScript, beside a JSON file that says how to feed it.

The exported file holds everything from a frame to boxes, its memory included, and needs neither Python nor
torchvision where it runs.
"""

import argparse
import copy
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from detector.anchors import ANCHOR_LISTS
from detector.config import Config
from detector.decoding import class_scores, crop_boxes, decode_boxes, non_max_suppression, select_rows
from detector.events.writing import whole_file
from detector.export_form import INFO_NAME, PRECISIONS, TORCHSCRIPT, ExportForm
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

MODEL_NAME = TORCHSCRIPT.file


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
        given = _anchor_pairs(anchor_list)
        if given != _anchor_pairs(net.box_coder.anchor_list):
            raise ValueError(f"anchor_list: got {given}, allowed: the detector's own, {net.box_coder.anchor_list}")
        net.reset_all()
        self.in_channels = net.feature_extractor.cin
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
            score_thresh: rows at or below this score are left out.

        Returns:
            List T of list B of (M, 6) x1, y1, w, h, score, class_id (1..K), in pixels of x, cropped to the frame.
        """
        features = self.feature_extractor(self._frames(x))
        loc, logits = self.predict(features)
        scores = class_scores(logits)
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

    def _crop(self, rows: Tensor, height: int, width: int) -> Tensor:
        return torch.cat([crop_boxes(rows[:, :4], height, width), rows[:, 4:]], dim=1)


def export_ssd(
    ssd: SSD,
    params: argparse.Namespace | Mapping[str, Any],
    out_directory: str | Path,
    nms_thresh: float,
    score_thresh: float,
    *,
    form: ExportForm = TORCHSCRIPT,
) -> Path:
    """Write the model file (`model.ptjit`) and `info_ssd_jit.json`.

    Args:
        ssd: the detector to export, in the precision that the file should have.
        params: flat hyperparameters (`Config.to_hparams()`) with the trained `height` and `width`, `classes` and the
            `label_map` of files.
        out_directory: folder to write to, made if missing.
        nms_thresh: suppression threshold that users of the file should take.
        score_thresh: score threshold that users of the file should take.
        form: kind of file, see `detector.export_forms`.

    Returns:
        The model file.

    Raises:
        ValueError: the form does not take the precision, or needs a package that is not there.
    """
    precision = next(name for name, dtype in PRECISIONS.items() if dtype == ssd.precision.dtype)
    if precision not in form.precisions:
        raise ValueError(f"precision: got {precision}, allowed for {form.name}: {', '.join(form.precisions)}")
    out = Path(out_directory)
    out.mkdir(parents=True, exist_ok=True)
    ssd.reset_all()  # live memory would be baked into the file
    values = dict(params) if isinstance(params, Mapping) else vars(params)
    part = out / f"part-{form.file}"  # some writers want the file's ending
    try:
        found = form.write(ssd, part, values["height"], values["width"])
        info = {
            **_info(ssd, values, nms_thresh, score_thresh),
            **{"form": form.name, "file": form.file, "precision": precision},
            **found,
            "sha256": hashlib.sha256(part.read_bytes()).hexdigest(),
        }
        os.replace(part, out / form.file)
    finally:
        part.unlink(missing_ok=True)
    with whole_file(out / INFO_NAME) as info_part:
        info_part.write_text(json.dumps(info, indent=2) + "\n")
    return out / form.file


def export_lightning_model(
    lightning_model: Any,
    out_directory: str | Path,
    nms_thresh: float,
    score_thresh: float,
    *,
    form: ExportForm = TORCHSCRIPT,
    prepare: Callable[[SSD], SSD] = lambda ssd: ssd,
) -> Path:
    """Write the model file and `info_ssd_jit.json` of a trained `LightningDetectionModel`; see `export_ssd`.

    Args:
        lightning_model: the trained model.
        out_directory, nms_thresh, score_thresh, form: see `export_ssd`.
        prepare: what is done to the detector before, such as another precision.
    """
    hparams = lightning_model.hparams
    ssd = prepare(SSD(lightning_model.detector, hparams["anchor_list"]).cpu())
    params = {
        **hparams,
        "classes": lightning_model.classes,
        "label_map": lightning_model.label_map,
        "height": lightning_model.height,
        "width": lightning_model.width,
    }
    return export_ssd(ssd, params, out_directory, nms_thresh, score_thresh, form=form)


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
