"""Checkpoints of runs and studies: finding the file, loading the settings, loading the model."""

import argparse
from pathlib import Path

from detector.config import Config
from detector.lightning_model import LightningDetectionModel, read_checkpoint
from evforge.training.run_folder import BEST_CHECKPOINT, load_config

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
    """Load the configuration with which the model of a checkpoint was built.

    Raises:
        ValueError: the file is not a checkpoint of a detector.
    """
    return load_config(checkpoint.parent, Config.from_hparams(read_checkpoint(checkpoint)["hyper_parameters"]))


def load_model(checkpoint: Path, config: Config | None = None) -> LightningDetectionModel:
    """Load a trained model.

    Args:
        checkpoint: Lightning checkpoint.
        config: configuration to use instead of the one in the checkpoint, such as one with other settings of the data
            or evaluation; if None, the one in the checkpoint.

    Raises:
        ValueError: the file is not a checkpoint of a detector, or its weights do not fit `config`.
    """
    content = read_checkpoint(checkpoint)
    if "dataset" not in content:
        raise ValueError(f"{checkpoint}: not a checkpoint of a detector, allowed: a file written by `evforge train`")
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
