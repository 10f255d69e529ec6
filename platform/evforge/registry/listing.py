"""Registered models as text: the output of `evforge registry list` and `show`."""

from dataclasses import asdict
from html import unescape
from typing import Any

from detector.config.credentials import without_passwords
from evforge.display.tables import metric_text
from evforge.registry.promotion import PromotionResult, history
from evforge.tracking.tracker import Tracker

__all__ = ["describe", "facts", "newest", "overview", "verdict", "verdict_facts"]


def overview(tracker: Tracker) -> str:
    """Format one line for each version of each registered model, with its aliases, mAP and run."""
    lines = [
        f"{version.name} {version.version}  {', '.join(version.aliases) or '-'}  mAP {_metric(version, 'mean_ap')}  "
        f"mAP50 {_metric(version, 'mean_ap50')}  run {version.run_id}"
        for model in tracker.client.search_registered_models()
        for version in _versions(tracker, model.name).values()
    ]
    return "\n".join(lines) or f"no registered model in {tracker.uri}"


def facts(tracker: Tracker, name: str | None = None, version: int | None = None) -> dict[str, Any]:
    """Return the versions and the changes of the champions of registered models, as the dict that `--json` prints.

    Args:
        tracker: the store.
        name: name of a model; all models if None.
        version: number of the only version to include; all versions if None.

    Raises:
        ValueError: there is no such model or version.
    """
    if name is not None:
        describe(tracker, name, version)  # raises
    names = [model.name for model in tracker.client.search_registered_models()] if name is None else [name]
    models = [
        {
            "name": each,
            "versions": [
                _version_facts(found)
                for number, found in _versions(tracker, each).items()
                if version is None or number == version
            ],
            "champions": [asdict(move) for move in history(tracker, each)],
        }
        for each in names
    ]
    return {"tracking_uri": without_passwords(tracker.uri), "models": models}


def _version_facts(version: Any) -> dict[str, Any]:
    metrics = {key: float(version.tags[key]) if key in version.tags else None for key in ("mean_ap", "mean_ap50")}
    return {"version": int(version.version), "aliases": list(version.aliases), **metrics, "run_id": version.run_id}


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


def verdict_facts(name: str, result: PromotionResult) -> dict[str, Any]:
    """Return the result of a promotion or rollback as the dict that `--json` prints."""
    return {"name": name, "moved": result.moved, "champion": result.champion, "reason": result.reason}


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
