"""The gate between `candidate` and `champion`: who comes through, in which order, and the way back.

The history of the champion is kept in tags of the registered model, one a move: `champion_0001`, `champion_0002`, ...
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

from evforge import one_line
from evforge.registry.champion_lock import Refusal, next_turn, take_turn
from evforge.registry.register import check_registered
from evforge.tracking.tracker import Tracker

__all__ = ["GateResult", "Move", "history", "promote", "rollback"]

_MOVE_TAG = re.compile(r"champion_(\d+)")


@dataclass(frozen=True)
class GateResult:
    """What the gate decided.

    Args:
        moved: whether `champion` is another version now
        reason: one line that says why
        version: the champion now, None if there is none
    """

    moved: bool
    reason: str
    version: int | None


@dataclass(frozen=True)
class Move:
    """One move of the champion.

    Args:
        how: promoted, or rolled back
        version: the champion since then
        before: the champion until then, None if there was none
        at: when, in UTC
        reason: why
    """

    how: Literal["promoted", "rolled back"]
    version: int
    before: int | None
    at: str
    reason: str


def promote(tracker: Tracker, name: str, version: int | str) -> GateResult:
    """Make a version the `champion` if it beats the present one on the same test set by the same protocol.

    The first version passes when its checks pass. Checked anew are the registered files: their hashes, and the cases
    of `detector.jitting_test`. Of several promotions at once one wins, see `evforge.registry.champion_lock`.

    Args:
        tracker: the store.
        name: name in the registry.
        version: the version to promote.

    Raises:
        ValueError: there is no such model or version.
    """
    return _move(tracker, name, partial(_promotion, int(version)))


def rollback(tracker: Tracker, name: str) -> GateResult:
    """Make the version the `champion` that was it before the present one was promoted.

    Its registered files are checked anew. The version that is left is not promoted again.

    Args:
        tracker: the store.
        name: name in the registry.

    Raises:
        ValueError: there is no such model.
    """
    return _move(tracker, name, _way_back)


def history(tracker: Tracker, name: str) -> list[Move]:
    """The moves of a model's champion, the oldest first.

    Raises:
        ValueError: there is no such model.
    """
    return _moves(_model(tracker.client, name))


def _move(tracker: Tracker, name: str, choose: Callable[[Tracker, Any], Move]) -> GateResult:
    """Let `choose` judge by the champion as it is, and do what it says if the champion still is."""
    client = tracker.client
    last = _last_turn(_model(client, name))
    champion = None
    try:
        number = next_turn(client, name, last)
        model = _model(client, name)  # read after the turn was looked up, or a move between the two would be missed
        champion = _champion(model)
        move = choose(tracker, model)
        with take_turn(client, name, number) as check:
            check()
            client.set_registered_model_tag(name, f"champion_{number:04}", json.dumps(asdict(move)))
            client.set_registered_model_alias(name, "champion", str(move.version))
    except Refusal as refusal:
        return GateResult(False, str(refusal), champion)
    return GateResult(True, move.reason, move.version)


def _promotion(version: int, tracker: Tracker, model: Any) -> Move:
    new = _version(tracker.client, model.name, version)
    if new.tags.get("export_checks") != "passed":
        raise Refusal(f"version {version} was registered without the export checks")
    champion, moves = _champion(model), _moves(model)
    if champion == version:
        raise Refusal(f"version {version} is the champion already")
    left = next((move for move in moves if move.how == "rolled back" and move.before == version), None)
    if left is not None:
        raise Refusal(f"version {version} was champion and was rolled back at {left.at}; register it anew to try again")
    reason = "it is the first champion"
    if champion is not None:
        reason = _compare(new, _version(tracker.client, model.name, champion), champion)
    _check_files(tracker, new)
    return Move("promoted", version, champion, _now(), reason)


def _way_back(tracker: Tracker, model: Any) -> Move:
    champion = _champion(model)
    if champion is None:
        raise Refusal(f"{model.name} has no champion")
    came = [move for move in _moves(model) if move.how == "promoted" and move.version == champion]
    if not came:
        raise Refusal(f"version {champion} did not become champion by a promotion, so the one before is not known")
    before = came[-1].before
    if before is None:
        raise Refusal(f"version {champion} was the first champion, there is none to go back to")
    try:
        old = _version(tracker.client, model.name, before)
    except ValueError:
        raise Refusal(f"version {before}, champion before version {champion}, is no longer there") from None
    _check_files(tracker, old)
    return Move("rolled back", before, champion, _now(), f"version {before} was champion before version {champion}")


def _compare(new: Any, old: Any, champion: int) -> str:
    """Why the new version may replace the champion.

    Raises:
        Refusal: it may not.
    """
    _check_comparable(new.tags, old.tags, champion)
    ours, theirs = float(new.tags["mean_ap"]), float(old.tags["mean_ap"])
    if not ours > theirs:
        raise Refusal(f"mAP {ours:.4f} is not above the {theirs:.4f} of champion {champion}")
    return f"mAP {ours:.4f} is above the {theirs:.4f} of version {champion}"


def _check_comparable(new: dict[str, str], old: dict[str, str], champion: int) -> None:
    lacking = [
        key for key in ("protocol", "classes", "data_fingerprint", "mean_ap") if key not in new or key not in old
    ]
    if lacking:
        raise Refusal(f"it cannot be compared with champion {champion}: a tag is missing: {', '.join(lacking)}")
    ours, theirs = json.loads(new["protocol"]), json.loads(old["protocol"])
    keys = [key for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]
    if keys:
        listed = ", ".join(f"{key} {ours.get(key)} against {theirs.get(key)}" for key in keys)
        raise Refusal(f"its protocol is not that of champion {champion}: {listed}")
    if new["classes"] != old["classes"]:
        raise Refusal(f"it detects {new['classes']}, champion {champion} {old['classes']}")
    if new["data_fingerprint"] != old["data_fingerprint"]:
        raise Refusal(f"it was tested on another test set than champion {champion}")


def _check_files(tracker: Tracker, version: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            check_registered(tracker, version, Path(folder))
        except (ValueError, OSError) as error:
            reason = one_line(error).replace(folder, version.source)
            raise Refusal(f"the registered files of version {version.version} do not pass: {reason}") from None


def _model(client: Any, name: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        raise ValueError(f"name: got {name!r}: {one_line(error)}") from None


def _version(client: Any, name: str, version: int) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        raise ValueError(f"version: got {version} of model {name!r}: {one_line(error)}") from None


def _champion(model: Any) -> int | None:
    version = model.aliases.get("champion")
    return None if version is None else int(version)


def _numbered(model: Any) -> list[tuple[int, str]]:
    found = ((_MOVE_TAG.fullmatch(key), value) for key, value in model.tags.items())
    return sorted((int(match[1]), value) for match, value in found if match)


def _moves(model: Any) -> list[Move]:
    return [Move(**json.loads(value)) for _, value in _numbered(model)]


def _last_turn(model: Any) -> int:
    return max((number for number, _ in _numbered(model)), default=0)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
