"""A trained detector on a split: COCO mAP and figures in detail with their protocol, curves, images of detections."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from detector.config import Config
from detector.utils.atomic_write import atomic_write
from detector.utils.decoration import decoration
from evforge.evaluation.checkpoint import checkpoint_config, find_checkpoint, load_model
from evforge.training.run_folder import RECORD_FILE, read_record, write_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from detector.data.sequence_file import SequenceFile
    from detector.evaluation.analysis.slices import Details
    from detector.evaluation.analysis.state_leak import StateLeak
    from detector.evaluation.collector import FramePredictions, Measured, RecordingBoxes
    from detector.lightning_model import LightningDetectionModel

__all__ = ["Evaluation", "evaluate"]

IMAGES, COLUMNS, SHOWN_FROM = 12, 4, 0.3
"""Of the contact sheet: frames, frames per row, lowest score of a detection."""
SHEET, METRICS_FILE = "detections.png", "metrics.txt"
NAMES = {"mean_ap": "mAP", "mean_ap50": "mAP50", "mean_ap75": "mAP75"}


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        metrics: `mean_ap`, `mean_ap50`, ..., and `ap/<class>`; None where the split has no such labels
        protocol: what makes two figures comparable, see `detector.evaluation.collector.Protocol`
        data_fingerprint: of the split's files
        split: val or test
        folder: holds everything as `evaluation.json`, and the figures
        checkpoint: what was measured
        classes: names of the classes
        details: what was measured beside mAP
        state_leak: whether a stream's detections depend on others
        left_out: labels and detections that did not count, by reason
        precision: arithmetic of the network, which can move mAP in the fourth digit
    """

    metrics: dict[str, float | None]
    protocol: dict[str, Any]
    data_fingerprint: str
    split: str
    folder: Path
    checkpoint: Path
    classes: list[str]
    details: "Details"
    state_leak: "StateLeak"
    left_out: dict[str, int]
    precision: str

    def text(self) -> str:
        """The figures and their protocol, for people."""
        from evforge.display.tables import figure_text
        from evforge.evaluation.report import details_text, protocol_text

        lines = [f"{NAMES.get(name, name):<24} {figure_text(value)}" for name, value in self.metrics.items()]
        lines.append(f"{protocol_text(self.protocol, self.split)}; computed in {self.precision}")
        if self.left_out:
            lines.append("left out: " + "; ".join(f"{count:,} {what}" for what, count in self.left_out.items()))
        return "\n".join([*lines, details_text(self.details, self.state_leak)])

    def figures(self) -> dict[str, float]:
        """All single figures by name: COCO's, and those in detail that are known."""
        point, reaction = self.details.operating_point, self.details.reaction
        found: dict[str, float | None] = {
            **self.metrics,
            "f1": point.f1,
            "calibration_error": self.details.calibration.error,
            "tracks_found": reaction.found,
            "reaction_ms": reaction.median_ms,
            "state_leak": self.state_leak.changed,
        }
        return {name: value for name, value in found.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """As `evaluation.json` holds it."""
        return {
            "checkpoint": str(self.checkpoint),
            "split": self.split,
            "data_fingerprint": self.data_fingerprint,
            "classes": self.classes,
            "protocol": self.protocol,
            "metrics": self.metrics,
            "left_out": self.left_out,
            "precision": self.precision,
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
    predictions, measured, details, leak = _measure(model, config, loader, *(hardware := _hardware(config)))
    found = Evaluation(
        metrics=measured.metrics,
        folder=folder,
        checkpoint=path,
        details=details,
        state_leak=leak,
        left_out=measured.left_out,
        precision=hardware[1],
        **rules,
    )
    write(folder / EVALUATION_FILE, found.to_dict())
    write_text(folder / METRICS_FILE, found.text() + "\n")
    files = {str(file.path): file for file in loader.dataset.dataset.files}
    _log(found, path, config, lambda: _draw(found, measured, predictions, files))
    if compare_with is not None:
        print(compare(found.to_dict(), other, other_path))
    return found


def _hardware(config: Config) -> tuple[bool, str]:
    """Whether a GPU is taken, and the arithmetic: those of training here."""
    import torch

    from detector.utils.precision import resolve_precision

    use_gpu = torch.cuda.is_available() if config.train.use_gpu == "auto" else bool(config.train.use_gpu)
    return use_gpu, resolve_precision(config.train.precision, use_gpu)


def _measure(
    model: "LightningDetectionModel", config: Config, loader: Any, use_gpu: bool, precision: str
) -> tuple["FramePredictions", "Measured", "Details", "StateLeak"]:
    import torch
    from tqdm import tqdm

    from detector.evaluation.analysis.event_rate import event_rates
    from detector.evaluation.analysis.slices import measure_details
    from detector.evaluation.analysis.state_leak import check_state_leak
    from detector.evaluation.collector import NOTHING_COUNTS
    from detector.evaluation.detect import detect
    from detector.preprocess.representation import representation_of

    device, dataset = torch.device("cuda" if use_gpu else "cpu"), loader.dataset.dataset
    predictions = model.new_predictions()
    detector, protocol = model.to(device).detector, model.protocol
    batches, limits = tqdm(loader, "detect", unit="batch"), (protocol.score_thresh, protocol.nms_thresh)
    for batch, boxes in detect(detector, batches, *limits, device, _arithmetic(precision, device)):
        predictions.add(boxes, batch["video_infos"], batch["frame_is_labeled"])
    measured = predictions.measure()
    if measured is None:
        raise ValueError(NOTHING_COUNTS.format(loader.dataset.dataset.files[0].path.parent))
    leak = check_state_leak(detector, dataset, protocol.nms_thresh, device)
    model.cpu()
    files = {str(file.path): file for file in dataset.files}
    representation = representation_of(config.data)
    details = measure_details(
        predictions.recordings(),
        predictions.classes,
        dataset.shape[-2:],
        protocol,
        lambda recording, boxes: event_rates(files[recording.path], boxes, representation),
    )
    return predictions, measured, details, leak


def _arithmetic(precision: str, device: "torch.device") -> AbstractContextManager:
    """A precision of training, as Lightning sets it up."""
    import torch

    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    return torch.autocast(device.type, kinds[precision]) if precision in kinds else nullcontext()


def _contact_sheet(
    predictions: "FramePredictions", files: "Mapping[str, SequenceFile]", classes: list[str]
) -> "Tensor":
    """Detections and labels of labelled frames, spread evenly over all that were measured."""
    import numpy as np

    from detector.visualization.drawing import contact_sheet

    found = [
        (recording, frame)
        for recording in predictions.recordings()
        for frame in np.unique(recording.frames.find(recording.labels["t"])).tolist()
        if frame >= 0
    ]
    chosen = dict.fromkeys(index * len(found) // IMAGES for index in range(IMAGES))
    ids = predictions.class_ids.tolist()
    return contact_sheet([_image(*found[index], files, ids, classes) for index in chosen], COLUMNS)


def _image(
    recording: "RecordingBoxes", frame: int, files: "Mapping[str, SequenceFile]", ids: list[int], classes: list[str]
) -> "Tensor":
    """One frame with its detections and the labels that were wanted of it."""
    import numpy as np
    import torch

    from detector.data.tensor_file import open_tensors
    from detector.lightning_model import bboxes_to_box_vectors
    from detector.visualization.drawing import draw_detections

    file = files[recording.path]
    values = np.empty((1, file.channels, file.height, file.width), file.dtype)
    reader = open_tensors(file.path)
    try:
        reader.read(frame, values)
    finally:
        reader.close()
    in_frame = (rows[recording.frames.find(rows["t"]) == frame] for rows in (recording.detections, recording.labels))
    found, labels = in_frame
    labels = labels[(labels["t"] == labels["t"].max()) & np.isin(labels["class_id"], ids[1:])]
    boxes, truth = (torch.as_tensor(bboxes_to_box_vectors(rows))[:, :4] for rows in (found, labels))
    shown = {
        "boxes": boxes,
        "scores": torch.tensor(found["class_confidence"]),
        "labels": torch.tensor([ids.index(key, 1) for key in found["class_id"].tolist()], dtype=torch.long),
    }
    image = torch.from_numpy(values[0].astype(np.float32)) / file.divisor
    return draw_detections(image, shown, classes, truth, SHOWN_FROM)


def _draw(
    found: Evaluation, measured: "Measured", predictions: "FramePredictions", files: "Mapping[str, SequenceFile]"
) -> list[Path]:
    """Draw what an evaluation shows beside its numbers; what cannot be drawn is a warning, and not in the list."""
    from evforge.evaluation.report import calibration_figure, confusion_figure, pr_curve_figure, slices_figure

    title = f"{found.checkpoint.parent.name}, {found.split}"
    figures: dict[str, Callable[[], Any]] = {
        "pr_curve.png": lambda: pr_curve_figure(measured.precision_recall, f"{title}, IoU 0.5"),
        "confusion.png": lambda: confusion_figure(found.details, title),
        "calibration.png": lambda: calibration_figure(found.details, title),
        "slices.png": lambda: slices_figure(found.details, title),
    }
    for name in (*figures, SHEET):  # those of an earlier evaluation never stay beside new figures
        (found.folder / name).unlink(missing_ok=True)
    for name, draw in figures.items():
        with decoration(str(found.folder / name)), atomic_write(found.folder / name) as part:
            draw().savefig(part, format="png")
    with decoration(str(found.folder / SHEET)):
        from detector.visualization.drawing import save_png

        save_png(found.folder / SHEET, _contact_sheet(predictions, files, found.classes))
    return [found.folder / name for name in (*figures, SHEET) if (found.folder / name).is_file()]


def _log(found: Evaluation, checkpoint: Path, config: Config, draw: Callable[[], list[Path]]) -> None:
    """Log to the run that trained the model, to a run of its own if that is not known; draw once figures are saved."""
    from evforge.evaluation.compare import EVALUATION_FILE
    from evforge.tracking.tracker import Tracker

    if (checkpoint.parent / RECORD_FILE).is_file():
        record = read_record(checkpoint.parent)
        tracker = Tracker(record.tracking_uri, record.experiment)
        run: Any = nullcontext(record.run_id)
    else:
        tracker = Tracker(config.track.tracking_uri, config.track.experiment)
        run = tracker.run(f"evaluate-{checkpoint.stem}", config.to_flat(), {"checkpoint": str(checkpoint)})
    with run as run_id:
        tracker.log_metrics(run_id, {f"{found.split}_{key}": value for key, value in found.figures().items()}, step=0)
        tracker.set_tag(run_id, f"{found.split}_data_fingerprint", found.data_fingerprint)
        for name in (METRICS_FILE, EVALUATION_FILE):
            tracker.log_file(run_id, found.folder / name, found.split)
        for image in draw():
            tracker.log_file(run_id, image, found.split)
