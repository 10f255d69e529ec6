"""A trained detector on a split: COCO mAP and figures in detail, with their protocol, curves and pictures."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from detector.config import Config
from detector.utils.atomic_write import atomic_write
from evforge.evaluation.checkpoint import checkpoint_config, find_checkpoint, load_model
from evforge.training.run_folder import RECORD_FILE, read_record, write_text

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from torch import Tensor

    from detector.evaluation.analysis.slices import Details
    from detector.evaluation.analysis.state_leak import StateLeak
    from detector.evaluation.collector import Measured
    from detector.lightning_model import LightningDetectionModel
    from evforge.tracking.tracker import Tracker

__all__ = ["Evaluation", "evaluate"]

PICTURES, COLUMNS = 12, 4
MAX_PICTURE_BATCHES = 120
NAMES = {"mean_ap": "mAP", "mean_ap50": "mAP50", "mean_ap75": "mAP75"}


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        metrics: `mean_ap`, `mean_ap50`, ..., and `mean_ap_<class>`
        protocol: what makes two figures comparable, see `detector.evaluation.collector.Protocol`
        data_fingerprint: of the split's files
        split: val or test
        folder: holds the pictures, and everything as `evaluation.json`
        pictures: contact sheet of detections
        checkpoint: what was measured
        classes: names of the classes
        details: what was measured beside mAP
        state_leak: whether a stream's detections depend on others
    """

    metrics: dict[str, float]
    protocol: dict[str, float]
    data_fingerprint: str
    split: str
    folder: Path
    pictures: Path
    checkpoint: Path
    classes: list[str]
    details: "Details"
    state_leak: "StateLeak"

    def text(self) -> str:
        """The figures and their protocol, for people."""
        from evforge.evaluation.report import details_text, protocol_text

        lines = [f"{NAMES.get(name, name):<24} {value:.4f}" for name, value in self.metrics.items()]
        return "\n".join(
            [*lines, protocol_text(self.protocol, self.split), details_text(self.details, self.state_leak)]
        )

    def figures(self) -> dict[str, float]:
        """All single figures by name: COCO's, and those in detail that are known."""
        point, latency = self.details.operating_point, self.details.latency
        found = {
            "f1": point.f1,
            "calibration_error": self.details.calibration.error,
            "tracks_found": latency.found,
            "latency_ms": latency.median_ms,
            "state_leak": self.state_leak.changed,
        }
        return {**self.metrics, **{name: value for name, value in found.items() if value is not None}}

    def to_dict(self) -> dict[str, Any]:
        """As `evaluation.json` holds it."""
        return {
            "checkpoint": str(self.checkpoint),
            "split": self.split,
            "data_fingerprint": self.data_fingerprint,
            "classes": self.classes,
            "protocol": self.protocol,
            "metrics": self.metrics,
            "details": self.details.to_dict(),
            "state_leak": self.state_leak.to_dict(),
        }


def evaluate(
    checkpoint: str | Path,
    config: Config | None = None,
    split: Literal["val", "test"] = "test",
    folder: Path | None = None,
    compare_with: str | Path | None = None,
) -> Evaluation:
    """Measure a detector in this process, write everything down, and log it to the MLflow run that trained it.

    Args:
        checkpoint: checkpoint, or folder of a run or study.
        config: settings that replace the checkpoint's own.
        split: what to measure on.
        folder: where files go; `evaluate-<split>` beside the checkpoint if None.
        compare_with: an earlier evaluation, or its folder, or that of its run or study; what it found is printed
            beside the new figures.

    Raises:
        ValueError: no checkpoint of a detector, the settings do not fit it or the dataset, or `compare_with` was
            measured on other data or by other rules.
        FileNotFoundError: the checkpoint, the dataset or the other evaluation is not there.
    """
    from detector.data.fingerprint import data_fingerprint
    from detector.data_factory import psee_data
    from detector.visualization.drawing import save_png
    from evforge.evaluation.compare import EVALUATION_FILE, check_comparable, compare, find_evaluation, read_evaluation
    from evforge.evaluation.compare import write_evaluation as write

    path = find_checkpoint(checkpoint)
    config = config or checkpoint_config(path)
    model = load_model(path, config)
    rules: dict[str, Any] = {
        "split": split,
        "data_fingerprint": data_fingerprint(Path(config.data.dataset_path) / split),
        "classes": list(model.classes),
        "protocol": asdict(model.protocol),
    }
    if compare_with is not None:  # read now: the new evaluation may take its place
        other_path = find_evaluation(compare_with, split)
        other = read_evaluation(other_path)
        check_comparable(rules, other, other_path)
    loader = psee_data(config.to_hparams(), split)
    folder = folder or path.parent / f"evaluate-{split}"
    measured, details, leak = _measure(model, config, loader)
    found = Evaluation(
        metrics=measured.metrics,
        folder=folder,
        pictures=folder / "detections.png",
        checkpoint=path,
        details=details,
        state_leak=leak,
        **rules,
    )
    save_png(found.pictures, _contact_sheet(model, loader))
    write(folder / EVALUATION_FILE, found.to_dict())
    _log(found, _draw(found, measured), path, config)
    if compare_with is not None:
        print(compare(found.to_dict(), other, other_path))
    return found


