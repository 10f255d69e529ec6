"""Export: a trained detector as a TorchScript file that runs without Python."""

import argparse
import warnings
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from evlab.evaluate import find_checkpoint, load_model

if TYPE_CHECKING:
    from detector.lightning_model import LightningDetectionModel

__all__ = ["export"]

CLIP_BATCHES = 2
"""Batches of the validation split on which the file must answer as the model does; the second finds memory."""


def export(checkpoint: str | Path, output: str | Path, score_thresh: float = 0.4) -> Path:
    """Write `model.ptjit` and `info_ssd_jit.json`, and check them.

    The cases of `detector.jitting_test` run on the file, and it must answer as the model does on a clip of the
    validation split, where the dataset that the model was trained on is still there.

    Args:
        checkpoint: checkpoint, or folder of a run or study.
        output: folder to write to.
        score_thresh: score from which users of the file should show a box.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the file is no checkpoint of a detector, or the exported file fails a check.
    """
    from detector.jitting import MODEL_NAME, export_lightning_model
    from evlab.registry import check_export

    if not 0 <= score_thresh <= 1:
        raise ValueError(f"score_thresh: got {score_thresh}, allowed: a number from 0 to 1")
    model = load_model(find_checkpoint(checkpoint)).eval()
    output = Path(output)
    export_lightning_model(model, output, model.hparams["nms_thresh"], score_thresh)
    check_export(output)
    dataset = Path(model.hparams["dataset_path"])
    if (dataset / "val").is_dir():
        _check_on_clip(model, output / MODEL_NAME)
    else:
        print(f"{dataset / 'val'}: no longer there, the file was checked on random frames only")
    return output


def _check_on_clip(model: "LightningDetectionModel", file: Path) -> None:
    """Scripted equals eager on real frames, memory included."""
    import torch

    from detector.data_factory import psee_data
    from detector.jitting import SSD

    loader = psee_data(argparse.Namespace(**{**model.hparams, "num_workers": 0}), "val")
    eager = SSD(model.detector, model.hparams["anchor_list"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that TorchScript is deprecated
        scripted = torch.jit.load(file)
    with torch.inference_mode():
        for number, batch in enumerate(islice(loader, CLIP_BATCHES)):
            frames = batch["inputs"]
            wanted = eager.forward_network_without_box_decoding(frames)
            found = scripted.forward_network_without_box_decoding(frames)
            worst = max(float((a - b).abs().max()) for a, b in zip(wanted, found, strict=True))
            if not worst <= 1e-3:  # NaN fails, too
                raise ValueError(
                    f"{file}: differs from the model by {worst:.2g} on batch {number} of the validation split, "
                    "allowed: up to 0.001"
                )
