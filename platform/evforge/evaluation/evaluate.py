"""Evaluation of a trained detector on a split: COCO mAP and further metrics, their protocol, figures and images."""

import shlex
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from detector.box import bboxes_to_box_vectors
from detector.config import Config
from detector.data.fingerprint import data_fingerprint
from detector.data.sequence_file import SequenceFile
from detector.data.tensor_file import open_tensors
from detector.data_factory import psee_data
from detector.evaluation.analysis.event_rate import event_rates
from detector.evaluation.analysis.slices import Details, measure_details
from detector.evaluation.analysis.state_leak import StateLeak, check_state_leak
from detector.evaluation.collector import NOTHING_COUNTS, FramePredictions, Measured, RecordingBoxes
from detector.evaluation.detect import detect
from detector.lightning_model import LightningDetectionModel
from detector.preprocess.representation import representation_of
from detector.utils.decoration import decoration
from detector.utils.precision import resolve_precision
from detector.visualization import drawing
from evforge import one_line
from evforge.cluster.session import local_resources
from evforge.display.figures import save_figure
from evforge.display.tables import metric_text
from evforge.evaluation import report
from evforge.evaluation.checkpoint import checkpoint_config, find_checkpoint, load_model
from evforge.evaluation.compare import (
    EVALUATION_FILE,
    check_comparable,
    compare,
    find_evaluation,
    read_evaluation,
    write_evaluation,
)
from evforge.tracking.datasets import dataset_inputs
from evforge.tracking.tracker import Tracker
from evforge.tracking.writes import NOTE
from evforge.training.run_folder import RECORD_FILE, read_record, write_text

__all__ = ["Evaluation", "evaluate"]

