"""Checkpoints of runs and studies: finding one, its settings, its model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config import Config
from evforge import one_line
from evforge.training.run_folder import BEST_CHECKPOINT

if TYPE_CHECKING:
    from detector.lightning_model import LightningDetectionModel

__all__ = ["checkpoint_config", "find_checkpoint", "load_model"]


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


def _read(checkpoint: Path) -> dict[str, Any]:
    import pickle

    import torch

    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = one_line(error)[:120]
        raise ValueError(f"{checkpoint}: not a checkpoint of a detector: {reason}") from None
    if not isinstance(content, dict) or not {"hyper_parameters", "state_dict", "dataset"} <= content.keys():
        raise ValueError(f"{checkpoint}: not a checkpoint of a detector, allowed: what `evforge train` writes")
    return content
