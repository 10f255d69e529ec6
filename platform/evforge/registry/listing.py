"""Registered models as text: the output of `evforge registry list` and `show`."""

from html import unescape
from typing import Any

from evforge.display.tables import metric_text
from evforge.registry.promotion import PromotionResult, history
from evforge.tracking.tracker import Tracker

__all__ = ["describe", "newest", "overview", "verdict"]


def overview(tracker: Tracker) -> str:
    """Format one line for each version of each registered model, with its aliases, mAP and run."""
    lines = [
        f"{version.name} {version.version}  {', '.join(version.aliases) or '-'}  mAP {_metric(version, 'mean_ap')}  "
        f"mAP50 {_metric(version, 'mean_ap50')}  run {version.run_id}"
        for model in tracker.client.search_registered_models()
        for version in _versions(tracker, model.name).values()
    ]
    return "\n".join(lines) or f"no registered model in {tracker.uri}"


def describe(tracker: Tracker, name: str, version: int | None = None) -> str:
    """Format the model card of a version, and all changes of the champion of its model.

    Args:
        tracker: the store.
        name: name of the model in the registry.
        version: number of the version; the newest if None.

    Raises:
        ValueError: there is no such model or version.
    """
    found = _versions(tracker, name)
    chosen = found.get(newest(tracker, name) if version is None else version)
    if chosen is None:
        raise ValueError(f"version: got {version} of model {name!r}, allowed: {', '.join(map(str, found))}")
    head = f"version {chosen.version}, aliases: {', '.join(chosen.aliases) or 'none'}\n\n{unescape(chosen.description)}"
    moves = [
        f"{move.at}  {move.how}: {move.before or 'none'} -> {move.version}, {move.reason}"
        for move in history(tracker, name)
    ]
    return "\n".join([head.rstrip(), "", "champions:", *(moves or ["none yet"])])


def verdict(name: str, result: PromotionResult) -> str:
    """Format the result of a promotion or rollback as one line."""
    champion = f"version {result.champion}" if result.champion is not None else "none"
    state = f"now champion is {champion}" if result.moved else f"refused, champion stays {champion}"
    return f"{name}: {state}: {result.reason}"


def newest(tracker: Tracker, name: str) -> int:
    """Return the number of the newest version of a model.

    Raises:
        ValueError: the registry contains no version of this model.
    """
    versions = _versions(tracker, name)
    if not versions:
        raise ValueError(f"name: got {name!r}, allowed: a registered model, see `evforge registry list`")
    return max(versions)


def _versions(tracker: Tracker, name: str) -> dict[int, Any]:
    """Return all versions of a model as MLflow entities, by number in ascending order."""
    found = tracker.client.search_model_versions(f"name = '{name}'")
    numbers = sorted(int(item.version) for item in found)
    # Each version is read again, because the search omits aliases.
    return {number: tracker.client.get_model_version(name, str(number)) for number in numbers}


def _metric(version: Any, key: str) -> str:
    return metric_text(float(version.tags[key]) if key in version.tags else None, 3)
