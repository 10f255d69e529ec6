"""Credentials of jobs and of the workers of a cluster, as environment variables.

Ray shows the environment variables of a job in its logs, its job table and its dashboard. Therefore, credentials are
sent to Ray's key-value store instead, which is in the memory of the head node (or in Redis or RocksDB, if Ray is
configured so). The credentials of a job are removed from the store by `receive` when the command of the job starts. The
credentials that a driver shares with its workers are removed by `shared` when the driver's session ends.
"""

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from detector.config.credentials import PASSWORD, QUERY, TOKEN, USERNAME
from evforge import EvForgeError
from evforge.cluster.ray_compat import fetch_shared, remove_shared, send_package, store_shared, take_package

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

__all__ = ["CREDENTIALS", "VARIABLE", "load", "named_values", "receive", "set_credentials", "shared", "upload"]

CREDENTIALS = (
    *(USERNAME, PASSWORD, TOKEN, QUERY, "MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_DEFAULT_REGION"),
)
"""Variables that a driver shares with its workers if they are set."""

VARIABLE = "EVFORGE_CREDENTIALS"
"""Environment variable of a job with the name of the package that contains its credentials."""

_received: set[str] = set()
"""Names of the variables that this process has received as a job."""


def named_values(names: Sequence[str]) -> dict[str, str]:
    """Return a dict from the names of environment variables, given as --env, to the values of the variables.

    Raises:
        ValueError: a name is malformed or begins with RAY_, or the variable is not set.
    """
    for name in names:
        word = name.partition("=")[0]
        if "=" in name:
            reason = "a value would be in the history of the shell and in the list of processes"
            raise ValueError(f"--env: got {word}=..., allowed: only the name {word}, as {reason}")
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or name.startswith("RAY_"):
            raise ValueError(f"--env: got {name!r}, allowed: name of a variable that does not begin with RAY_")
        if name not in os.environ:
            raise ValueError(f"--env: got {name}, which is not set; allowed: name of a variable that is set")
    return {name: os.environ[name] for name in names}


def set_credentials() -> dict[str, str]:
    """Return the credentials in the environment of this process, as a dict from names to values.

    These are the variables in `CREDENTIALS` and the variables that `receive` has set, except empty and unset ones.
    """
    names = dict.fromkeys((*CREDENTIALS, *sorted(_received)))
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def upload(client: "JobSubmissionClient", values: Mapping[str, str]) -> dict[str, str]:
    """Send credentials to a cluster for one job. They are removed after 10 minutes if the job does not start.

    Args:
        client: client of the job server.
        values: dict from names of environment variables to values.

    Returns:
        Environment variables to set for the job, so that `receive` finds the credentials. They contain no credentials.
        Empty if `values` is empty.

    Raises:
        EvForgeError: the cluster does not accept the credentials.
    """
    if not values:
        return {}
    name = f"evforge-{secrets.token_hex(16)}.zip"
    try:
        send_package(client, name, _pack(values))
    except RuntimeError:
        raise EvForgeError("the cluster does not accept the credentials of the job") from None
    return {VARIABLE: name}


def receive() -> None:
    """Set the environment variables that were uploaded for this job, and remove them from the cluster.

    Call this function once in the process of a job, before its command runs. In other processes it does nothing.

    Raises:
        EvForgeError: the values are no longer on the cluster.
    """
    name, address = os.environ.pop(VARIABLE, None), os.environ.get("RAY_ADDRESS")
    if name is None:
        return
    data = take_package(address, name) if address else None
    if data is None:
        raise EvForgeError("the credentials of this job are no longer on the cluster: submit the job again")
    values = _unpack(data)
    _received.update(values)
    os.environ.update(values)


@contextmanager
def shared() -> Iterator[None]:
    """Context manager that makes the credentials of this driver available to its workers, which call `load`.

    Enter it after the driver is connected to a cluster. It is not needed if this process has started Ray itself,
    because the workers then inherit the environment variables.
    """
    values = set_credentials()
    if not values:
        yield
        return
    store_shared(_pack(values))
    try:
        yield
    finally:
        remove_shared()


def load() -> None:
    """Set the environment variables that the driver of this worker has made available by `shared`.

    Call this function in a worker before it creates a client of MLflow or opens an address. It does nothing if the
    driver has shared nothing, or if this process does not use Ray.
    """
    ray = sys.modules.get("ray")
    data = fetch_shared() if ray is not None and ray.is_initialized() else None
    if data is not None:
        os.environ.update(_unpack(data))


def _pack(values: Mapping[str, str]) -> bytes:
    # Ray quotes the first 15 bytes of a package in an error message.
    return json.dumps({"credentials": dict(values)}).encode()


def _unpack(data: bytes) -> dict[str, str]:
    return json.loads(data)["credentials"]
