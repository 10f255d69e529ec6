"""Export of a trained detector to a file that runs without the training code."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from evforge.evaluation.checkpoint import find_checkpoint, load_model

if TYPE_CHECKING:
    from torch import Tensor

    from detector.lightning_model import LightningDetectionModel

__all__ = ["export"]

CLIP_BATCHES = 2
"""Number of batches on which the file must agree with the model. The second batch tests the recurrent state."""


def export(
    checkpoint: str | Path,
    output: str | Path,
    score_thresh: float = 0.4,
    form: str = "torchscript",
    precision: str = "float32",
) -> Path:
    """Export a trained detector to a model file and `info_ssd_jit.json`, and check the model file.

    A TorchScript file must pass the tests of `detector.jitting_test`. Files of all forms must give the same detections
    as the model, within a tolerance, on a clip of the validation split. If the dataset of the training no longer
    exists, random frames are used instead.

    Args:
        checkpoint: checkpoint, or folder of a run or study.
        output: folder to write to.
        score_thresh: default score threshold for users of the file.
        form: kind of model file: a name in `EXPORT_FORMS`, such as "onnx", or the import path of an `ExportForm`.
        precision: precision of the network: "float32", "bf16" or "half".

    Returns:
        The folder with the two files.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the file is not a checkpoint of a detector, the form does not support the precision or needs a
            package that is not installed, or the exported file fails a check.
    """
    from detector.config.extensions import EXPORT_FORMS
    from detector.export.check import check_export
    from detector.export.form import load_torchscript
    from detector.export.write import export_lightning_model

    if not 0 <= score_thresh <= 1:
        raise ValueError(f"score_thresh: got {score_thresh}, allowed: a number from 0 to 1")
    model = load_model(find_checkpoint(checkpoint)).eval()
    nms_thresh = model.config.eval.nms_thresh
    file = export_lightning_model(model, output, nms_thresh, score_thresh, form=form, precision=precision)
    if EXPORT_FORMS[form].load is load_torchscript:
        check_export(file.parent)
    _check_on_clip(model, file)
    return file.parent


def _check_on_clip(model: "LightningDetectionModel", file: Path) -> None:
    """Check that an exported file and its model give the same detections on consecutive batches, within a tolerance.

    Raises:
        ValueError: the detections differ by too much.
    """
    import torch

    from detector.config.extensions import EXPORT_FORMS
    from detector.export.bundle import load_exported
    from detector.export.parity import compare_rows
    from detector.export.ssd import SSD

    eager = SSD(model.detector, model.config.anchors.anchor_list)
    exported, info, _ = load_exported(file.parent, "cpu")
    exact = EXPORT_FORMS[info["form"]].exact(info["precision"])
    with torch.inference_mode():
        for number, (frames, source) in enumerate(_clip(model)):
            fault = compare_rows(eager.forward(frames, -1.0), exported.forward(frames, -1.0)).fault(exact)
            if fault:
                raise ValueError(f"{file}: differs from the model by too much on batch {number} of {source}: {fault}")


def _clip(model: "LightningDetectionModel") -> "Iterator[tuple[Tensor, str]]":
    """Yield batches of frames (T, B, C, H, W), each with a text that names their source.

    The batches are the first ones of the validation split. If it no longer exists, they are random.
    """
    import torch

    from detector.data_factory import psee_data

    dataset = Path(model.config.data.dataset_path)
    if (dataset / "val").is_dir():
        loader = psee_data(model.config.with_overrides({"data.num_workers": 0}).to_hparams(), "val")
        yield from ((batch["inputs"], "the validation split") for batch in islice(loader, CLIP_BATCHES))
        return
    print(f"{dataset / 'val'}: no longer exists, so the file is checked on random frames only")
    shape = (4, 2, model.detector.in_channels, model.height or 120, model.width or 160)
    generator = torch.Generator().manual_seed(0)
    yield from ((torch.rand(shape, generator=generator), "random frames") for _ in range(CLIP_BATCHES))
