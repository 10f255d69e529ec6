"""COCO mAP of a trained detector on a split, with its protocol, its PR curve and pictures of its detections."""

import argparse
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from detector.config import Config
from evlab.runs import BEST_CHECKPOINT, RECORD_FILE, read_record
from evlab.train import quiet

if TYPE_CHECKING:
    from torch import Tensor

    from detector.lightning_model import LightningDetectionModel
    from evlab.tracking import Tracker

__all__ = ["Evaluation", "checkpoint_config", "evaluate", "find_checkpoint", "load_model"]

PICTURES, COLUMNS = 12, 4
MAX_PICTURE_BATCHES = 120
NAMES = {"mean_ap": "mAP", "mean_ap50": "mAP50", "mean_ap75": "mAP75"}


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        metrics: `mean_ap`, `mean_ap50`, ..., and `mean_ap_<class>`
        protocol: what makes two figures comparable, see `detector.evaluation.Protocol`
        data_fingerprint: of the split's files
        split: val or test
        folder: holds the pictures
        pictures: contact sheet of detections
    """

    metrics: dict[str, float]
    protocol: dict[str, float]
    data_fingerprint: str
    split: str
    folder: Path
    pictures: Path

    def text(self) -> str:
        """The figures and their protocol, for people."""
        p = self.protocol
        lines = [f"{NAMES.get(name, name):<24} {value:.4f}" for name, value in self.metrics.items()]
        rules = (
            f"protocol: COCO AP 0.50:0.95, labelled frames of {self.split}; first {p['skip_us'] / 1e6:g} s skipped; "
            f"boxes under {p['min_box_diag']:g} px diagonal or {p['min_box_side']:g} px side dropped; tolerance "
            f"{p['time_tol_us'] / 1e3:g} ms; score floor {p['score_thresh']:g}; NMS at IoU {p['nms_thresh']:g}"
        )
        return "\n".join([*lines, rules])


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that a path names: a file, or the best one of a run's or a study's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    for candidate in (path, path / BEST_CHECKPOINT, path / "best" / BEST_CHECKPOINT):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{path}: no checkpoint, allowed: a .ckpt file, or the folder of a run or study that ended")


def checkpoint_config(checkpoint: Path) -> Config:
    """The configuration that a checkpoint's model was made of.

    Raises:
        ValueError: the file is no checkpoint of a detector.
    """
    return Config.from_hparams(_read(checkpoint)["hyper_parameters"])


def load_model(checkpoint: Path, config: Config | None = None) -> "LightningDetectionModel":
    """The trained model.

    Args:
        checkpoint: Lightning checkpoint.
        config: other settings for data and evaluation; those of the checkpoint if None.

    Raises:
        ValueError: the file is no checkpoint of a detector, or its weights do not fit `config`.
    """
    from detector.lightning_model import LightningDetectionModel

    content = _read(checkpoint)
    hparams = config.to_hparams() if config else argparse.Namespace(**content["hyper_parameters"])
    model = LightningDetectionModel(hparams)
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise ValueError(
            f"{checkpoint}: its weights do not fit the settings: {str(error).splitlines()[1].strip()}"
        ) from None
    model.on_load_checkpoint(content)
    return model


def evaluate(
    checkpoint: str | Path,
    config: Config | None = None,
    split: Literal["val", "test"] = "test",
    folder: Path | None = None,
) -> Evaluation:
    """Measure a detector in this process, and log it to the MLflow run that trained it.

    Args:
        checkpoint: checkpoint, or folder of a run or study.
        config: settings that replace the checkpoint's own.
        split: what to measure on.
        folder: where pictures go; `evaluate-<split>` beside the checkpoint if None.

    Raises:
        ValueError: no checkpoint of a detector, or the settings do not fit it or the dataset.
        FileNotFoundError: the checkpoint or the dataset is not there.
    """
    from detector.data_factory import psee_data
    from detector.viz import save_png
    from evlab.registry import data_fingerprint

    path = find_checkpoint(checkpoint)
    config = config or checkpoint_config(path)
    model = load_model(path, config)
    loader = psee_data(config.to_hparams(), split)
    folder = folder or path.parent / f"evaluate-{split}"
    metrics = _measure(model, config, loader, split)
    found = Evaluation(
        metrics,
        asdict(model.protocol),
        data_fingerprint(Path(config.data.dataset_path) / split),
        split,
        folder,
        folder / "detections.png",
    )
    save_png(found.pictures, _contact_sheet(model, loader))
    _log(found, model, path, config)
    return found


def _read(checkpoint: Path) -> dict[str, Any]:
    import pickle

    import torch

    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{checkpoint}: not a checkpoint of a detector: {reason}") from None
    if not isinstance(content, dict) or not {"hyper_parameters", "state_dict", "dataset"} <= content.keys():
        raise ValueError(f"{checkpoint}: not a checkpoint of a detector, allowed: what `evlab train` writes")
    return content


def _measure(model: "LightningDetectionModel", config: Config, loader: Any, split: str) -> dict[str, float]:
    import pytorch_lightning as pl
    import torch

    from detector.lightning_model import resolve_precision

    quiet()
    use_gpu = torch.cuda.is_available() if config.train.use_gpu == "auto" else bool(config.train.use_gpu)
    trainer = pl.Trainer(
        accelerator="gpu" if use_gpu else "cpu",
        devices=1,
        precision=resolve_precision(config.train.precision, use_gpu),  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    run = trainer.test if split == "test" else trainer.validate
    (metrics,) = run(model, dataloaders=loader, verbose=False)
    model.cpu()
    prefix = f"{split}_"
    return {name.removeprefix(prefix): float(value) for name, value in metrics.items() if name.startswith(prefix)}


def _contact_sheet(model: "LightningDetectionModel", loader: Any) -> "Tensor":
    """Detections on labelled frames, spread over the first batches of the split."""
    import torch

    from detector.viz import contact_sheet, draw_detections

    batches = min(len(loader), MAX_PICTURE_BATCHES)
    chosen = {index * batches // PICTURES for index in range(PICTURES)}
    images = []
    model.eval()
    model.detector.reset_all()
    with torch.inference_mode():
        for index, batch in enumerate(islice(loader, batches)):
            model.detector.reset(batch["mask_keep_memory"])
            detections = model.detector.get_boxes(batch["inputs"], score_thresh=0.3)
            labelled = batch["frame_is_labeled"].nonzero().tolist()
            if index in chosen and labelled:
                t, b = labelled[-1 - index % min(len(labelled), batch["inputs"].shape[1])]  # another stream each time
                targets = batch["labels"][t][b]
                images.append(draw_detections(batch["inputs"][t, b], detections[t][b], model.classes, targets))
    model.detector.reset_all()
    return contact_sheet(images, COLUMNS)


def _log(found: Evaluation, model: "LightningDetectionModel", checkpoint: Path, config: Config) -> None:
    """Metrics, PR curve and pictures, to the run that trained the model; to a run of its own if that is not known."""
    from evlab.report import pr_curve_figure
    from evlab.tracking import Tracker

    if (checkpoint.parent / RECORD_FILE).is_file():
        record = read_record(checkpoint.parent)
        tracker = Tracker(record.tracking_uri, record.experiment)
        run: Any = nullcontext(record.run_id)
    else:
        tracker = Tracker(config.track.tracking_uri, config.track.experiment)
        run = tracker.run(f"evaluate-{checkpoint.stem}", config.to_flat(), {"checkpoint": str(checkpoint)})
    with run as run_id:
        _log_files(tracker, run_id, found, pr_curve_figure(_curves(model), f"{found.split}, IoU 0.5"))


def _log_files(tracker: "Tracker", run_id: str, found: Evaluation, figure: Any) -> None:
    tracker.log_metrics(run_id, {f"{found.split}_{key}": value for key, value in found.metrics.items()}, step=0)
    tracker.log_text(run_id, found.text() + "\n", f"{found.split}/metrics.txt")
    tracker.log_figure(run_id, figure, f"{found.split}/pr_curve.png")
    tracker.log_file(run_id, found.pictures, found.split)
    tracker.set_tag(run_id, f"{found.split}_data_fingerprint", found.data_fingerprint)


def _curves(model: "LightningDetectionModel") -> dict[str, Any]:
    assert model.measured is not None  # `_measure` ran
    return model.measured.precision_recall
