"""Registered models as text: what `evforge registry list` and `show` print."""

from html import unescape
from typing import Any

from evforge.registry.promotion import GateResult, history
from evforge.tracking.tracker import Tracker

__all__ = ["describe", "newest", "overview", "verdict"]


def overview(tracker: Tracker) -> str:
    """A line for each version of each registered model."""
    lines = [
        f"{version.name} {version.version}  {', '.join(version.aliases) or '-'}  mAP {_figure(version, 'mean_ap')}  "
        f"mAP50 {_figure(version, 'mean_ap50')}  run {version.run_id}"
        for model in tracker.client.search_registered_models()
        for version in _versions(tracker, model.name)
    ]
    return "\n".join(lines) or f"no registered model in {tracker.uri}"


def describe(tracker: Tracker, name: str, version: int | None = None) -> str:
    """The model card of a version, the newest if None, and who has been champion.

    Raises:
        ValueError: there is no such model or version.
    """
    found = {int(item.version): item for item in _versions(tracker, name)}
    chosen = found.get(newest(tracker, name) if version is None else version)
    if chosen is None:
        raise ValueError(f"version: got {version} of model {name!r}, allowed: {', '.join(map(str, found))}")
    head = f"version {chosen.version}, aliases: {', '.join(chosen.aliases) or 'none'}\n\n{unescape(chosen.description)}"
    moves = [
        f"{move.at}  {move.how}: {move.before or 'none'} -> {move.version}, {move.reason}"
        for move in history(tracker, name)
    ]
    return "\n".join([head.rstrip(), "", "champions:", *(moves or ["none yet"])])


def verdict(name: str, result: GateResult) -> str:
    """What the gate decided, in a line."""
    champion = f"version {result.version}" if result.version is not None else "none"
    state = f"now champion is {champion}" if result.moved else f"refused, champion stays {champion}"
    return f"{name}: {state}: {result.reason}"


def newest(tracker: Tracker, name: str) -> int:
    """Number of the newest version.

    Raises:
        ValueError: there is no such model.
    """
    versions = [int(version.version) for version in _versions(tracker, name)]
    if not versions:
        raise ValueError(f"name: got {name!r}, allowed: a registered model, see `evforge registry list`")
    return max(versions)


def _versions(tracker: Tracker, name: str) -> list[Any]:
    found = tracker.client.search_model_versions(f"name = '{name}'")
    # The search leaves aliases out.
    versions = [tracker.client.get_model_version(item.name, item.version) for item in found]
    return sorted(versions, key=lambda version: int(version.version))


def _figure(version: Any, key: str) -> str:
    return f"{float(version.tags[key]):.3f}" if key in version.tags else "-"
