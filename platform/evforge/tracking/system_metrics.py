"""CPU, memory, disk, network and GPU use of a training process's machine, measured by MLflow's own monitor."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from detector.config.credentials import with_password

__all__ = ["system_metrics", "system_metrics_wanted"]

SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
END_S = 5.0
"""Longest time in seconds to wait for the last values at the end of a training."""


def system_metrics_wanted() -> bool:
    """Return whether system metrics are logged: yes, unless MLflow's environment variable is false or 0."""
    return os.environ.get(SWITCH, "true").strip().lower() not in ("false", "0")


@contextmanager
def system_metrics(uri: str, run_id: str) -> Iterator[None]:
    """Context manager that logs metrics of this machine to a run every 10 seconds, as `system/...`.

    A background thread does this. `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` sets another interval. If the server does
    not answer, the monitor ends without an error, and no further system metrics are logged.

    Args:
        uri: address of the store.
        run_id: id of the MLflow run.
    """
    found: list[Any] = []
    threading.Thread(target=_start, args=(with_password(uri), run_id, found), daemon=True).start()
    try:
        yield
    finally:
        for monitor in found:
            end = threading.Thread(target=monitor.finish, daemon=True)  # it waits for the server
            end.start()
            end.join(END_S)


def _start(uri: str, run_id: str, found: list[Any]) -> None:
    """Create and start a monitor, and append it to a list. This reads the run, and may wait for the server."""
    with suppress(Exception):
        import logging

        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
        monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
        found.append(monitor)
        monitor.start()
