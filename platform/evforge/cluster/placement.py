"""Nodes that can serve a run: which nodes see the dataset, and requests of resources that leave the others out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config import Config
from detector.data.label_map import label_map_path
from evforge import EvForgeError
from evforge.cluster.diagnosis.preflight import ask_nodes
from evforge.cluster.session import Resources

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory

__all__ = ["avoid", "request", "selector", "serving_nodes", "witnesses"]

NODE_ID = "ray.io/node-id"
"""Label that Ray sets on each node."""
RAY_NAMES = {"cpu": "CPU", "gpu": "GPU"}


def witnesses(dataset: str | Path) -> list[str]:
    """Return files of a dataset whose presence on a node shows that the node sees the dataset.

    These are the label map and the first recording of each split that a training reads.
    """
    folder = Path(dataset)
    first = [min(map(str, (folder / split).rglob("*.h5")), default=None) for split in ("train", "val")]
    return [str(file) for file in (label_map_path(folder / "train"), *first) if file is not None]


def serving_nodes(config: Config, resources: Resources) -> Resources:
    """Ask all nodes of a cluster for the dataset, and leave out the nodes that do not see it.

    One line per such node is printed.

    Args:
        config: checked configuration.
        resources: resources of Ray.

    Returns:
        The resources of the other nodes.

    Raises:
        EvForgeError: no node sees the dataset.
    """
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    if len(alive) < 2:
        return resources
    files = witnesses(config.data.dataset_path)
    blind = {}
    for node_id, report in ask_nodes(dict(zip(files, files, strict=True)), "").items():
        if report.error or report.missing:
            blind[node_id] = report.error or f"does not see {report.missing[0]}"
    for node in alive:
        if node["NodeID"] in blind:
            print(f"node {node['NodeManagerAddress']} is left out: {blind[node['NodeID']]}", flush=True)
    if len(blind) == len(alive):
        raise EvForgeError(f"data.dataset_path: got {config.data.dataset_path}, which no node of the cluster sees")
    found = [node["Resources"] for node in alive if node["NodeID"] not in blind]
    nodes = tuple((int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in found)
    return replace(resources, nodes=nodes, left_out=tuple(sorted(blind)))


def selector(left_out: Sequence[str]) -> dict[str, str]:
    """Return Ray's label selector that excludes nodes, given by their ids; empty if there are none."""
    return {NODE_ID: f"!in({','.join(left_out)})"} if left_out else {}


def request(amounts: Mapping[str, float], left_out: Sequence[str] = ()) -> "PlacementGroupFactory":
    """Return a request of resources on one node for Ray Tune.

    Args:
        amounts: amounts, such as `{"cpu": 1.0, "gpu": 0.5}`.
        left_out: ids of nodes that must not be used.
    """
    from ray.tune import PlacementGroupFactory

    bundle, found = {RAY_NAMES.get(name, name): amount for name, amount in amounts.items()}, selector(left_out)
    more: dict[str, Any] = {"bundle_label_selector": [found]} if found else {}
    return PlacementGroupFactory([bundle], **more)


def avoid(old: "PlacementGroupFactory", left_out: Sequence[str]) -> "PlacementGroupFactory":
    """Return a request for the same amounts that excludes nodes. If no other node could serve it, return `old`.

    Args:
        old: request of resources on one node.
        left_out: ids of the excluded nodes.
    """
    import ray

    (bundle,) = old.bundles
    others = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in left_out]
    fits = any(all(node.get(kind, 0) >= amount for kind, amount in bundle.items()) for node in others)
    return request(bundle, left_out) if fits else old
