"""A trained detector on its way out: measured, exported, described, registered, and sent to the gate."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from detector.utils.decoration import decoration
from evforge.registry.model_card import model_card
from evforge.registry.promotion import GateResult, promote
from evforge.registry.register import register
from evforge.tracking.tracker import Tracker
from evforge.training.run_folder import SPACE_FILE, read_record

if TYPE_CHECKING:
    from torch import Tensor

    from evforge.evaluation.evaluate import Evaluation

__all__ = ["publish", "register_checkpoint", "search_text"]

VIDEO_FRAMES, SHOWN_FROM = 120, 0.4
"""Of the video: frames, lowest score of a detection."""


def register_checkpoint(checkpoint: str | Path, tracker: Tracker, name: str) -> tuple[int, GateResult]:
    """Measure a checkpoint on the test split, export it, register it, and let it through the gate if it is better.

    The export stays in the folder `exported` beside the checkpoint.

    Args:
        checkpoint: folder of a run or study, or a checkpoint in one.
        tracker: the store.
        name: name in the registry.

    Returns:
        The version's number, and what the gate decided.

    Raises:
        FileNotFoundError: there is no checkpoint, or it lies in no run's folder.
        ValueError: the checkpoint, the dataset or the export cannot be used.
    """
    from evforge.evaluation.checkpoint import find_checkpoint
    from evforge.evaluation.evaluate import evaluate
    from evforge.evaluation.export import export

    path = find_checkpoint(checkpoint)
    run_id = read_record(path.parent).run_id
    return publish(tracker, name, run_id, evaluate(path), export(path, path.parent / "exported"))


def publish(tracker: Tracker, name: str, run_id: str, found: "Evaluation", exported: Path) -> tuple[int, GateResult]:
    """Register an exported detector with its model card, and let it through the gate if it is better.

    Args:
        tracker: the store.
        name: name in the registry.
        run_id: the run that trained it.
        found: its evaluation on the test split.
        exported: folder with `model.ptjit` and `info_ssd_jit.json`.

    Returns:
        The version's number, and what the gate decided.

    Raises:
        ValueError: the export fails its checks; nothing was registered.
    """
    from evforge.evaluation.checkpoint import checkpoint_config
    from evforge.training.profiling import measure_speed

    config, speed = checkpoint_config(found.checkpoint), measure_speed(exported)
    card = model_card(name, config, found.to_dict(), run_id, speed, search_text(tracker, run_id))
    tags = {"config_fingerprint": config.fingerprint(), "data_fingerprint": found.data_fingerprint}
    version = register(tracker, run_id, exported, name, found.metrics, found.protocol, card, tags)
    result = version, promote(tracker, name, version)
    with decoration("the video of detections"):
        tracker.log_file(run_id, write_video(found), found.split)
    return result


def write_video(found: "Evaluation") -> Path:
    """The first detections on the evaluated split, with the labels, as a video beside the evaluation's figures.

    Args:
        found: the evaluation.

    Returns:
        The file, `detections.gif`.
    """
    from detector.data_factory import psee_data
    from detector.evaluation.detect import detect
    from detector.visualization.drawing import draw_detections, save_gif
    from evforge.evaluation.checkpoint import checkpoint_config, load_model

    model, config = load_model(found.checkpoint), checkpoint_config(found.checkpoint)
    loader = psee_data(config.with_overrides({"data.batch_size": 1, "data.num_workers": 0}).to_hparams(), found.split)

    def images() -> "Iterator[Tensor]":
        for batch, boxes in detect(model.detector, loader, SHOWN_FROM, model.protocol.nms_thresh):
            for frame, (rows,), (labels,) in zip(batch["inputs"], boxes, batch["labels"], strict=True):
                yield draw_detections(frame[0], rows, model.classes, labels)

    return save_gif(found.folder / "detections.gif", islice(images(), VIDEO_FRAMES), config.data.delta_t)


def search_text(tracker: Tracker, run_id: str) -> str | None:
    """Markdown on the study that a run was a trial of; None if it was none.

    Args:
        tracker: the store.
        run_id: the run that trained the model.
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
