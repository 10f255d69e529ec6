"""Guard: a small process that ends the MLflow runs of a driver if the driver dies without ending them.

A driver that is killed, or that Ray aborts because the head of the cluster died, cannot run any Python code. Without
the guard, its runs would keep the status RUNNING forever. The driver and the guard are connected by a pipe, which the
operating system closes when the driver dies. The guard imports large libraries only after this.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evforge import one_line
from evforge.tracking.outbox import OUTBOX, Outbox, Write
from evforge.tracking.tracker import Tracker

__all__ = ["guarded"]

DONE = b"done"


@contextmanager
def guarded(tracker: Tracker, run_id: str, message: str) -> Iterator[None]:
    """Context manager that starts a guard: if this process dies in the block, the run and its child runs are ended.

    Their status is then KILLED.

    Args:
        tracker: tracker of the MLflow store.
        run_id: id of the run.
        message: line that the guard prints if this process dies.
    """
    storage = str(tracker.outbox.parent) if tracker.outbox else None
    task = {"uri": tracker.uri, "experiment": tracker.experiment, "storage": storage, "run_id": run_id}
    guard = subprocess.Popen(
        [sys.executable, "-c", _GUARD, json.dumps({**task, "message": message})],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C and the end of a job must not end the guard
    )
    try:
        yield
    finally:
        with suppress(OSError):
            guard.communicate(DONE)


_GUARD = f"""
import json, sys
if sys.stdin.buffer.read() != {DONE!r}:
    from evforge.tracking.guard import end_runs
    end_runs(**json.loads(sys.argv[1]))
"""


def end_runs(uri: str, experiment: str, storage: str | None, run_id: str, message: str) -> None:
    """End a run and its child runs with the status KILLED, except those that have already ended, and print a line.

    Args:
        uri: address of the MLflow store.
        experiment: name of the experiment.
        storage: folder of all runs; None if undelivered writes are not stored.
        run_id: id of the run.
        message: the line to print.
    """
    print(f"evforge: {message}", file=sys.stderr, flush=True)
    died_ms = int(time.time() * 1000)  # now: a tracker takes seconds, in which the run may already be resumed
    write = Write(f"the end of run {run_id}", "end_dead", {"run_id": run_id, "died_ms": died_ms})
    try:
        tracker = Tracker(uri, experiment, storage, create=False)
    except ValueError as error:
        outbox = Outbox(Path(storage) / OUTBOX if storage else None, uri)
        outbox.store([write])
        print(f"evforge: {one_line(error)}: the writes {outbox.fate()}", file=sys.stderr, flush=True)
        return
    tracker.send(write)
    tracker.flush()
