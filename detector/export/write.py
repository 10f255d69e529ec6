"""Write an exported detector: the model file, and the JSON file that describes its inputs and outputs."""

import argparse
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision

from detector.config import Config
from detector.config.checks import require
from detector.config.extensions import EXPORT_FORMS
from detector.export.backends.cpu_layers import fold_batch_norms
from detector.export.form import INFO_NAME, PRECISIONS, ExportForm
from detector.export.ssd import SSD
from detector.preprocess.representation import representation_of
from detector.utils.atomic_write import atomic_write
from detector.utils.checksum import sha256_of

__all__ = ["export_lightning_model", "export_ssd", "in_precision"]


def export_ssd(
    ssd: SSD,
    params: argparse.Namespace | Mapping[str, Any],
    out_directory: str | Path,
    nms_thresh: float,
    score_thresh: float,
    *,
    form: str = "torchscript",
    precision: str = "float32",
) -> Path:
    """Write an exported detector: the model file and `info_ssd_jit.json`.

    Args:
        ssd: the detector to export. It is not changed.
        params: the settings in `Config.to_hparams()`, together with `classes` (names), `label_map` (dict from class ids
            to names), and `height` and `width` of the training frames.
        out_directory: folder to write to; created if missing.
        nms_thresh: IoU threshold of non-maximum suppression, stored as the default for users of the file.
        score_thresh: score threshold, stored as the default for users of the file.
        form: kind of the model file: name in `EXPORT_FORMS`, or import path of an `ExportForm`.
        precision: key of `PRECISIONS`.

    Returns:
        Path of the model file.

    Raises:
        ValueError: the form is unknown; it does not support the precision, the detector or this processor; or it needs
            a package that is not installed.
    """
    kind = EXPORT_FORMS[form]
    require(isinstance(kind, ExportForm), "form", form, "a detector.export.form.ExportForm")
    require(precision in kind.precisions, "precision", precision, f"with form {form}: {', '.join(kind.precisions)}")
    kind.check_processor(form, precision)
    out = Path(out_directory)
    out.mkdir(parents=True, exist_ok=True)
    ssd = in_precision(ssd, precision)
    ssd.reset_all()  # otherwise the file would contain the state
    values = dict(params) if isinstance(params, Mapping) else vars(params)
    with atomic_write(out / kind.file, keep_suffix=True) as part:
        try:
            found = kind.write(ssd, part, values["height"], values["width"])
        except (ValueError, OSError):
            raise
        except Exception as error:  # a form from another package may raise any error
            raise EXPORT_FORMS.error(form, "written", error, "a detector that the form supports") from error
        info = {
            **_info(ssd, values, nms_thresh, score_thresh),
            **{"form": form, "file": kind.file, "precision": precision},
            **found,
            "sha256": sha256_of(part),
        }
    with atomic_write(out / INFO_NAME) as info_part:
        info_part.write_text(json.dumps(info, indent=2) + "\n")
    return out / kind.file


def export_lightning_model(
    lightning_model: Any,
    out_directory: str | Path,
    nms_thresh: float,
    score_thresh: float,
    *,
    form: str = "torchscript",
    precision: str = "float32",
) -> Path:
    """Write the model file and `info_ssd_jit.json` of a trained `LightningDetectionModel`; see `export_ssd`.

    Args:
        lightning_model: the trained model.
        out_directory, nms_thresh, score_thresh, form, precision: see `export_ssd`.
    """
    config = lightning_model.config
    params = {
        **vars(config.to_hparams()),
        "classes": lightning_model.classes,
        "label_map": lightning_model.label_map,
        "height": lightning_model.height,
        "width": lightning_model.width,
    }
    ssd = SSD(lightning_model.detector, config.anchors.anchor_list).cpu()
    return export_ssd(ssd, params, out_directory, nms_thresh, score_thresh, form=form, precision=precision)


def in_precision(ssd: SSD, precision: str) -> SSD:
    """Return a copy of the detector in a precision (key of `PRECISIONS`). For float32, return the detector itself.

    In bf16, the head stays in float32, because it takes little time and scores need more than eight bits to be ordered.
    """
    if precision == "float32":
        return ssd
    ssd = copy.deepcopy(ssd)
    fold_batch_norms(ssd)
    ssd.to(PRECISIONS[precision]).to(memory_format=torch.channels_last)
    if precision == "bf16":
        ssd.rpn.float()
        ssd.head_precision = ssd.head_precision.float()
    return ssd


def _info(ssd: SSD, params: Mapping[str, Any], nms_thresh: float, score_thresh: float) -> dict[str, Any]:
    """Return the entries of `info_ssd_jit.json` that describe the inputs and outputs of the model."""
    config = Config.from_hparams(params)
    data, representation = config.data, representation_of(config.data)
    return {
        "preprocess": data.preprocess,
        "preprocess_params": dict(representation.parameters),
        "normalisation": {"divisor_of_counts": representation.divisor},
        "in_channels": representation.channels,
        "delta_t": data.delta_t,
        "num_tbins": data.num_tbins,
        "height": params["height"],
        "width": params["width"],
        "classes": list(params["classes"]),
        "label_map": {str(key): name for key, name in params["label_map"].items()},
        "anchor_list": ssd.anchors.anchor_list,
        "base_size": config.anchors.base_size,
        "strides": list(ssd.feature_extractor.strides),
        "variances": [ssd.varx, ssd.vary],
        "score_thresh": score_thresh,
        "nms_thresh": nms_thresh,
        "max_boxes_per_input": config.model.max_boxes_per_input,
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
    }
