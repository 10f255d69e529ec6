"""MLflow stores: check an address, create a SQLite store once, and repair the file paths in a moved SQLite store."""

import re
import sqlite3
import urllib.parse
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import SoftFileLease

from detector.config.credentials import PASSWORD, USERNAME, hide_password
from evforge import one_line
from evforge.tracking.mlflow_compat import PATH_COLUMNS

__all__ = [
    "CREDENTIALS_REMEDY",
    "CREDENTIALS_WANTED",
    "REJECTED",
    "checked_uri",
    "default_uri",
    "find_experiment",
    "require_store",
    "sqlite_path",
]

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")
ARTIFACTS = "mlartifacts"
"""Name of the folder next to a SQLite store that contains the files of its runs."""
LEASE_S = 60.0
"""A process that creates a store and dies blocks processes on other machines for this time in seconds."""
CREDENTIALS_REMEDY = (
    f"set {USERNAME} and {PASSWORD}, in a job `evforge submit --env {USERNAME} --env {PASSWORD} -- ...`"
)
CREDENTIALS_WANTED = f"the MLflow server wants credentials: {CREDENTIALS_REMEDY}"
REJECTED = re.compile(r"error code 40[13]\b|^(UNAUTHENTICATED|PERMISSION_DENIED)")
"""Matches the message of MLflow about a request that was rejected for its credentials."""
ALLOWED = "http://... of a running server, or sqlite:///FILE"


def default_uri() -> str:
    """Return the address of the SQLite database in the working folder."""
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def checked_uri(uri: str | None) -> str:
    """Return the address of a store, without a password and with an absolute path for SQLite.

    Args:
        uri: address of a store; `default_uri()` if None.

    Raises:
        ValueError: the address is invalid.
    """
    uri = hide_password(uri or default_uri())
    scheme = re.match(r"([a-z]+)(\+[a-z0-9]+)?://", uri)
    path = sqlite_path(uri)
    if scheme is None or scheme[1] not in SCHEMES or (path is not None and not path.name):
        raise ValueError(
            f"track.tracking_uri: got {uri!r}, allowed: sqlite:///FILE, http(s)://... of a server, or another database"
        )
    if path is None:
        return uri
    if re.search(r"\?|%[0-9a-fA-F]{2}", str(path)):
        raise ValueError(f"track.tracking_uri: got {uri!r}, allowed: a path without ? and without % before two digits")
    return f"{uri.partition('///')[0]}///{path}"


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a SQLite store; None if the store is not SQLite."""
    if not uri.startswith("sqlite"):
        return None
    path = uri.partition("///")[2]
    return Path(path).absolute() if path and path != ":memory:" else Path()


def require_store(uri: str, create: bool) -> None:
    """Check that a SQLite store exists, or create it. Other stores are not checked.

    Call this before the first `MlflowClient` of the store, because MLflow would create a missing store without asking.

    Args:
        uri: address of the store, as returned by `checked_uri`.
        create: whether to create a missing store.

    Raises:
        ValueError: the store does not exist, and `create` is false.
    """
    path = sqlite_path(uri)
    if path is None or path.is_file():
        return
    if not create:
        raise ValueError(f"track.tracking_uri: {path} does not exist; allowed: {ALLOWED} that exists")
    _create_store(path)


def find_experiment(client: Any, uri: str, name: str, create: bool) -> str:
    """Find an experiment.

    Args:
        client: `MlflowClient` of the store.
        uri: address of the store, as returned by `checked_uri`.
        name: name of the experiment.
        create: whether to create a missing experiment.

    Returns:
        Id of the experiment; empty if it does not exist and `create` is false.

    Raises:
        ValueError: the store cannot be used, or the experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    path = sqlite_path(uri)
    location = None if path is None else (path.parent / ARTIFACTS).as_uri()
    try:
        found = client.get_experiment_by_name(name)
        if found is None and create:
            found = _create_experiment(client, name, location)
    except MlflowException as error:
        reason = CREDENTIALS_WANTED if REJECTED.search(one_line(error)) else one_line(error)[:300]
        raise ValueError(
            f"track.tracking_uri: got {uri!r}, which cannot be used ({reason}); allowed: {ALLOWED}"
        ) from None
    if found is None:
        return ""
    if found.lifecycle_stage == "deleted":
        raise ValueError(f"track.experiment: got {name!r}, which was deleted; allowed: another name")
    if path is not None and location is not None:
        _repair_paths(path, found.artifact_location, location)
    return found.experiment_id


def _create_experiment(client: Any, name: str, location: str | None) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_experiment(name, artifact_location=location)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process may have created it
            raise
    return client.get_experiment_by_name(name)


def _create_store(path: Path) -> None:
    """Create a SQLite store under a temporary name and rename it, so that an existing store is always complete.

    If several processes create the same store, one creates it while the others wait. They use a lease file instead of a
    file lock, because shared folders often do not support file locks.
    """
    from mlflow.tracking import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with SoftFileLease(f"{path}.lock", lease_duration=LEASE_S):
        if path.is_file():
            return
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)  # of a process that died
        MlflowClient(tracking_uri=f"sqlite:///{part}", registry_uri=f"sqlite:///{part}").search_experiments()
        part.rename(path)


def _repair_paths(path: Path, old: str, new: str) -> None:
    """If a SQLite store was moved or copied together with its files, correct the paths of the files in the store.

    Args:
        path: the store.
        old: URI of the files of an experiment before the move.
        new: URI of the folder `ARTIFACTS` next to the store.
    """
    if old == new or not old.endswith(f"/{ARTIFACTS}") or not (path.parent / ARTIFACTS).is_dir():
        return
    print(f"{path} was moved: the paths of its files now start with {urllib.parse.unquote(new)}", flush=True)
    with closing(sqlite3.connect(path)) as database, database:
        for table, columns in PATH_COLUMNS.items():
            for column in columns:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, len(old), old),
                )
