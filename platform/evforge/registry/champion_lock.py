"""Lock that lets one process at a time set the alias `champion` of a registered model.

MLflow has no transactions. It sets aliases and tags without checking their previous values, so the last writer wins.
But MLflow refuses to create a second experiment with the same name. The name is unique in the database (SQLite,
PostgreSQL, MySQL, SQL Server), with or without an HTTP server in between. So the lock works between threads, processes
and machines that use the same store. (`evforge.tracking.tracker` does not support the store of plain files.)

Lock number n of a model is the experiment `<model>: champion turn n`. The lock has one of three states:

- free: the experiment does not exist.
- held: the experiment is active. If it is older than `LEASE_S`, its process is considered dead, and the next process
  releases the lock.
- released: the experiment is deleted. MLflow's pages hide a deleted experiment, but its name remains in use.

Each change of the champion uses a new lock with the next number. A process first finds this number, then reads the
champion and decides, and then acquires the lock. Of two processes that read the same champion, only one can acquire the
lock. So the process with the lock knows that the champion has not changed since it was read.

The lock does not cover two cases: a user sets the alias on MLflow's pages, or a process pauses for longer than
`LEASE_S` between its last check of the lock and setting the alias.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.exceptions import MlflowException

__all__ = ["Refusal", "hold_lock", "next_lock"]

LEASE_S = 600.0
_HOLDER = "holder"


class Refusal(Exception):
    """Raised if the champion may not or cannot be changed. The message states the reason."""


def next_lock(client: Any, name: str, last: int) -> int:
    """Find the number of the next free lock. Locks that are held for longer than `LEASE_S` seconds are released.

    Args:
        client: `MlflowClient` of the store.
        name: name of the model in the registry.
        last: number of the lock of the last recorded change; 0 if there is none. This lock may still be held.

    Raises:
        Refusal: another process currently holds a lock, so it is changing the champion.
    """
    number = last
    while (experiment := client.get_experiment_by_name(_experiment_name(name, number))) is not None or number <= last:
        if experiment is not None and experiment.lifecycle_stage == "active":
            age = time.time() - experiment.creation_time / 1000
            if age < LEASE_S:
                raise Refusal(f"another process has been moving the champion of {name} for {age:.0f} s; try again")
            _release(client, experiment.experiment_id)
        number += 1
    return number


@contextmanager
def hold_lock(client: Any, name: str, number: int) -> Iterator[Callable[[], None]]:
    """Context manager that acquires a lock at the start of the block and releases it at the end.

    Args:
        client: `MlflowClient` of the store.
        name: name of the model in the registry.
        number: number of the lock.

    Yields:
        A function without arguments, which must be called immediately before the alias `champion` is set. It raises
        `Refusal` if another process has released the lock because it was held for longer than `LEASE_S` seconds.

    Raises:
        Refusal: another process has already acquired the lock with this number.
    """
    experiment_id = _acquire(client, _experiment_name(name, number))

    def check() -> None:
        if client.get_experiment(experiment_id).lifecycle_stage != "active":
            raise Refusal(f"it took longer than {LEASE_S:g} s, and another process ended the lock; try again")

    try:
        yield check
    finally:
        _release(client, experiment_id)


def _experiment_name(name: str, number: int) -> str:
    return f"{name}: champion turn {number}"  # existing stores contain these names


def _acquire(client: Any, experiment_name: str) -> str:
    holder = uuid.uuid4().hex
    try:
        return client.create_experiment(experiment_name, tags={_HOLDER: holder})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.get_experiment_by_name(experiment_name)
    if found is not None and found.tags.get(_HOLDER) == holder:  # the first call worked, but its answer was lost
        return found.experiment_id
    raise Refusal("another process moved the champion in the meantime; try again to be compared with the new one")


def _release(client: Any, experiment_id: str) -> None:
    try:
        client.delete_experiment(experiment_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "INVALID_PARAMETER_VALUE"):
            raise  # these codes mean: the experiment is deleted already
