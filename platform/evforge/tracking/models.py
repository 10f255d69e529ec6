"""Registered models: copies of their files."""

from pathlib import Path
from typing import Any

from evforge import one_line
from evforge.tracking.tracker import Tracker

__all__ = ["download", "fetch"]


def fetch(tracker: Tracker, name: str, version: int | str, folder: Path) -> Path:
    """Copy a registered detector.

    Args:
        tracker: the store.
        name: name in the registry.
        version: number, or an alias such as `champion`.
        folder: where the copy goes.

    Returns:
        The folder with `model.ptjit` and `info_ssd_jit.json`.

    Raises:
        ValueError: there is no such version.
        OSError: the files cannot be read.
    """
    from mlflow.exceptions import MlflowException

    client = tracker.client
    try:
        if str(version).isdecimal():
            found = client.get_model_version(name, str(version))
        else:
            found = client.get_model_version_by_alias(name, str(version))
    except MlflowException as error:
        raise ValueError(f"version: got {version!r} of model {name!r}: {one_line(error)}") from None
    return download(tracker, found, folder) / "artifacts"


def download(tracker: Tracker, version: Any, folder: Path) -> Path:
    """Copy all files of a registered version (MLflow's entity) into a folder; OSError if they cannot be read."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return Path(
            download_artifacts(version.source, dst_path=str(folder), tracking_uri=tracker.uri, registry_uri=tracker.uri)
        )
    except MlflowException as error:
        raise OSError(f"{version.source}: cannot be read: {one_line(error)}") from None
