"""Write an exported detector: the model file, and the JSON file that says how to feed it."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision

from detector.config import Config
from detector.export.form import INFO_NAME, PRECISIONS, TORCHSCRIPT, ExportForm
from detector.export.ssd import SSD, anchor_pairs
from detector.preprocess.representation import byte_code
from detector.utils.atomic_write import atomic_write
from detector.utils.checksum import sha256_of

__all__ = ["export_lightning_model", "export_ssd"]


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
        form: kind of file, see `detector.export.forms`.

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
    with atomic_write(out / form.file, keep_suffix=True) as part:
        found = form.write(ssd, part, values["height"], values["width"])
        info = {
            **_info(ssd, values, nms_thresh, score_thresh),
            **{"form": form.name, "file": form.file, "precision": precision},
            **found,
            "sha256": sha256_of(part),
        }
    with atomic_write(out / INFO_NAME) as info_part:
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
        "anchor_list": anchor_pairs(ssd.anchors.anchor_list),
        "base_size": params["base_size"],
        "strides": list(ssd.feature_extractor.strides),
        "variances": [ssd.varx, ssd.vary],
        "score_thresh": score_thresh,
        "nms_thresh": nms_thresh,
        "max_boxes_per_input": params["max_boxes_per_input"],
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
    }
