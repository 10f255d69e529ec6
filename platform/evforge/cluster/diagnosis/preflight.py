"""Checks that the settings of a planned command work on this machine or on every node of a cluster.

The checks run on the machine of Ray's driver. To run them on the head of a cluster, `evforge doctor --address` submits
the job `python -m evforge.cluster.diagnosis.preflight REQUEST`.
"""

import base64
import configparser
import json
import os
import platform
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from detector.config import Config
from detector.config.credentials import PASSWORD, TOKEN, USERNAME
from evforge import EvForgeError, last_line
from evforge.cluster.credentials import load, receive
from evforge.cluster.diagnosis.checks import Check, outcome, print_checks, version_of
from evforge.cluster.session import Resources, ray_session
from evforge.tracking.store import CREDENTIALS_REMEDY

__all__ = ["Report", "ask_nodes", "cluster_checks", "installed", "local_checks", "main", "node_report"]

PACKAGES = ("ray", "torch", "pytorch-lightning", "mlflow")
NODE_S, TRACKING_S = 120.0, 5.0
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
"""A request that a server with authentication answers only with valid credentials, unlike its /health."""


@dataclass(frozen=True)
class Report:
    """Versions and problems that one node reports.

    Args:
        node: name of the node
        versions: versions of Python and of the packages that must be the same on all nodes, by name
        missing: keys of the settings whose file or folder does not exist on the node
        tracking: why the node cannot reach the MLflow server; empty if the node reaches the server or does not need it
        error: why the node could not report; empty if the node reported
    """

    node: str
    versions: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    tracking: str = ""
    error: str = ""


def installed() -> dict[str, str]:
    """Return the versions of Python and of the packages that must be the same on all nodes, by name."""
    versions = {name: version_of(name) or "not installed" for name in PACKAGES}
    return {"python": platform.python_version(), **versions}


def node_report(paths: Mapping[str, str], tracking_uri: str) -> Report:
    """Return the report of this machine.

    Args:
        paths: dict from keys of settings to paths that must exist.
        tracking_uri: address of the MLflow server; empty if the server is not needed.
    """
    missing = tuple(key for key, path in paths.items() if not Path(path).exists())
    return Report(socket.gethostname(), installed(), missing, _unreachable(tracking_uri) if tracking_uri else "")


def local_checks(config: Config) -> Iterator[Check]:
    """Check that this machine has the GPUs, paths and MLflow server that a command with these settings needs."""
    import torch

    yield from _gpu_checks(config, torch.cuda.device_count(), 0)
    paths = _paths(config)
    yield from _settings_checks(config, paths, [node_report(paths, _server(config))])


def cluster_checks(config: Config | None, client: Mapping[str, str]) -> Iterator[Check]:
    """Check every node of the cluster that RAY_ADDRESS names.

    Args:
        config: settings of the planned command; None to check no settings.
        client: result of `installed` on the machine from which the user starts the command. In a job, this is another
            machine than the one that runs this function.
    """
    paths = _paths(config) if config else {}
    with ray_session() as resources, _storage_mark(config) as mark:
        nodes = list(ask_nodes({**paths, **mark}, _server(config) if config else "").values())
        yield Check("nodes", "ok", f"{len(nodes)} with {resources.cpus} CPUs and {resources.gpus} GPUs")
        yield from _version_checks(installed(), client, nodes)
        if config:
            yield from _gpu_checks(config, resources.gpus, sum(gpus for _, gpus in resources.grown))
            yield from _worker_checks(config, resources)
            paths |= {key: str(Path(file).parent) for key, file in mark.items()}
            yield from _settings_checks(config, paths, nodes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the cluster on which this job runs.

    Args:
        arguments: command line with one argument, the path of a JSON file; `sys.argv[1:]` if None. The file contains
            `{"versions": {...}, "settings": {"group.leaf": value} or null}`.

    Returns:
        Number of checks with the status FAIL.
    """
    receive()
    (name,) = sys.argv[1:] if arguments is None else arguments
    request = json.loads(Path(name).read_text())
    config = Config().with_overrides(request["settings"]) if request["settings"] is not None else None
    return print_checks("cluster", partial(cluster_checks, config, request["versions"]))


def ask_nodes(paths: Mapping[str, str], tracking_uri: str) -> dict[str, Report]:
    """Run `node_report` on every node of the cluster.

    Returns:
        Dict from the id of each node in Ray to the report of the node.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(_report_on_node)
    alive = [node for node in ray.nodes() if node["Alive"]]
    strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in alive]
    answers = [task.options(scheduling_strategy=on_node).remote(paths, tracking_uri) for on_node in strategies]
    done, _ = ray.wait(answers, num_returns=len(answers), timeout=NODE_S)
    reports = {}
    for answer, node in zip(answers, alive, strict=True):
        try:
            found = ray.get(answer) if answer in done else f"no answer within {NODE_S:.0f} s"
        except ray.exceptions.RayError as error:
            found = last_line(str(error))
        name = node["NodeManagerAddress"]
        reports[node["NodeID"]] = Report(name, error=found) if isinstance(found, str) else found
    return reports


def _report_on_node(paths: Mapping[str, str], tracking_uri: str) -> Report:
    """Run `node_report` in a Ray worker, with the credentials of the driver."""
    load()
    return node_report(paths, tracking_uri)


