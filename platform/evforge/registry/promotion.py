"""Promotion of a registered version to champion, and rollback to the previous champion.

Tags of the registered model store the history of the champion, one tag per change: `champion_0001`, `champion_0002`,
...
"""

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mlflow.exceptions import MlflowException

from evforge import one_line
from evforge.evaluation.compare import different_rules
from evforge.registry.champion_lock import Refusal, hold_lock, next_lock
from evforge.registry.register import check_registered
from evforge.tracking.models import find_version
from evforge.tracking.tracker import Tracker

__all__ = ["Move", "PromotionResult", "history", "promote", "rollback"]

_MOVE_TAG = re.compile(r"champion_(\d+)")


@dataclass(frozen=True)
class PromotionResult:
    """Result of a promotion or rollback.

    Args:
        moved: whether the champion was changed
        reason: why the champion was or was not changed, in one line
        champion: version number of the champion after the promotion or rollback; None if there is no champion
    """

    moved: bool
    reason: str
    champion: int | None


@dataclass(frozen=True)
class Move:
    """A change of the champion from one version to another.

    Args:
        how: "promoted" or "rolled back"
        version: number of the new champion
        before: number of the previous champion; None if there was no champion
        at: time of the change in UTC, as ISO 8601 text
        reason: why the champion was changed
    """

    how: Literal["promoted", "rolled back"]
    version: int
    before: int | None
    at: str
    reason: str


def promote(tracker: Tracker, name: str, version: int | str) -> PromotionResult:
    """Make a version the `champion` if its mAP is higher than that of the present champion.

    Both must be measured on the same test set with the same protocol. Before the change, the hashes of the registered
    files are checked, and the TorchScript file must pass the tests of `detector.jitting_test`. If there is no champion
    yet, these checks alone decide. Of several simultaneous promotions only one succeeds.

    Args:
        tracker: the store.
        name: name of the model in the registry.
        version: number of the version to promote.

    Returns:
        Whether the champion was changed, and why.

    Raises:
        ValueError: there is no such model or version.
    """
    return _move(tracker, name, partial(_promotion, int(version)))


def rollback(tracker: Tracker, name: str) -> PromotionResult:
    """Make the previous champion the `champion` again.

    The registered files of the previous champion are checked first. The replaced version cannot be promoted again.

    Args:
        tracker: the store.
        name: name of the model in the registry.

    Returns:
        Whether the champion was changed, and why. A rollback without a previous champion changes nothing.

    Raises:
        ValueError: there is no such model.
    """
    return _move(tracker, name, _rollback)


def history(tracker: Tracker, name: str) -> list[Move]:
    """Return all changes of the champion of a model, the oldest first.

    Raises:
        ValueError: there is no such model.
    """
    return list(_moves(_model(tracker.client, name)).values())


def _move(tracker: Tracker, name: str, choose: Callable[[Tracker, Any], Move]) -> PromotionResult:
    """Set the alias `champion` to the version that `choose` selects, and record the change.

    Nothing is changed if `choose` raises `Refusal`, or if another process changes the champion at the same time.

    Args:
        tracker: the store.
        name: name of the model in the registry.
        choose: function that gets the tracker and the registered model, and returns the change to make.

    Returns:
        Whether the champion was changed, and why.
    """
    client = tracker.client
    last = max(_moves(_model(client, name)), default=0)
    champion = None
    try:
        number = next_lock(client, name, last)
        model = _model(client, name)  # read after `next_lock`, otherwise a move between the calls would be missed
        champion = _champion(model)
        move = choose(tracker, model)
        with hold_lock(client, name, number) as check:
            check()
            client.set_registered_model_tag(name, f"champion_{number:04}", json.dumps(asdict(move)))
            client.set_registered_model_alias(name, "champion", str(move.version))
    except Refusal as refusal:
        return PromotionResult(False, str(refusal), champion)
    return PromotionResult(True, move.reason, move.version)


def _promotion(version: int, tracker: Tracker, model: Any) -> Move:
    new = find_version(tracker, model.name, version)
    if new.tags.get("export_checks") != "passed":
        raise Refusal(f"version {version} was registered without the export checks")
    champion = _champion(model)
    if champion == version:
        raise Refusal(f"version {version} is the champion already")
    for move in _moves(model).values():
        if move.how == "rolled back" and move.before == version:
            raise Refusal(
                f"version {version} was champion and was rolled back at {move.at}; register it again to try again"
            )
    old = None if champion is None else find_version(tracker, model.name, champion)
    reason = "it is the first champion" if old is None else _compare(new, old)
    _check_files(tracker, new)
    return Move("promoted", version, champion, _now(), reason)


def _rollback(tracker: Tracker, model: Any) -> Move:
    champion = _champion(model)
    if champion is None:
        raise Refusal(f"{model.name} has no champion")
    promotions = {move.version: move for move in _moves(model).values() if move.how == "promoted"}
    if champion not in promotions:
        raise Refusal(f"version {champion} did not become champion by a promotion, so the one before is not known")
    before = promotions[champion].before
    if before is None:
        raise Refusal(f"version {champion} was the first champion, there is no previous one")
    try:
        old = find_version(tracker, model.name, before)
    except ValueError:
        raise Refusal(f"version {before}, champion before version {champion}, no longer exists") from None
    _check_files(tracker, old)
    return Move("rolled back", before, champion, _now(), f"version {before} was champion before version {champion}")


def _compare(new: Any, old: Any) -> str:
    """Check that a version may replace the champion, and return the reason in words.

    Args:
        new: the version as an entity of MLflow.
        old: the champion as an entity of MLflow.

    Raises:
        Refusal: the two were not measured in the same way, or the mAP of the new version is not higher.
    """
    required = ("protocol", "classes", "data_fingerprint", "mean_ap")
    missing = [key for key in required if key not in new.tags or key not in old.tags]
    if missing:
        raise Refusal(f"it cannot be compared with champion {old.version}: a tag is missing: {', '.join(missing)}")
    rules = ({**version.tags, "protocol": json.loads(version.tags["protocol"])} for version in (new, old))
    different = different_rules(*rules)
    if different:
        raise Refusal(f"it cannot be compared with champion {old.version}: {different}")
    ours, theirs = float(new.tags["mean_ap"]), float(old.tags["mean_ap"])
    if not ours > theirs:
        raise Refusal(f"mAP {ours:.4f} is not above the {theirs:.4f} of champion {old.version}")
    return f"mAP {ours:.4f} is above the {theirs:.4f} of version {old.version}"


def _check_files(tracker: Tracker, version: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            check_registered(tracker, version, Path(folder))
        except (ValueError, OSError) as error:
            reason = one_line(error).replace(folder, version.source)
            raise Refusal(f"the registered files of version {version.version} fail their checks: {reason}") from None


def _model(client: Any, name: str) -> Any:
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        raise ValueError(f"name: got {name!r}: {one_line(error)}") from None


def _champion(model: Any) -> int | None:
    version = model.aliases.get("champion")
    return None if version is None else int(version)


def _moves(model: Any) -> dict[int, Move]:
    """Return the recorded changes of the champion by lock number, the oldest first."""
    found = {int(match[1]): key for key in model.tags if (match := _MOVE_TAG.fullmatch(key))}
    return {number: Move(**json.loads(model.tags[key])) for number, key in sorted(found.items())}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
