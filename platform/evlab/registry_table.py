"""Registered models as text: what `evlab registry list` and `show` print."""

from typing import Any

from evlab.tracking import Tracker

__all__ = ["describe", "newest", "overview"]


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
    """The model card of a version, the newest if None.

    Raises:
        ValueError: there is no such model or version.
    """
    found = {int(item.version): item for item in _versions(tracker, name)}
    chosen = found.get(newest(tracker, name) if version is None else version)
    if chosen is None:
        raise ValueError(f"version: got {version} of model {name!r}, allowed: {', '.join(map(str, found))}")
    return f"version {chosen.version}, aliases: {', '.join(chosen.aliases) or 'none'}\n\n{chosen.description}"


def newest(tracker: Tracker, name: str) -> int:
    """Number of the newest version.

    Raises:
        ValueError: there is no such model.
    """
    versions = [int(version.version) for version in _versions(tracker, name)]
    if not versions:
        raise ValueError(f"name: got {name!r}, allowed: a registered model, see `evlab registry list`")
    return max(versions)


def _versions(tracker: Tracker, name: str) -> list[Any]:
    found = tracker.client.search_model_versions(f"name = '{name}'")
    # The search leaves aliases out.
    versions = [tracker.client.get_model_version(item.name, item.version) for item in found]
    return sorted(versions, key=lambda version: int(version.version))


def _figure(version: Any, key: str) -> str:
    return f"{float(version.tags[key]):.3f}" if key in version.tags else "-"