def _version_checks(driver: Mapping[str, str], client: Mapping[str, str], nodes: Sequence[Report]) -> Iterator[Check]:
    for node in nodes:
        if node.error:
            yield Check("nodes", "FAIL", f"{node.node} cannot run a task: {node.error}")
    for name, found in driver.items():
        different = [
            f"{node.node} has {node.versions[name]}"
            for node in nodes
            if not node.error and _significant(name, node.versions[name]) != _significant(name, found)
        ]
        if different:
            listed = ", ".join(different)
            yield Check(name, "FAIL", f"{found} on the driver, but {listed}: install the same version on every node")
        elif client.get(name, found) != found:
            detail = f"{found} on the cluster, {client[name]} here: jobs run with the cluster's"
            yield Check(name, "warn" if _significant(name, client[name]) != _significant(name, found) else "ok", detail)
        else:
            yield Check(name, "ok", f"{found} on every node")


def _significant(name: str, version: str) -> str:
    return version.rpartition(".")[0] if name == "python" else version  # 3.11.4 and 3.11.9 are compatible


def _gpu_checks(config: Config, present: int, possible: int) -> Iterator[Check]:
    wanted = config.train.use_gpu
    if present:
        yield Check("train.use_gpu", "ok", f"{wanted}, {present} available")
    elif wanted == "auto" and possible:
        yield Check(
            "train.use_gpu",
            "warn",
            f"auto, but no GPU is running: a job would train on CPUs; with true the cluster starts one of {possible}",
        )
    elif wanted == "auto" or not wanted:
        yield Check("train.use_gpu", "ok", f"{wanted}, no GPU: training uses the CPUs")
    elif possible:
        yield Check("train.use_gpu", "warn", f"true, but no GPU is running: a job waits until one of {possible} starts")
    else:
        yield Check("train.use_gpu", "FAIL", "true, but there is no GPU; allowed: auto or false, or a node with a GPU")


def _worker_checks(config: Config, resources: Resources) -> Iterator[Check]:
    workers, wanted = config.train.workers, config.train.use_gpu
    use_gpu = resources.gpus > 0 if wanted == "auto" else bool(wanted)
    most, kind = resources.room(use_gpu), "GPUs" if use_gpu else "CPU cores"
    problem = f"{workers}, allowed: at most {most}, the number of {kind}"
    yield outcome("train.workers", workers <= most, f"{workers} of at most {most}", problem)


def _settings_checks(config: Config, paths: Mapping[str, str], nodes: Sequence[Report]) -> Iterator[Check]:
    asked = [node for node in nodes if not node.error]
    for key, path in paths.items():
        blind = ", ".join(node.node for node in asked if key in node.missing)
        problem = f"{path} does not exist on {blind}; allowed: a folder that all nodes mount"
        yield outcome(key, not blind, path, problem)
    if not config.data.dataset_path:
        yield Check("data.dataset_path", "warn", "not given, so the data was not checked")
    if server := _server(config):
        problems = ", ".join(f"from {node.node}: {node.tracking}" for node in asked if node.tracking)
        yield outcome("track.tracking_uri", not problems, f"{server} answers", f"{server} cannot be used {problems}")


def _paths(config: Config) -> dict[str, str]:
    """Return a dict from keys of settings to the local paths that a command with these settings needs.

    Addresses such as s3://... are left out.
    """
    uri = config.track.tracking_uri or ""
    wanted = {
        "data.dataset_path": config.data.dataset_path,
        "train.pretrained": config.train.pretrained or "",
        "track.tracking_uri": str(Path(uri.partition("///")[2]).parent) if uri.startswith("sqlite") else "",
    }
    return {key: str(Path(path).absolute()) for key, path in wanted.items() if path and "://" not in path}


def _server(config: Config) -> str:
    uri = config.track.tracking_uri or ""
    return uri if uri.startswith("http") else ""


@contextmanager
def _storage_mark(config: Config | None) -> Iterator[dict[str, str]]:
    """Context manager that creates a file in `train.storage`, and removes it after the block.

    A node on which the file exists has mounted this folder.

    Yields:
        `{"train.storage": path of the file}`. An empty dict if `config` is None or `train.storage` is not a local path.
    """
    if config is None or "://" in config.train.storage:
        yield {}
        return
    folder = Path(config.train.storage).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(prefix=".doctor-", dir=folder)  # noqa: SIM115
    except OSError as error:
        raise EvForgeError(f"train.storage: {folder} cannot be written: {error}") from None
    with file:
        yield {"train.storage": file.name}


def _unreachable(server: str) -> str:
    """Return why an MLflow server cannot be used with the credentials of this process; empty if it can be used."""
    try:
        request = urllib.request.Request(f"{server.rstrip('/')}{SEARCH}")
        for name, value in _authorization().items():
            request.add_unredirected_header(name, value)  # a redirection to another host does not receive it
        with urllib.request.urlopen(request, timeout=TRACKING_S) as answer:
            return "" if answer.read(1) == b"{" else "another service than MLflow answers"
    except urllib.error.HTTPError as error:
        if b"Invalid Host" in error.read(100):
            return "the server does not accept this host name; see the option --allowed-hosts of `mlflow server`"
        given = f"error {error.code}"
        return f"{given}: {CREDENTIALS_REMEDY}" if error.code in (401, 403) else given
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'reason', error)}"


def _authorization() -> dict[str, str]:
    """Return the HTTP header with which MLflow's client authenticates; empty without credentials."""
    file = configparser.ConfigParser(interpolation=None)
    file.read(Path.home() / ".mlflow" / "credentials")
    stored = file["mlflow"] if file.has_section("mlflow") else {}
    user, password = (os.environ.get(name) or stored.get(name.lower(), "") for name in (USERNAME, PASSWORD))
    if user and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    token = os.environ.get(TOKEN)
    return {"Authorization": f"Bearer {token}"} if token else {}


if __name__ == "__main__":
    sys.exit(main())
