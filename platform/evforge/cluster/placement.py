"""Placement of runs: find the nodes on which the dataset exists, and request resources on suitable nodes only."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.config import Config
from detector.data.label_map import label_map_path
from evforge import EvForgeError
from evforge.cluster.diagnosis.preflight import ask_nodes
from evforge.cluster.session import Resources, node_sizes

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory

__all__ = ["avoid", "request", "selector", "serving_nodes", "witnesses"]

NODE_ID = "ray.io/node-id"
"""Label that Ray sets on each node."""
RAY_NAMES = {"cpu": "CPU", "gpu": "GPU"}


def witnesses(dataset: str | Path) -> list[str]:
    """Return a few files of a dataset. If they exist on a node, the whole dataset is assumed to exist there.

    These are the label map, and the first recording of each of the splits train and val.
    """
    folder = Path(dataset)
    first = [min(map(str, (folder / split).rglob("*.h5")), default=None) for split in ("train", "val")]
    return [str(file) for file in (label_map_path(folder / "train"), *first) if file is not None]


def serving_nodes(config: Config, resources: Resources) -> Resources:
    """Find the nodes of a cluster on which the dataset exists. If the cluster has only one node, nothing is checked.

    One line is printed for each node on which the dataset does not exist.

    Args:
        config: checked configuration.
        resources: resources of Ray.

    Returns:
        The resources of the nodes with the dataset. The ids of the nodes without it are in `left_out`.

    Raises:
        EvForgeError: the dataset exists on no node.
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
    nodes = node_sizes(node for node in alive if node["NodeID"] not in blind)
    return replace(resources, nodes=nodes, left_out=tuple(sorted(blind)))


def selector(left_out: Sequence[str]) -> dict[str, str]:
    """Return the label selector with which Ray excludes the nodes with these ids; empty if `left_out` is empty."""
    return {NODE_ID: f"!in({','.join(left_out)})"} if left_out else {}


def request(amounts: Mapping[str, float], left_out: Sequence[str] = ()) -> "PlacementGroupFactory":
    """Return a request for resources on one node, in the form that Ray Tune takes for a trial.

    Args:
        amounts: amount of each resource, such as `{"cpu": 1.0, "gpu": 0.5}`.
        left_out: ids of nodes that must not be used.
    """
    from ray.tune import PlacementGroupFactory

    bundle, found = {RAY_NAMES.get(name, name): amount for name, amount in amounts.items()}, selector(left_out)
    more: dict[str, Any] = {"bundle_label_selector": [found]} if found else {}
    return PlacementGroupFactory([bundle], **more)


def avoid(old: "PlacementGroupFactory", left_out: Sequence[str]) -> "PlacementGroupFactory":
    """Return a request for the same resources that excludes some nodes.

    Args:
        old: request for resources on one node.
        left_out: ids of the nodes to exclude.

    Returns:
        The new request. `old` if no other node has these resources.
    """
    import ray

    (bundle,) = old.bundles
    others = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in left_out]
    fits = any(all(node.get(kind, 0) >= amount for kind, amount in bundle.items()) for node in others)
    return request(bundle, left_out) if fits else old
