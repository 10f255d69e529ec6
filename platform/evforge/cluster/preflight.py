"""What would not work when a command runs: its settings seen from this machine, or from every node of a cluster.

Runs where Ray's driver runs. `python -m evforge.cluster.preflight REQUEST` is the job by which
`evforge doctor --address` looks at a cluster from its head.
"""

import importlib.metadata
import json
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
from evforge import EvForgeError, last_line
from evforge.cluster.checks import Check, print_checks
from evforge.cluster.ray_compat import most_resources
from evforge.cluster.session import ray_session

__all__ = ["Report", "cluster_checks", "installed", "local_checks", "look", "main"]

PACKAGES = ("ray", "torch", "pytorch-lightning", "mlflow")
NODE_S, TRACKING_S = 120.0, 5.0


@dataclass(frozen=True)
class Report:
    """What one node sees.

    Args:
        node: its name
        versions: of Python and the packages that must be equal
        missing: keys of the files and folders that it does not see
        tracking: why the MLflow server cannot be reached; empty if it can, or none was asked for
        error: why the node could not be asked
    """

    node: str
    versions: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    tracking: str = ""
    error: str = ""


def installed() -> dict[str, str]:
    """Versions of Python and of the packages that must be equal on all nodes."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def look(paths: Mapping[str, str], tracking_uri: str) -> Report:
    """What this machine sees.

    Args:
        paths: `{key: path}` that must exist.
        tracking_uri: MLflow server to reach; empty for none.
    """
    missing = tuple(key for key, path in paths.items() if not Path(path).exists())
    return Report(socket.gethostname(), installed(), missing, _unreachable(tracking_uri) if tracking_uri else "")


def local_checks(config: Config) -> Iterator[Check]:
    """Whether a command with these settings will find on this machine what it needs."""
    import torch

    yield from _gpu_checks(config, torch.cuda.device_count(), 0)
    paths = _paths(config)
    yield from _settings_checks(config, paths, [look(paths, _server(config))])


def cluster_checks(config: Config | None, client: Mapping[str, str]) -> Iterator[Check]:
    """Whether the cluster that RAY_ADDRESS names is fit, asked on each of its nodes.

    Args:
        config: settings of the command that is to run; None to leave out what they need.
        client: versions on the machine that submits, which may differ from the driver's.
    """
    paths = _paths(config) if config else {}
    with ray_session() as resources, _storage_mark(config) as mark:
        most = most_resources() or {}
        nodes = _ask_nodes({**paths, **mark}, _server(config) if config else "")
        yield Check("nodes", "ok", f"{len(nodes)} with {resources.cpus} CPUs and {resources.gpus} GPUs")
        yield from _version_checks(installed(), client, nodes)
        if config:
            yield from _gpu_checks(config, resources.gpus, int(most.get("GPU", 0)))
            paths |= {key: str(Path(file).parent) for key, file in mark.items()}
            yield from _settings_checks(config, paths, nodes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the cluster of this job.

    Args:
        arguments: name of a JSON file `{"versions": {...}, "settings": {"group.leaf": value} or null}`.

    Returns:
        How many checks FAIL.
    """
    (name,) = sys.argv[1:] if arguments is None else arguments
    request = json.loads(Path(name).read_text())
    config = Config().with_overrides(request["settings"]) if request["settings"] is not None else None
    return print_checks("cluster", partial(cluster_checks, config, request["versions"]))


def _ask_nodes(paths: Mapping[str, str], tracking_uri: str) -> list[Report]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    waiting = {}
    for node in ray.nodes():
        if node["Alive"]:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            waiting[task.options(scheduling_strategy=place).remote(paths, tracking_uri)] = node["NodeManagerAddress"]
    done, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=NODE_S)
    reports = [Report(waiting[answer], error=f"no answer within {NODE_S:.0f} s") for answer in late]
    for answer in done:
        try:
            reports.append(ray.get(answer))
        except ray.exceptions.RayError as error:
            reports.append(Report(waiting[answer], error=last_line(str(error))))
    return reports


def _version_checks(driver: Mapping[str, str], client: Mapping[str, str], nodes: Sequence[Report]) -> Iterator[Check]:
    for node in nodes:
        if node.error:
            yield Check("nodes", "FAIL", f"{node.node} cannot run a task: {node.error}")
    for name, found in driver.items():
        others = {
            node.node: node.versions[name]
            for node in nodes
            if not node.error and _significant(name, node.versions[name]) != _significant(name, found)
        }
        if others:
            listed = ", ".join(f"{node} has {version}" for node, version in others.items())
            yield Check(name, "FAIL", f"{found} on the driver, but {listed}: install the same version on every node")
        elif client.get(name, found) != found:
            detail = f"{found} on the cluster, {client[name]} here: jobs run with the cluster's"
            yield Check(name, "warn" if _significant(name, client[name]) != _significant(name, found) else "ok", detail)
        else:
            yield Check(name, "ok", f"{found} on every node")


def _significant(name: str, version: str) -> str:
    return version.rpartition(".")[0] if name == "python" else version  # 3.11.4 and 3.11.9 understand each other


def _gpu_checks(config: Config, present: int, possible: int) -> Iterator[Check]:
    wanted = config.train.use_gpu
    if present:
        yield Check("train.use_gpu", "ok", f"{wanted}, {present} there")
    elif wanted == "auto" and possible:
        yield Check(
            "train.use_gpu",
            "warn",
            f"auto, and no GPU is up now: a job would train on CPUs; true makes the cluster start one of {possible}",
        )
    elif wanted == "auto" or not wanted:
        yield Check("train.use_gpu", "ok", f"{wanted}, there is no GPU: the CPUs train")
    elif possible:
        yield Check("train.use_gpu", "warn", f"true, and no GPU is up now: a job waits until one of {possible} starts")
    else:
        yield Check("train.use_gpu", "FAIL", "true, but there is no GPU; allowed: auto or false, or a node with a GPU")


def _settings_checks(config: Config, paths: Mapping[str, str], nodes: Sequence[Report]) -> Iterator[Check]:
    asked = [node for node in nodes if not node.error]
    for key, path in paths.items():
        blind = [node.node for node in asked if key in node.missing]
        if blind:
            yield Check(
                key, "FAIL", f"{path} cannot be seen from {', '.join(blind)}; a folder that all nodes mount can"
            )
        else:
            yield Check(key, "ok", path)
    if not config.data.dataset_path:
        yield Check("data.dataset_path", "warn", "not given, so nobody looked whether the data can be seen")
    if server := _server(config):
        cut_off = {node.node: node.tracking for node in asked if node.tracking}
        reasons = ", ".join(f"from {node}: {reason}" for node, reason in cut_off.items())
        detail = f"{server} does not answer {reasons}" if cut_off else f"{server} answers"
        yield Check("track.tracking_uri", "FAIL" if cut_off else "ok", detail)


def _paths(config: Config) -> dict[str, str]:
    """Local paths that a command needs, by their keys; addresses such as s3://... are nobody's folder."""
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
    """A file in `train.storage` that every node must see, for as long as the block runs."""
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
    """Why an HTTP server cannot be reached; empty if it answers, be it with a refusal."""
    try:
        with urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=TRACKING_S):
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code < 500 else f"error {error.code}"
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'reason', error)}"


if __name__ == "__main__":
    sys.exit(main())
