"""Registered models in MLflow: find a version, and copy the files of a version."""

from pathlib import Path
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from detector.config.credentials import with_password
from evforge import one_line
from evforge.tracking.tracker import Tracker

__all__ = ["download", "fetch", "find_version"]


def fetch(tracker: Tracker, name: str, version: int | str, folder: Path) -> Path:
    """Copy a registered detector into a folder.

    Args:
        tracker: tracker of the MLflow store.
        name: name of the model in the registry.
        version: number of the version, or an alias such as `champion`.
        folder: target of the copy.

    Returns:
        The folder with `model.ptjit` and `info_ssd_jit.json`.

    Raises:
        ValueError: there is no such version.
        OSError: the files cannot be read.
    """
    return download(tracker, find_version(tracker, name, version), folder) / "artifacts"


def find_version(tracker: Tracker, name: str, version: int | str) -> Any:
    """Find a version of a registered model.

    Args:
        tracker: tracker of the MLflow store.
        name: name of the model in the registry.
        version: number of the version, or an alias such as `champion`.

    Returns:
        The version as an MLflow entity `ModelVersion`.

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
    """Copy all files of a registered version into a folder.

    Args:
        tracker: tracker of the MLflow store.
        version: result of `find_version`.
        folder: target of the copy.

    Returns:
        The folder with the copied files.

    Raises:
        OSError: the files cannot be read.
    """
    uri = with_password(tracker.uri)
    try:
        return Path(download_artifacts(version.source, dst_path=str(folder), tracking_uri=uri, registry_uri=uri))
    except MlflowException as error:
        raise OSError(f"{version.source}: cannot be read: {one_line(error)}") from None