IMAGES, COLUMNS = 12, 3
"""Contact sheet: number of frames, frames per row."""
SHEET, METRICS_FILE = "detections.png", "metrics.txt"
NAMES = {"mean_ap": "mAP", "mean_ap50": "mAP50", "mean_ap75": "mAP75"}
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Args:
        metrics: `mean_ap`, `mean_ap50`, ..., and `ap/<class>` by name; a value is None if the split has no labels for
            it
        protocol: settings of the measurement by name, the fields of `detector.evaluation.collector.Protocol`; metrics
            of two evaluations are comparable only if these settings are equal
        data_fingerprint: fingerprint of the files of the split
        split: val or test
        folder: folder of `evaluation.json`, `metrics.txt` and the figures
        checkpoint: the evaluated checkpoint
        classes: names of the classes
        details: further results, such as AP by box size, confusion, calibration and reaction time
        state_leak: result of the check whether the detections in a stream depend on other streams
        left_out: numbers of labels and detections that were not evaluated, by reason
        precision: floating-point precision of the network, which can change the fourth digit of mAP
    """

    metrics: dict[str, float | None]
    protocol: dict[str, Any]
    data_fingerprint: str
    split: str
    folder: Path
    checkpoint: Path
    classes: list[str]
    details: Details
    state_leak: StateLeak
    left_out: dict[str, int]
    precision: str

    def text(self) -> str:
        """Format the metrics, the protocol and the details as text."""
        intervals = self.details.intervals.bounds
        lines = [
            f"{NAMES.get(name, name):<24} {metric_text(value)}{report.interval_text(intervals.get(name))}"
            for name, value in self.metrics.items()
        ]
        lines.append(f"{report.protocol_text(self.protocol, self.split)}; computed in {self.precision}")
        if self.left_out:
            lines.append("left out: " + "; ".join(f"{count:,} {what}" for what, count in self.left_out.items()))
        return "\n".join([*lines, report.details_text(self.details, self.state_leak)])

    def scalars(self) -> dict[str, float]:
        """Return the results that are single numbers, by name: the metrics, and some of the further results.

        Results without a value (None) are omitted.
        """
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
        """Return the content of `evaluation.json`."""
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
    """Measure a detector in this process, write the results, and log them to the MLflow run of its training.

    Args:
        checkpoint: checkpoint, or folder of a run or study.
        config: configuration to use instead of the one in the checkpoint.
        split: split to measure on.
        folder: folder to write to; `evaluate-<split>` beside the checkpoint if None.
        compare_with: file of an earlier evaluation, or the folder of an evaluation, run or study; a table with the
            earlier and the new metrics is printed.

    Raises:
        ValueError: the file is not a checkpoint of a detector, `config` does not fit the checkpoint or the dataset, or
            the earlier evaluation has other data or other rules.
        FileNotFoundError: the checkpoint, the dataset or the earlier evaluation does not exist.
    """
    path = find_checkpoint(checkpoint)
    config = config or checkpoint_config(path)
    model = load_model(path, config)
    rules: dict[str, Any] = {
        "split": split,
        "data_fingerprint": data_fingerprint(Path(config.data.dataset_path) / split),
        "classes": list(model.classes),
        "protocol": asdict(model.protocol),
    }
    if compare_with is not None:  # read now: the new evaluation may replace this file
        other_path = find_evaluation(compare_with, split)
        other = read_evaluation(other_path)
        check_comparable(rules, other, other_path)
    loader = psee_data(config.to_hparams(), split)
    run = _recorded_run(path, config)
    use_gpu = local_resources().use_gpu(config.train.use_gpu)
    precision = resolve_precision(config.train.precision, use_gpu)
    files = {str(file.path): file for file in loader.dataset.dataset.files}
    predictions, measured, details, leak = _measure(model, config, loader, files, use_gpu, precision)
    found = Evaluation(
        metrics=measured.metrics,
        folder=folder or path.parent / f"evaluate-{split}",
        checkpoint=path,
        details=details,
        state_leak=leak,
        left_out=measured.left_out,
        precision=precision,
        **rules,
    )
    write_evaluation(found.folder / EVALUATION_FILE, found.to_dict())
    write_text(found.folder / METRICS_FILE, found.text() + "\n")
    _log(found, config, run, lambda: _draw(found, measured, predictions, files))
    if compare_with is not None:
        print(compare(found.to_dict(), other, other_path))
    return found


def _measure(
    model: LightningDetectionModel,
    config: Config,
    loader: Any,
    files: Mapping[str, SequenceFile],
    use_gpu: bool,
    precision: str,
) -> tuple[FramePredictions, Measured, Details, StateLeak]:
    device, dataset = torch.device("cuda" if use_gpu else "cpu"), loader.dataset.dataset
    predictions = model.new_predictions()
    detector, protocol = model.to(device).detector, model.protocol
    arithmetic: AbstractContextManager = nullcontext()
    if precision in AUTOCAST:
        arithmetic = torch.autocast(device.type, AUTOCAST[precision])
    batches, limits = tqdm(loader, "detect", unit="batch", disable=None), (protocol.score_thresh, protocol.nms_thresh)
    for batch, boxes in detect(detector, batches, *limits, device, arithmetic):
        predictions.add(boxes, batch["video_infos"], batch["frame_is_labeled"])
    measured = predictions.measure()
    if measured is None:
        raise ValueError(NOTHING_COUNTS.format(dataset.files[0].path.parent))
    leak = check_state_leak(detector, dataset, protocol.nms_thresh, device)
    model.cpu()
    representation = representation_of(config.data)
    details = measure_details(
        predictions.recordings(),
        predictions.classes,
        dataset.shape[-2:],
        protocol,
        lambda recording, boxes: event_rates(files[recording.path], boxes, representation),
    )
    return predictions, measured, details, leak


def _draw(
    found: Evaluation, measured: Measured, predictions: FramePredictions, files: Mapping[str, SequenceFile]
) -> list[Path]:
    """Draw the figures and the contact sheet of frames, and return the paths of the written files.

    Errors are not raised, but printed as warnings.
    """
    labels = {name: curve.labels for name, curve in found.details.thresholds.items()}
    title = f"run {_run_name(found.checkpoint)}, split {found.split}"
    figures: dict[str, Callable[[], Any]] = {
        "pr_curve.png": lambda: report.pr_curve_figure(measured.precision_recall, title, labels),
        "thresholds.png": lambda: report.thresholds_figure(found.details, title),
        "confusion.png": lambda: report.confusion_figure(found.details, title),
        "calibration.png": lambda: report.calibration_figure(found.details, title),
        "slices.png": lambda: report.slices_figure(found.details, title),
    }
    for name, draw in figures.items():
        save_figure(found.folder / name, draw)
    sheet = found.folder / SHEET
    sheet.unlink(missing_ok=True)
    with decoration(str(sheet)):
        drawing.save_png(sheet, _contact_sheet(predictions, files, found, title))
    return [path for path in (*(found.folder / name for name in figures), sheet) if path.is_file()]


def _run_name(checkpoint: Path) -> str:
    """Return the name of the run or study that wrote a checkpoint."""
    folder = checkpoint.resolve().parent
    return folder.parent.name if folder.name == "best" else folder.name  # a study has a folder `best`


def _contact_sheet(
    predictions: FramePredictions, files: Mapping[str, SequenceFile], found: Evaluation, title: str
) -> Tensor:
    """Draw at most twelve frames with detections and labels into one image, spread evenly over all labelled frames.

    Detections have at least the score with the best F1.
    """
    frames = [
        (recording, frame)
        for recording in predictions.recordings()
        for frame in np.unique(recording.frames.find(recording.labels["t"])).tolist()
        if frame >= 0
    ]
    chosen = dict.fromkeys(index * len(frames) // IMAGES for index in range(IMAGES))
    ids, score = predictions.class_ids.tolist(), found.details.operating_point.score or 0.0
    images = [_image(*frames[index], files, ids, found.classes, score) for index in chosen]
    title = f"{title}: frames with detections of score {score:.2f} and more (best F1); matches at IoU 0.5"
    return drawing.contact_sheet(images, COLUMNS, title, drawing.legend_of(found.classes, True))


def _image(
    recording: RecordingBoxes,
    frame: int,
    files: Mapping[str, SequenceFile],
    ids: list[int],
    classes: list[str],
    score: float,
) -> Tensor:
    """Draw one frame with its detections and labels. Labels of classes that the model does not detect are omitted.

    Args:
        recording: detections and labels of the recording.
        frame: index of the frame.
        files: tensor files by path.
        ids: label map ids by class index, with the background first.
        classes: names of the classes, without the background.
        score: lowest score of the detections that are drawn.
    """
    file = files[recording.path]
    values = np.empty((1, file.channels, file.height, file.width), file.dtype)
    with closing(open_tensors(file.path)) as reader:
        reader.read(frame, values)
    found, labels = (
        rows[recording.frames.find(rows["t"]) == frame] for rows in (recording.detections, recording.labels)
    )
    labels = labels[(labels["t"] == labels["t"].max()) & np.isin(labels["class_id"], ids[1:])]
    boxes, truth = (torch.as_tensor(bboxes_to_box_vectors(rows))[:, :5] for rows in (found, labels))
    for rows in (boxes, truth):
        rows[:, 4] = torch.tensor([ids.index(int(key), 1) for key in rows[:, 4].tolist()])
    shown = {"boxes": boxes[:, :4], "scores": torch.tensor(found["class_confidence"]), "labels": boxes[:, 4].long()}
    image = torch.from_numpy(values[0].astype(np.float32)) / file.divisor
    caption = drawing.frame_caption(file.path.name.split(".")[0], recording.frames.end_of(frame))
    return drawing.draw_detections(image, shown, classes, truth, score, caption, legend=())


def _recorded_run(checkpoint: Path, config: Config) -> tuple[Tracker, str | None] | None:
    """Open the MLflow store of the training that wrote a checkpoint. If the training is unknown, open that of `config`.

    Returns:
        The tracker and the id of the training's run. The id is None if the training is unknown. The result is None if
        the store of the training does not exist or cannot be used; the reason is then printed.
    """
    if not (checkpoint.parent / RECORD_FILE).is_file():
        return Tracker(config.track.tracking_uri, config.track.experiment), None
    record, folder = read_record(checkpoint.parent), checkpoint.parent
    storage = folder.parent.parent if folder.name == "best" else folder.parent  # a study has a folder `best`
    try:
        return Tracker(record.tracking_uri, record.experiment, storage, create=False), record.run_id
    except ValueError as error:
        print(f"the evaluation is written to files, but not to MLflow: {one_line(error)}", flush=True)
        return None


def _note(found: Evaluation) -> str:
    """Return the description of a run of its own for an evaluation, as Markdown."""
    command = f"evforge evaluate {shlex.quote(str(found.checkpoint))} --split {found.split}"
    return f"Evaluation on the {found.split} split. Reproduce it:\n\n```sh\n{command}\n```\n"


def _log(
    found: Evaluation, config: Config, target: tuple[Tracker, str | None] | None, draw: Callable[[], list[Path]]
) -> None:
    """Log an evaluation to the MLflow run of the training, or to a new run if the run of the training is unknown.

    The figures are drawn after the results are logged.

    Args:
        found: the evaluation.
        config: settings that are logged with a new run.
        target: the tracker and the id of the training's run, as returned by `_recorded_run`; if None, nothing is logged
            and the figures are only drawn.
        draw: function that draws the figures and returns their paths.
    """
    if target is None:
        draw()
        return
    (tracker, known), checkpoint = target, found.checkpoint
    parameters = config.to_flat(), {"checkpoint": str(checkpoint), NOTE: _note(found)}
    run: Any = nullcontext(known) if known else tracker.run(f"evaluate-{checkpoint.stem}", *parameters)
    with run as run_id:
        tracker.log_metrics(run_id, {f"{found.split}_{key}": value for key, value in found.scalars().items()}, step=0)
        tracker.set_tag(run_id, f"{found.split}_data_fingerprint", found.data_fingerprint)
        tracker.log_inputs(run_id, dataset_inputs(config, (found.split,)))
        for name in (METRICS_FILE, EVALUATION_FILE):
            tracker.log_file(run_id, found.folder / name, found.split)
        for image in draw():
            tracker.log_file(run_id, image, found.split)
    tracker.flush()
