"""Sessions of Ray, on this machine or on the cluster that the environment variable RAY_ADDRESS names."""

import logging
import os
import platform
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from evforge import EvForgeError, one_line
from evforge.cluster.credentials import shared
from evforge.cluster.processes import LocalProcesses
from evforge.cluster.ray_compat import grown_nodes, log_folder, quiet_authentication, replace_messages
from evforge.cluster.watch import answers, ray_watched

__all__ = ["Resources", "cpu_count", "kept_variable", "local_resources", "node_sizes", "ray_session"]

OBJECT_STORE_BYTES = 200 * 2**20  # the object store contains only settings and metrics
NO_SERVER = 9  # the port "discard", where nothing answers
ANSWER_S = 10.0  # a cluster that does not answer within this time is not there
PATIENCE_S = 3.0  # time in which the processes of a stopped Ray end by themselves


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

    def text(self) -> str:
        """Describe the running nodes and, if this machine has GPUs, the names of these."""
        import torch

        names = sorted({torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())})
        gpus = f"{self.gpus} GPUs" + (f" ({', '.join(names)})" if names and self.gpus else "")
        nodes = "1 node" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes"
        return f"{nodes}, {self.cpus} CPU cores ({platform.machine()}), {gpus}"

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
    """Context manager that connects to the cluster in RAY_ADDRESS or, if this is not set, starts Ray on this machine.

    A local Ray is stopped after the block, and none of its processes remains. A nested session uses the outer session.

    Args:
        dashboard: whether a local Ray is started with its dashboard. It is needed for searches whose trials have
            several workers: without it, Ray does not free the CPUs of ended trials.

    Yields:
        The resources of the nodes.

    Raises:
        EvForgeError: two attempts to start Ray have failed, or the cluster cannot be used.
        RayLostError: Ray has stopped answering during the block.
    """
    import ray

    quiet_authentication()
    replace_messages()
    if "NO_COLOR" in os.environ or not sys.stdout.isatty():
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # no escape codes in front of the lines of workers
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        yield _resources()
    elif "RAY_ADDRESS" in os.environ:
        with _connected(os.environ["RAY_ADDRESS"]):
            yield _resources()
    else:
        with _started(dashboard):
            yield _resources()


@contextmanager
def kept_variable(name: str) -> Iterator[None]:
    """Context manager that restores the value of an environment variable after its block."""
    value = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _resources() -> Resources:
    import ray

    nodes = node_sizes(node for node in ray.nodes() if node["Alive"])
    return Resources(nodes, grown_nodes() if "RAY_ADDRESS" in os.environ else ())


def node_sizes(nodes: Iterable[Mapping[str, Any]]) -> tuple[tuple[int, int], ...]:
    """Return (CPU cores, GPUs) of each node in a list like that of `ray.nodes`."""
    found = [node["Resources"] for node in nodes]
    return tuple((int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in found)


@contextmanager
def _started(dashboard: bool) -> Iterator[None]:
    """Context manager that starts Ray on this machine, and stops it after the block.

    If the start fails, the processes that were started are ended, and a second attempt follows.
    """
    import ray

    with kept_variable("RAY_API_SERVER_ADDRESS"):
        for attempt in (1, 2):
            processes = LocalProcesses()
            try:
                with _kept_signal_handlers(), processes.starting():
                    ray.init(logging_level=logging.WARNING, **_local_options(dashboard))
                break
            except BaseException as error:
                _stop(processes)
                if attempt == 2 and isinstance(error, Exception):
                    raise EvForgeError(
                        f"Ray did not start on this machine ({_short(error)}): the machine may be overloaded, or out "
                        f"of memory or disk space; Ray's logs are in {log_folder()}"
                    ) from error
                if not isinstance(error, Exception):  # interrupted
                    raise KeyboardInterrupt from None  # Ray's handler of SIGTERM raises SystemExit during the start
        try:
            with ray_watched("Ray on this machine"):
                yield
        finally:
            _stop(processes, PATIENCE_S)


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Context manager that connects to the cluster at `address`, and disconnects after the block."""
    import ray

    _require_answer(address)
    try:
        try:
            with _kept_signal_handlers():
                ray.init(logging_level=logging.WARNING)
        except Exception as error:
            raise EvForgeError(f"RAY_ADDRESS: {address}: {_refusal(error)}") from error
        with ray_watched(f"the cluster at {address}"), shared():
            yield
    finally:
        with suppress(Exception):  # of a lost head
            ray.shutdown()


def _require_answer(address: str) -> None:
    """Check that a gRPC server answers at the address of a cluster. Without this check, Ray would wait for minutes.

    Raises:
        EvForgeError: the address is malformed, or no gRPC server answers there.
    """
    target = address.removeprefix("ray://")
    host, _, port = target.rpartition(":")
    if target == "auto" or "RAY_USE_TLS" in os.environ:
        return
    if "://" in target or not host or not port.isdigit():
        raise EvForgeError(
            f"RAY_ADDRESS: got {address!r}, allowed: HOST:6379, the address that `ray start --head` prints"
        )
    if not answers(target, ANSWER_S):
        raise EvForgeError(
            f"RAY_ADDRESS: {address}: no Ray answers there within {ANSWER_S:.0f} s; start it by `ray start --head`, "
            "correct the address, or unset RAY_ADDRESS to run on this machine"
        )


def _refusal(error: Exception) -> str:
    """Return why `ray.init` could not use a cluster, and what to do."""
    text = one_line(error)
    if type(error).__name__ == "AuthenticationError":
        return (
            "the cluster wants its token: copy ~/.ray/auth_token of its head to the same path here, or set "
            "RAY_AUTH_TOKEN_PATH to the path of a copy, and set RAY_AUTH_MODE=token"
        )
    if "Version mismatch" in text:
        return f"{text}; install the versions of the cluster here"
    return f"Ray cannot use this cluster: {_short(error)}"


def _short(error: Exception) -> str:
    """Return the first sentence of the message of an error."""
    return one_line(error).partition(". ")[0].rstrip(".") or type(error).__name__


def _stop(processes: LocalProcesses, patience_s: float = 0.0) -> None:
    """Stop the Ray on this machine, even if its start was not complete.

    Args:
        processes: processes of this Ray.
        patience_s: time in seconds after which processes that have not ended are killed.
    """
    import ray

    try:
        processes.find()  # after the shutdown, some could no longer be recognised
        with suppress(Exception):
            ray.shutdown()
    finally:
        processes.end(patience_s)


def _local_options(dashboard: bool) -> dict[str, Any]:
    """Return the arguments of `ray.init` for a local Ray.

    This also sets the environment variable RAY_API_SERVER_ADDRESS to the address of the dashboard. Without a dashboard,
    it is set to an address at which nothing answers.
    """
    options = {"address": "local", "include_dashboard": dashboard, "object_store_memory": OBJECT_STORE_BYTES}
    port = NO_SERVER
    if dashboard:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = options["dashboard_port"] = server.getsockname()[1]
    # Without this address, the actors of Ray Train may connect to another Ray on this machine.
    os.environ["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{port}"
    return options


@contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """Context manager that restores the handlers of SIGINT and SIGTERM after its block, in which Ray replaces them.

    Ray's handler of SIGTERM would end the process without cleanup.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
