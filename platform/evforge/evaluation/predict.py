"""Detection in a recording by an exported model, a checkpoint of a run or study, or a registered model."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from detector.config import Config
from detector.config.groups import TrackConfig
from detector.export.form import INFO_NAME
from detector.inference import recording as inference
from detector.inference.predictor import Predictor

__all__ = ["exported_model", "predict"]

REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")

SCORE_THRESH = 0.4
"""Score threshold for a checkpoint or a run, equal to the default of `evforge export`."""


def predict(
    recording: str,
    model: str,
    outputs: Sequence[str],
    config: Config,
    *,
    score_thresh: float | None = None,
    sensor: tuple[int | None, int | None] = (None, None),
    downsampling: int | None = None,
) -> inference.Summary:
    """Detect objects in a recording and write the boxes to files or draw them in videos.

    Args:
        recording: path of a recording.
        model: exported model, checkpoint, folder of a run or study, or address of a registered model, as in
            `exported_model`.
        outputs: files to write. The suffix selects the format: `.npy`, `.csv`, `.json` (COCO), `.gif` or `.mp4`.
        config: settings; `data` states the format of the recording, `track` is the address of the registry.
        score_thresh: lowest score of a box; the threshold stored in the exported model if None.
        sensor: height and width of the sensor in pixels, for recordings that do not state them.
        downsampling: exponent k; the sensor size is divided by 2^k. If None, k is chosen so that frames have the size
            used in training.

    Returns:
        Counts and speed.

    Raises:
        FileNotFoundError: the recording or the model does not exist.
        ValueError: the recording, the model or an output cannot be used.
    """
    height, width = sensor
    with exported_model(model, config.track) as path:
        predictor = Predictor(path, score_thresh=score_thresh, height=height, width=width, downsampling=downsampling)
        return inference.predict(recording, predictor, outputs, data=config.data)


@contextmanager
def exported_model(model: str, track: TrackConfig) -> Iterator[Path]:
    """Context manager that yields the path of an exported model: a file or a folder.

    A checkpoint is first exported to a temporary folder. A registered model is first copied to a temporary folder. The
    temporary folder is removed at the end of the block.

    Args:
        model: one of three kinds. Exported model: path of its file or folder. Checkpoint: path of its file, or folder
            of a run or study. Registered model: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        track: settings with the address of the registry.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: `model` is not a model, or the registry does not contain it.
    """
    path = Path(model)
    with TemporaryDirectory(prefix="evforge-") as folder:
        if model.startswith("models:"):
            yield _fetch(model, track, Path(folder))
        elif not path.exists():
            kinds = "an exported model, a checkpoint, the folder of a run or study, models:/NAME@ALIAS"
            raise FileNotFoundError(f"{model}: no such model, allowed: {kinds}")
        elif path.suffix == ".ckpt" or (path.is_dir() and not (path / INFO_NAME).is_file()):
            yield _export(path, Path(folder))
        else:
            yield path


def _fetch(address: str, track: TrackConfig, folder: Path) -> Path:
    from evforge.tracking.models import fetch  # imports MLflow, which takes seconds
    from evforge.tracking.tracker import Tracker

    found = REGISTERED.fullmatch(address)
    if found is None:
        raise ValueError(f"model: got {address!r}, allowed: models:/NAME@ALIAS or models:/NAME/VERSION")
    tracker = Tracker(track.tracking_uri, track.experiment, create=False)
    return fetch(tracker, found["name"], found["alias"] or found["version"], folder)


def _export(path: Path, folder: Path) -> Path:
    # Imported here: an exported model needs neither Lightning nor torchvision, whose imports take seconds.
    from detector.export.write import export_lightning_model
    from evforge.evaluation.checkpoint import find_checkpoint, load_model

    model = load_model(find_checkpoint(path)).eval()
    form = "torchscript" if torch.cuda.is_available() else "torchscript-cpu"
    return export_lightning_model(model, folder, model.config.eval.nms_thresh, SCORE_THRESH, form=form)
