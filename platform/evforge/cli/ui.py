"""MLflow's web pages of a store: a server on this machine, or the address of the server that has the store."""

import os
import socket
import sys
from typing import NoReturn

from detector.config.credentials import with_password
from evforge.tracking.mlflow_compat import EXPERIMENTS_PAGE
from evforge.tracking.store import checked_uri, require_store

__all__ = ["server_command", "show_pages"]

HOST = "127.0.0.1"
ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # otherwise a second service for jobs is started
    "PYTHONWARNINGS": "ignore",
}


def show_pages(uri: str | None, port: int) -> None:
    """Print the address of the pages. If the store is a database, also replace this process by MLflow's server.

    Args:
        uri: address of the store; the SQLite database in the working folder if None.
        port: port of the server on 127.0.0.1.

    Raises:
        ValueError: the address or the port is invalid, the store does not exist, or the port is in use.
    """
    uri = checked_uri(uri)
    if uri.startswith("http"):
        print(f"MLflow's pages: {uri.rstrip('/')}/{EXPERIMENTS_PAGE}")
        return
    require_store(uri, create=False)
    _check_port(port)
    print(f"MLflow's pages, after a few seconds: http://{HOST}:{port}/{EXPERIMENTS_PAGE}", flush=True)
    print("Ctrl-C ends the server", flush=True)
    _run(*server_command(uri, port))


def server_command(uri: str, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command of MLflow's server, and the environment variables that it needs.

    The address is a variable, because all users of the machine can read the words of a command, and it may contain a
    password.
    """
    quiet = ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    words = [sys.executable, "-m", "mlflow", "server", *quiet, "--host", HOST, "--port", str(port)]
    store = with_password(uri)
    return words, {**ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_REGISTRY_STORE_URI": store}


def _check_port(port: int) -> None:
    if not 0 < port < 2**16:
        raise ValueError(f"--port: got {port}, allowed: 1 to {2**16 - 1}")
    try:
        with socket.create_server((HOST, port)):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"--port: got {port}, which cannot be used ({reason}), allowed: a free port") from None


def _run(words: list[str], variables: dict[str, str]) -> NoReturn:
    os.execve(words[0], words, {**os.environ, **variables})
