"""Checkpoints of runs and studies: their path, their settings, their model."""

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch

from detector.config import Config
from detector.lightning_model import LightningDetectionModel
from evforge import one_line
from evforge.training.run_folder import BEST_CHECKPOINT

__all__ = ["checkpoint_config", "find_checkpoint", "load_model"]


def find_checkpoint(path: str | Path) -> Path:
    """Find a checkpoint: the given file, or the best checkpoint in the folder of a run or a study.

    Raises:
        FileNotFoundError: there is no checkpoint.
    """
    path = Path(path)
    for candidate in (path, path / BEST_CHECKPOINT, path / "best" / BEST_CHECKPOINT):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{path}: no checkpoint, allowed: a .ckpt file, or the folder of a run or study that ended")


def checkpoint_config(checkpoint: Path) -> Config:
    """The configuration with which the model of a checkpoint was built.

    Raises:
        ValueError: the file is not a checkpoint of a detector.
    """
    return Config.from_hparams(_read(checkpoint)["hyper_parameters"])


def load_model(checkpoint: Path, config: Config | None = None) -> LightningDetectionModel:
    """Load a trained model.

    Args:
        checkpoint: Lightning checkpoint.
        config: other settings for data and evaluation; those of the checkpoint if None.

    Raises:
        ValueError: the file is not a checkpoint of a detector, or its weights do not fit `config`.
    """
    content = _read(checkpoint)
    model = LightningDetectionModel(
        config.to_hparams() if config else argparse.Namespace(**content["hyper_parameters"])
    )
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(f"{checkpoint}: its weights do not fit the settings: {reason}") from None
    model.on_load_checkpoint(content)
    return model


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{checkpoint}: not a checkpoint of a detector: {one_line(error)[:120]}") from None
    if not isinstance(content, dict) or not {"hyper_parameters", "state_dict", "dataset"} <= content.keys():
        raise ValueError(f"{checkpoint}: not a checkpoint of a detector, allowed: a file written by `evforge train`")
    return content