def _measure(
    model: "LightningDetectionModel", config: Config, loader: Any
) -> tuple["Measured", "Details", "StateLeak"]:
    import torch
    from tqdm import tqdm

    from detector.evaluation.analysis.event_rate import event_rates
    from detector.evaluation.analysis.slices import measure_details
    from detector.evaluation.analysis.state_leak import check_state_leak
    from detector.evaluation.detect import stream

    use_gpu = torch.cuda.is_available() if config.train.use_gpu == "auto" else bool(config.train.use_gpu)
    device, dataset = torch.device("cuda" if use_gpu else "cpu"), loader.dataset.dataset
    predictions = model.new_predictions()
    detector = model.to(device).eval().detector
    stream(detector, tqdm(loader, "detect", unit="batch"), predictions, device, _arithmetic(config, device))
    leak = check_state_leak(detector, dataset, model.protocol.nms_thresh, device)
    model.cpu()
    files = {str(file.path): file for file in dataset.files}
    preprocess = config.data.preprocess, config.data.max_incr_per_pixel
    measured = predictions.measure()
    details = measure_details(
        predictions.recordings(),
        predictions.classes,
        dataset.shape[-2:],
        model.protocol,
        lambda recording, boxes: event_rates(files[recording.path], boxes, *preprocess),
    )
    return measured, details, leak


def _arithmetic(config: Config, device: "torch.device") -> AbstractContextManager:
    """The precision of training, as Lightning sets it up."""
    import torch

    from detector.lightning_model import resolve_precision

    precision = resolve_precision(config.train.precision, device.type == "cuda")
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    return torch.autocast(device.type, kinds[precision]) if precision in kinds else nullcontext()


def _contact_sheet(model: "LightningDetectionModel", loader: Any) -> "Tensor":
    """Detections on labelled frames, spread over the first batches of the split."""
    import torch

    from detector.visualization.drawing import contact_sheet, draw_detections

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


def _draw(found: Evaluation, measured: "Measured") -> "dict[str, Figure]":
    """The figures of an evaluation, by file name."""
    from evforge.evaluation.report import calibration_figure, confusion_figure, pr_curve_figure, slices_figure

    title = f"{found.checkpoint.parent.name}, {found.split}"
    return {
        "pr_curve.png": pr_curve_figure(measured.precision_recall, f"{title}, IoU 0.5"),
        "confusion.png": confusion_figure(found.details, title),
        "calibration.png": calibration_figure(found.details, title),
        "slices.png": slices_figure(found.details, title),
    }


def _log(found: Evaluation, figures: "Mapping[str, Figure]", checkpoint: Path, config: Config) -> None:
    """Figures and pictures, to the run that trained the model; to a run of its own if that is not known."""
    from evforge.tracking.tracker import Tracker

    for name, figure in figures.items():
        with atomic_write(found.folder / name) as part:
            figure.savefig(part, format="png")
    write_text(found.folder / "metrics.txt", found.text() + "\n")
    if (checkpoint.parent / RECORD_FILE).is_file():
        record = read_record(checkpoint.parent)
        tracker = Tracker(record.tracking_uri, record.experiment)
        run: Any = nullcontext(record.run_id)
    else:
        tracker = Tracker(config.track.tracking_uri, config.track.experiment)
        run = tracker.run(f"evaluate-{checkpoint.stem}", config.to_flat(), {"checkpoint": str(checkpoint)})
    with run as run_id:
        _log_files(tracker, run_id, found, figures)


def _log_files(tracker: "Tracker", run_id: str, found: Evaluation, figures: Mapping[str, Any]) -> None:
    tracker.log_metrics(run_id, {f"{found.split}_{key}": value for key, value in found.figures().items()}, step=0)
    for name in ("metrics.txt", "evaluation.json", found.pictures.name, *figures):
        tracker.log_file(run_id, found.folder / name, found.split)
    tracker.set_tag(run_id, f"{found.split}_data_fingerprint", found.data_fingerprint)
