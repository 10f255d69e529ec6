"""Publication of a trained detector: evaluation, export, model card, registration, promotion."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from PIL import Image
from torch import Tensor

from detector.data_factory import psee_data
from detector.evaluation.detect import detect
from detector.utils.atomic_write import atomic_write
from detector.utils.decoration import decoration
from detector.visualization import drawing
from evforge.evaluation.checkpoint import checkpoint_config, find_checkpoint, load_model
from evforge.evaluation.evaluate import SHEET, Evaluation, evaluate
from evforge.evaluation.export import export
from evforge.registry.model_card import model_card
from evforge.registry.promotion import PromotionResult, promote
from evforge.registry.register import describe_version, register
from evforge.tracking.tracker import Tracker
from evforge.training.profiling import measure_speed
from evforge.training.run_folder import SPACE_FILE, read_record

__all__ = ["publish", "register_checkpoint", "search_text"]

SMALL_SHEET, SMALL_WIDTH = "detections_small.png", 640
"""Figure of detections in the model card: name of the file, largest width in pixels."""

VIDEO, VIDEO_FRAMES, VIDEO_SCORE = "detections.gif", 120, 0.4
"""Video: name of the file, number of frames, lowest score of the detections that are drawn."""


def register_checkpoint(checkpoint: str | Path, tracker: Tracker, name: str) -> tuple[int, PromotionResult]:
    """Evaluate a checkpoint on the test split, export it, register it, and promote it if it beats the champion.

    The export stays in the folder `exported` beside the checkpoint.

    Args:
        checkpoint: folder of a run or study, or a checkpoint in such a folder.
        tracker: the store.
        name: name of the model in the registry.

    Returns:
        Number of the new version, and the result of its promotion.

    Raises:
        FileNotFoundError: there is no checkpoint, or it is not in the folder of a run.
        ValueError: the checkpoint, the dataset or the export cannot be used.
    """
    path = find_checkpoint(checkpoint)
    run_id = read_record(path.parent).run_id
    return publish(tracker, name, run_id, evaluate(path), export(path, path.parent / "exported"))


def publish(tracker: Tracker, name: str, run_id: str, found: Evaluation, exported: Path) -> tuple[int, PromotionResult]:
    """Register an exported detector with its model card, and promote it if it beats the champion.

    Args:
        tracker: the store.
        name: name of the model in the registry.
        run_id: id of the MLflow run that trained the model.
        found: evaluation of the detector on the test split.
        exported: folder with `model.ptjit` and `info_ssd_jit.json`.

    Returns:
        Number of the new version, and the result of its promotion.

    Raises:
        ValueError: the export fails its checks; then nothing is registered.
    """
    config, speed = checkpoint_config(found.checkpoint), measure_speed(exported)
    search = search_text(tracker, run_id)
    card = partial(model_card, name, config, found.to_dict(), run_id, speed, search)
    tags = {"config_fingerprint": config.fingerprint(), "data_fingerprint": found.data_fingerprint}
    version = register(tracker, run_id, exported, name, found.metrics, found.protocol, card(), tags)
    result = version, promote(tracker, name, version)
    with decoration("the video of detections"):
        tracker.log_file(run_id, write_video(found), found.split)
    with decoration("the detections in the model card"):
        _log_small_figure(tracker, run_id, found)
        describe_version(tracker, name, version, card(media=_media(tracker, run_id, found.split)))
    return result


def _log_small_figure(tracker: Tracker, run_id: str, found: Evaluation) -> None:
    """Store the figure of detections in a size that fits into MLflow's page of a model, which does not scale it."""
    with Image.open(found.folder / SHEET) as image, atomic_write(found.folder / SMALL_SHEET) as part:
        image.thumbnail((SMALL_WIDTH, 4 * SMALL_WIDTH))
        image.save(part, format="PNG")
    tracker.log_file(run_id, found.folder / SMALL_SHEET, found.split)


def _media(tracker: Tracker, run_id: str, split: str) -> str:
    """Return Markdown with the figure and a link to the video of detections, if the run has these files.

    The addresses are relative to MLflow's pages, so that they are valid on every server of the store.
    """
    stored = {file.path for file in tracker.client.list_artifacts(run_id, split)}
    figure, video = f"{split}/{SMALL_SHEET}", f"{split}/{VIDEO}"
    experiment = tracker.client.get_run(run_id).info.experiment_id
    parts = {
        figure: f"![Detections and labels](get-artifact?path={figure}&run_uuid={run_id})",
        video: f"[Video of detections](#/experiments/{experiment}/runs/{run_id}/artifacts/{video})",
    }
    return "\n\n".join(text for path, text in parts.items() if path in stored)


def write_video(found: Evaluation) -> Path:
    """Write a video of the first frames of the evaluated split, with detections and labels.

    Args:
        found: the evaluation.

    Returns:
        Path of the video, `detections.gif` in the folder of the evaluation.
    """
    model, config = load_model(found.checkpoint), checkpoint_config(found.checkpoint)
    loader = psee_data(config.with_overrides({"data.batch_size": 1, "data.num_workers": 0}).to_hparams(), found.split)

    def images() -> Iterator[Tensor]:
        for batch, boxes in detect(model.detector, loader, VIDEO_SCORE, model.protocol.nms_thresh):
            yield from drawing.draw_stream(batch, boxes, model.classes)

    return drawing.save_gif(found.folder / VIDEO, islice(images(), VIDEO_FRAMES), config.data.delta_t)


def search_text(tracker: Tracker, run_id: str) -> str | None:
    """Describe the study to which a run belongs as Markdown: its trials and its search space.

    Args:
        tracker: the store.
        run_id: id of the MLflow run that trained the model.

    Returns:
        The description; None if the run is not a trial of a study.
    """
    parent = tracker.run_info(run_id).tags.get("mlflow.parentRunId")
    if parent is None:
        return None
    study, trials = tracker.run_info(parent), tracker.runs(parent)
    states = Counter(trial.status.lower() for trial in trials)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    text = f"{len(trials)} trials ({counts}) of `{study.name}`, MLflow run {parent}."
    with tempfile.TemporaryDirectory() as folder:
        if not any(file.path == SPACE_FILE for file in tracker.client.list_artifacts(parent)):
            return text
        space = Path(tracker.client.download_artifacts(parent, SPACE_FILE, folder)).read_text()
    return f"{text}\n\n```yaml\n{space.strip()}\n```"
