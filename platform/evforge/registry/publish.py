"""A trained detector on its way out: measured, exported, described, registered, and sent to the gate."""

import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from evforge.gate import GateResult, promote
from evforge.model_card import model_card
from evforge.registry import register
from evforge.runs import SPACE_FILE, read_record
from evforge.tracking import Tracker

if TYPE_CHECKING:
    from evforge.evaluate import Evaluation

__all__ = ["hand_over", "measure_speed", "register_checkpoint", "search_text"]

WARM_UP, FRAMES = 3, 15
FILM_FRAMES = 120


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
    from evforge.evaluate import evaluate, find_checkpoint
    from evforge.export import export

    path = find_checkpoint(checkpoint)
    run_id = read_record(path.parent).run_id
    return hand_over(tracker, name, run_id, evaluate(path), export(path, path.parent / "exported"))


def hand_over(tracker: Tracker, name: str, run_id: str, found: "Evaluation", exported: Path) -> tuple[int, GateResult]:
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
    from evforge.evaluate import checkpoint_config

    config, speed = checkpoint_config(found.checkpoint), measure_speed(exported)
    tracker.log_file(run_id, write_film(found), found.split)
    card = model_card(name, config, found.to_dict(), run_id, speed, search_text(tracker, run_id))
    tags = {"config_fingerprint": config.fingerprint(), "data_fingerprint": found.data_fingerprint}
    version = register(tracker, run_id, exported, name, found.metrics, found.protocol, card, tags)
    return version, promote(tracker, name, version)


def write_film(found: "Evaluation") -> Path:
    """The first detections on the evaluated split, with the labels, as a film beside the evaluation's pictures.

    Args:
        found: the evaluation.

    Returns:
        The file, `detections.gif`.
    """
    import torch

    from detector.data_factory import psee_data
    from detector.viz import draw_detections, save_gif
    from evforge.evaluate import checkpoint_config, load_model

    model, config = load_model(found.checkpoint).eval(), checkpoint_config(found.checkpoint)
    loader = psee_data(config.with_overrides({"data.batch_size": 1, "data.num_workers": 0}).to_hparams(), found.split)

    def pictures() -> Iterator[torch.Tensor]:
        for batch in loader:
            with torch.inference_mode():
                model.detector.reset(batch["mask_keep_memory"])
                boxes = model.detector.get_boxes(batch["inputs"])
            for frame, (rows,), (labels,) in zip(batch["inputs"], boxes, batch["labels"], strict=True):
                yield draw_detections(frame[0], rows, model.classes, labels)

    return save_gif(found.folder / "detections.gif", islice(pictures(), FILM_FRAMES), config.data.delta_t)


def measure_speed(exported: Path) -> dict[str, str]:
    """How fast an exported detector answers here, boxes included: what, by what it is called.

    Args:
        exported: folder with `model.ptjit` and `info_ssd_jit.json`.

    Raises:
        FileNotFoundError: one of the two is missing.
        ValueError: they do not belong together.
    """
    import torch

    from detector.model_files import load_exported

    loaded, info, device = load_exported(exported)
    frame = torch.rand(1, 1, info["in_channels"], info["height"], info["width"], device=device)
    seconds = []
    with torch.inference_mode():
        for _ in range(WARM_UP + FRAMES):
            start = time.perf_counter()
            loaded.detect(frame, info["score_thresh"], info["nms_thresh"], info["max_boxes_per_input"])
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[WARM_UP:])
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {platform.machine()}"
    return {
        "frame": f"{info['width']} x {info['height']}, one stream, boxes included",
        "median time": f"{1000 * median:.1f} ms, of {FRAMES} frames",
        "real-time factor": f"{info['delta_t'] / 1e6 / median:.1f} at {info['delta_t'] / 1000:g} ms a frame",
        "where": f"{where}, threads: {torch.get_num_threads()}, torch {torch.__version__}",
    }


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
