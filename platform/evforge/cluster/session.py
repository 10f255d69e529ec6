"""Sessions of Ray, on this machine or on the cluster that the environment variable RAY_ADDRESS names."""

import logging
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evforge import EvForgeError
from evforge.cluster.ray_compat import grown_nodes, quiet_authentication

__all__ = ["Resources", "cpu_count", "kept_variable", "local_resources", "ray_session"]

OBJECT_STORE_BYTES = 200 * 2**20  # the object store contains only settings and metrics


@dataclass(frozen=True)
class Resources:
    """CPU cores and GPUs of the nodes that Ray may use.

    Args:
        nodes: (CPU cores, GPUs) of each running node
        grown: (CPU cores, GPUs) of each node in the largest cluster that an autoscaler can start; empty without an
            autoscaler
        left_out: ids of running nodes that must not be used, for example because they do not see the dataset
    """

    nodes: tuple[tuple[int, int], ...]
    grown: tuple[tuple[int, int], ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def cpus(self) -> int:
        """Number of CPU cores of all running nodes."""
        return sum(cpus for cpus, _ in self.nodes)

    @property
    def gpus(self) -> int:
        """Number of GPUs of all running nodes."""
        return sum(gpus for _, gpus in self.nodes)

    def hosts(self, use_gpu: bool) -> list[tuple[int, int]]:
        """Return (CPU cores, GPUs) of each node on which trainings can run.

        These are the running nodes, and those that an autoscaler starts. For trainings on CPUs, the autoscaler starts
        nodes with GPUs only if there are no other nodes.
        """
        running, grown = ([node for node in nodes if node[use_gpu]] for nodes in (self.nodes, self.grown))
        started = [node for node in grown if use_gpu or not node[1]]
        return list((Counter(running) | Counter(started)).elements()) or grown

    def room(self, use_gpu: bool) -> int:
        """Return the largest number of workers that can run at the same time.

        Each worker uses one GPU if `use_gpu` is true, and one CPU core otherwise.
        """
        return sum(host[use_gpu] for host in self.hosts(use_gpu))

    def use_gpu(self, wanted: bool | str) -> bool:
        """Return whether a training uses GPUs on these resources.

        Args:
            wanted: value of the setting `train.use_gpu`. "auto" means that GPUs are used if a running node has one.

        Raises:
            EvForgeError: the setting is true and there is no GPU.
        """
        if wanted == "auto":
            return self.gpus > 0
        if wanted and not any(gpus for _, gpus in (*self.nodes, *self.grown)):
            raise EvForgeError("train.use_gpu: got True, but Ray finds no GPU here, allowed: auto or false")
        return bool(wanted)

    def require_workers(self, workers: int, use_gpu: bool) -> None:
        """Check that all workers of a training can run at the same time, as the training would otherwise wait forever.

        Each worker uses one GPU if `use_gpu` is true, and one CPU core otherwise.

        Raises:
            EvForgeError: there are more workers than GPUs or CPU cores.
        """
        there = self.room(use_gpu)
        if workers > there:
            kind = "GPUs" if use_gpu else "CPU cores"
            raise EvForgeError(f"train.workers: got {workers}, allowed: at most the {there} {kind} that there are")


def cpu_count() -> int:
    """Return the number of CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def local_resources() -> Resources:
    """Return the resources of this machine without starting Ray."""
    import torch

    return Resources(((cpu_count(), torch.cuda.device_count()),))


@contextmanager
def ray_session(dashboard: bool = False) -> Iterator[Resources]:
    """Start Ray on this machine or connect to the cluster for the block, and yield the resources.

    A local Ray is stopped after the block. A nested session uses the outer session.

    Args:
        dashboard: start a local Ray with its dashboard, through which Ray Train monitors its workers.
    """
    cluster = "RAY_ADDRESS" in os.environ
    import ray

    quiet_authentication()
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    started = not ray.is_initialized()
    with kept_variable("RAY_API_SERVER_ADDRESS"):
        try:
            if started:
                with _kept_signal_handlers():
                    ray.init(logging_level=logging.WARNING, **({} if cluster else _local_options(dashboard)))
            found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            nodes = tuple((int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in found)
            yield Resources(nodes, grown_nodes() if cluster else ())
        finally:
            if started:
                ray.shutdown()


@contextmanager
def kept_variable(name: str) -> Iterator[None]:
    """Restore the value of an environment variable after the block."""
    value = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _local_options(dashboard: bool) -> dict[str, Any]:
    """Return the arguments of `ray.init` for a local Ray.

    With a dashboard, this also chooses a free port and sets RAY_API_SERVER_ADDRESS.
    """
    options = {"address": "local", "include_dashboard": dashboard, "object_store_memory": OBJECT_STORE_BYTES}
    if dashboard:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        # Without this address, the actors of Ray Train may connect to another Ray on this machine.
        os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
        options["dashboard_port"] = port
    return options


@contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers after the block. Ray's handler of SIGTERM aborts the process without cleanup."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
