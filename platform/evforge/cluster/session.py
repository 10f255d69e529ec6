"""Ray: a head of our own on this machine, or the cluster that the variable RAY_ADDRESS names."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evforge import EvForgeError
from evforge.cluster.ray_compat import most_resources, quiet_authentication

__all__ = ["Resources", "cpu_count", "ray_session"]

OBJECT_STORE_BYTES = 200 * 2**20  # nothing but settings and metrics passes through it


@dataclass(frozen=True)
class Resources:
    """What Ray may use.

    Args:
        cpus: CPU cores of all nodes
        gpus: GPUs of all nodes
        grows: whether it is a cluster that adds nodes when asked for more
    """

    cpus: int
    gpus: int
    grows: bool

    def use_gpu(self, wanted: bool | str) -> bool:
        """The value of `train.use_gpu` for this machine.

        Raises:
            EvForgeError: a GPU is wanted and there is none.
        """
        if wanted == "auto":
            return self.gpus > 0
        if wanted and not self.gpus and not self.grows:
            raise EvForgeError("train.use_gpu: got True, but Ray finds no GPU here, allowed: auto or false")
        return bool(wanted)

    def require_workers(self, workers: int, use_gpu: bool) -> None:
        """Refuse a training that would wait for its workers for ever: each takes a CPU core, or a GPU.

        Raises:
            EvForgeError: there are fewer than that.
        """
        kind, there = ("GPUs", self.gpus) if use_gpu else ("CPU cores", self.cpus)
        if workers > there and not self.grows:
            raise EvForgeError(f"train.workers: got {workers}, allowed: at most the {there} {kind} that there are")


def cpu_count() -> int:
    """CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def ray_session(dashboard: bool = False) -> Iterator[Resources]:
    """Ray for the block; whatever was started ends with it. Inside another session that one is used.

    Args:
        dashboard: start Ray's dashboard, too: Ray Train looks after its workers through it.
    """
    cluster = "RAY_ADDRESS" in os.environ
    import ray

    quiet_authentication()
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    started, given = not ray.is_initialized(), os.environ.get("RAY_API_SERVER_ADDRESS")
    try:
        if started:
            with _kept_signal_handlers():
                ray.init(logging_level=logging.WARNING, **({} if cluster else _local_options(dashboard)))
        found = ray.cluster_resources()
        yield Resources(int(found.get("CPU", 1)), int(found.get("GPU", 0)), grows=cluster and _adds_nodes())
    finally:
        if started:
            ray.shutdown()
            os.environ.pop("RAY_API_SERVER_ADDRESS", None)
            os.environ.update({"RAY_API_SERVER_ADDRESS": given} if given is not None else {})


def _adds_nodes() -> bool:
    """Whether the cluster has an autoscaler, which knows of more than there is now."""
    return most_resources() is not None


def _local_options(dashboard: bool) -> dict[str, Any]:
    """Arguments of `ray.init` for a head of our own."""
    options = {"address": "local", "include_dashboard": dashboard, "object_store_memory": OBJECT_STORE_BYTES}
    if dashboard:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        # Without the address Ray Train's actors ask whichever Ray they find on the machine.
        os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
        options["dashboard_port"] = port
    return options


@contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """Ray's own handler of SIGTERM aborts the process before anything can be cleaned up."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
