"""Guard: a small process that ends the MLflow runs of a driver if the driver dies without ending them.

If the driver dies before its run is complete, the guard removes the run and its folder.

A driver that is killed, or that Ray aborts because the head of the cluster died, cannot run any Python code. Without
the guard, its runs would keep the status RUNNING forever. The driver and the guard are connected by a pipe, which the
operating system closes when the driver dies. The guard imports large libraries only after this.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evforge import one_line
from evforge.tracking.outbox import OUTBOX, Outbox, Write
from evforge.tracking.tracker import Tracker

__all__ = ["guarded"]

DONE = b"done"


@contextmanager
def guarded(
    tracker: Tracker, folder: Path, command: str, *, run_id: str = "", start: str = ""
) -> Iterator[Callable[[str], None]]:
    """Context manager that starts a guard, which acts if this process dies in the block.

    The guard then sets the status KILLED for the run and its child runs, and prints the command that resumes the run.
    If this process dies before it has called the yielded function, the guard removes a new run and its folder.

    Args:
        tracker: tracker of the MLflow store.
        folder: folder of the run.
        command: command that resumes the run.
        run_id: id of a run that is resumed; empty for a new run.
        start: value of the tag `START` of a new run, by which the guard finds the run if its start is not complete.

    Yields:
        Function to be called with the id of a new run as soon as the run can be resumed.
    """
    storage = str(tracker.outbox.parent) if tracker.outbox else None
    store = {"uri": tracker.uri, "experiment": tracker.experiment, "storage": storage}
    task = {**store, "folder": str(folder), "command": command, "run_id": run_id, "start": start}
    guard = subprocess.Popen(
        [sys.executable, "-c", _GUARD, json.dumps(task)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C and the end of a job must not end the guard
    )

    def started(run_id: str) -> None:
        with suppress(OSError):
            pipe.write(f"{run_id}\n".encode())
            pipe.flush()

    pipe: Any = guard.stdin
    try:
        yield started
    finally:
        with suppress(OSError):
            guard.communicate(DONE)


_GUARD = f"""
import json, sys, time
said = sys.stdin.buffer.read()
died_ms = int(time.time() * 1000)  # before the imports, which take seconds in which the run may be resumed
if not said.endswith({DONE!r}):
    from evforge.tracking.guard import end_runs
    task = json.loads(sys.argv[1])
    end_runs(died_ms, **{{**task, "run_id": said.decode().strip() or task["run_id"]}})
"""


def end_runs(
    died_ms: int, run_id: str, start: str, uri: str, experiment: str, storage: str | None, folder: str, command: str
) -> None:
    """End or remove the runs of a driver that has just died, and print a line.

    Args:
        died_ms: time of its death in milliseconds since 1970. A run that was resumed later is not ended.
        run_id: id of the run; empty if the driver died before a new run was complete.
        start: value of the tag `START` of a new run.
        uri: address of the MLflow store.
        experiment: name of the experiment.
        storage: folder of all runs; None if undelivered writes are not stored.
        folder: folder of the run.
        command: command that resumes the run.
    """
    if run_id:
        text = f"the process of {folder} died; resume with: {command}"
        write = Write(f"the end of run {run_id}", "end_dead", {"run_id": run_id, "died_ms": died_ms})
    else:
        text = f"the process of {folder} died during its start, and the folder is removed"
        write = Write(f"the removal of {folder}", "remove", {"experiment": experiment, "start": start})
    print(f"evforge: {text}", file=sys.stderr, flush=True)
    try:
        tracker = Tracker(uri, experiment, storage, create=False)
    except ValueError as error:
        outbox = Outbox(Path(storage) / OUTBOX if storage else None, uri)
        outbox.store([write])
        print(f"evforge: {one_line(error)}: the writes {outbox.fate()}", file=sys.stderr, flush=True)
    else:
        try:
            tracker.send(write)
            tracker.flush()
        except Exception as error:  # for example because the user has deleted the run
            print(f"evforge: not recorded: {write.what} ({one_line(error)})", file=sys.stderr, flush=True)
    if not run_id and not any(path.is_dir() for path in Path(folder).glob("*")):  # a start makes only files
        shutil.rmtree(folder, ignore_errors=True)
