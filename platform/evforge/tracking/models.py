"""Registered models: their versions, and copies of their files."""

from pathlib import Path
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from evforge import one_line
from evforge.tracking.tracker import Tracker

__all__ = ["download", "fetch", "find_version"]


def fetch(tracker: Tracker, name: str, version: int | str, folder: Path) -> Path:
    """Copy a registered detector into a folder.

    Args:
        tracker: the store.
        name: name in the registry.
        version: number, or an alias such as `champion`.
        folder: target of the copy.

    Returns:
        The folder with `model.ptjit` and `info_ssd_jit.json`.

    Raises:
        ValueError: there is no such version.
        OSError: the files cannot be read.
    """
    return download(tracker, find_version(tracker, name, version), folder) / "artifacts"


def find_version(tracker: Tracker, name: str, version: int | str) -> Any:
    """The version of a registered model as an entity of MLflow.

    Args:
        tracker: the store.
        name: name in the registry.
        version: number, or an alias such as `champion`.

    Raises:
        ValueError: there is no such version.
    """
    client = tracker.client
    find = client.get_model_version if str(version).isdecimal() else client.get_model_version_by_alias
    try:
        return find(name, str(version))
    except MlflowException as error:
        raise ValueError(f"version: got {version!r} of model {name!r}: {one_line(error)}") from None


def download(tracker: Tracker, version: Any, folder: Path) -> Path:
    """Copy all files of a registered version (an entity of MLflow) into a folder; OSError if they cannot be read."""
    try:
        return Path(
            download_artifacts(version.source, dst_path=str(folder), tracking_uri=tracker.uri, registry_uri=tracker.uri)
        )
    except MlflowException as error:
        raise OSError(f"{version.source}: cannot be read: {one_line(error)}") from None
