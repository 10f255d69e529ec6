"""Turns at a registered model: of several who want to move its `champion` at once, one does.

MLflow offers no transactions, and sets aliases and tags without comparing: whoever writes last wins. What each of its
stores does refuse is a second experiment of the same name. The name is unique in the database, be it SQLite,
PostgreSQL, MySQL or SQL Server, whether it is used directly or by an HTTP server; so this holds between threads,
processes and machines that see the same store. (MLflow's store of plain files is not supported by
`evforge.tracking.tracker`.)
Therefore turn n of a model is the experiment `<model>: champion turn n`:

- it does not exist: nobody has taken the turn;
- it is active: the turn is being used. One that stays so for `LEASE_S` belonged to a process that died and is ended;
- it is deleted: the turn is over. MLflow's pages hide deleted experiments, but their names stay taken.

Who first looks which turn is next, then reads the champion and judges, and then takes this very turn, knows that the
champion is still the one that was judged by: every move of it uses a turn. Two who judge by the same champion want the
same turn, and one of them gets it.

Not covered: somebody who sets the alias on MLflow's pages; a process that stands still for longer than `LEASE_S` just
between its last look at its turn and setting the alias.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Refusal", "next_turn", "take_turn"]

LEASE_S = 600.0
_HOLDER = "holder"


class Refusal(Exception):
    """The champion stays where it is; the text says why."""


def next_turn(client: Any, name: str, last: int) -> int:
    """Number of the first turn that nobody has taken.

    Args:
        client: `MlflowClient` of the store.
        name: name in the registry.
        last: the last turn known to have been taken, which may still be used; 0 if none is known.

    Raises:
        Refusal: the turn before is being used.
    """
    number = last
    while (experiment := client.get_experiment_by_name(_slot(name, number))) is not None or number <= last:
        if experiment is not None and experiment.lifecycle_stage == "active":
            age = time.time() - experiment.creation_time / 1000
            if age < LEASE_S:
                raise Refusal(f"the champion of {name} is being moved by another process, since {age:.0f} s; try again")
            _end(client, experiment.experiment_id)
        number += 1
    return number


@contextmanager
def take_turn(client: Any, name: str, number: int) -> Iterator[Callable[[], None]]:
    """Have a turn for the block.

    Yields:
        what raises `Refusal` if the turn was ended in the meantime; to be called just before the move.

    Raises:
        Refusal: another process was faster.
    """
    experiment_id = _create(client, _slot(name, number))

    def check() -> None:
        if client.get_experiment(experiment_id).lifecycle_stage != "active":
            raise Refusal(f"it took longer than the {LEASE_S:g} s of a turn, and another process went on; try again")

    try:
        yield check
    finally:
        _end(client, experiment_id)


def _slot(name: str, number: int) -> str:
    return f"{name}: champion turn {number}"


def _create(client: Any, slot: str) -> str:
    from mlflow.exceptions import MlflowException

    holder = uuid.uuid4().hex
    try:
        return client.create_experiment(slot, tags={_HOLDER: holder})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.get_experiment_by_name(slot)
    if found is not None and found.tags.get(_HOLDER) == holder:  # the answer was lost, and the call repeated
        return found.experiment_id
    raise Refusal("another process moved the champion in the meantime; try again to be compared with the new one")


def _end(client: Any, experiment_id: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.delete_experiment(experiment_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "INVALID_PARAMETER_VALUE"):
            raise  # those three: it has been ended already
