"""Runs in MLflow with their parameters, metrics and files.

MLflow is imported when a tracker is created, because the import takes seconds. All calls use `MlflowClient` with an
explicit run id. MLflow's own `start_run` is not used, because it stores the active run in the process. If a scheduler
then stopped a trial, the status of the trial's run would remain RUNNING forever.
"""

import getpass
import json
import logging
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from detector.config.class_names import metric_key
from detector.config.credentials import with_password
from evforge.tracking.outbox import OUTBOX, Write
from evforge.tracking.retry_queue import RetryQueue
from evforge.tracking.store import checked_uri, find_experiment, require_store
from evforge.tracking.writes import END_STATES, PARENT, WRITES

__all__ = ["RunInfo", "Tracker", "source_tags"]

NEW_TRIAL_PATIENCE_S = 3600.0
"""Longest time in seconds for which a search waits for the server before it starts a trial."""

_MAX_PARAMS, _MAX_METRICS = 100, 1000  # per request
_MAX_PARAM_CHARS, _MAX_TAG_CHARS = 6000, 5000
_LOG_LEVELS = {
    "urllib3.connectionpool": logging.ERROR,  # hides a message per attempt, as `RetryQueue` reports outages
    "mlflow.utils.environment": logging.ERROR,  # hides the message that an environment of uv has no pip
}


@dataclass(frozen=True)
class RunInfo:
    """An MLflow run as plain values.

    Args:
        run_id: id in MLflow
        name: name of the run
        status: RUNNING or one of `END_STATES`
        params: values of the parameters as text
        metrics: last value of every metric
        tags: tags, including the tags that MLflow sets
    """

    run_id: str
    name: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


@cache
def source_tags() -> dict[str, str]:
    """Return the tags that MLflow shows as source and user of a run: command, user, and Git commit if there is one.

    The commit is that of the repository that contains the package, or of the working folder.
    """
    program, *words = [Path(sys.argv[0]).name or "python", *sys.argv[1:2]]
    if program in ("evforge", "__main__.py"):
        program = " ".join(["evforge", *(word for word in words if word.isalpha())])
    tags = {"mlflow.source.name": program, "mlflow.source.type": "LOCAL"}
    with suppress(OSError, KeyError, ImportError):  # a container may have no name for its user
        tags["mlflow.user"] = getpass.getuser()
    for folder in (Path(__file__).parent, Path.cwd()):
        with suppress(OSError, subprocess.SubprocessError):
            command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
            commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            return {**tags, "mlflow.source.git.commit": commit}
    return tags


class Tracker:
    """Writes the runs of one experiment.

    A tracker can be pickled and used in any process. Each process opens its own connection. During an outage of the
    server, writes to a run are queued with one warning, and sent later in the same order. `flush` waits until all
    writes are sent. Writes that could not be sent are stored in `storage`, and the next tracker with this folder sends
    them.

    Args:
        uri: address of a database (`sqlite:///...`) or server (`http://...`); `default_uri()` if None.
        experiment: name of the experiment. With SQLite, the files of the experiment are in the folder `mlartifacts`
            next to the database.
        storage: folder of all runs (`train.storage`); None to store no writes.
        create: create the SQLite database and the experiment if they do not exist. Commands that only read must not
            create a store, for example at the old path of a project that was moved.

    Attributes:
        uri: the address, with an absolute path because workers run in other folders.
        experiment_id: id of the experiment in MLflow.

    Raises:
        ValueError: the address is invalid, no database or server can be used there, or the experiment was deleted.
    """

    def __init__(
        self, uri: str | None, experiment: str, storage: str | Path | None = None, *, create: bool = True
    ) -> None:
        self.uri = checked_uri(uri)
        self.experiment = experiment
        self.outbox = None if storage is None else Path(storage).absolute() / OUTBOX
        require_store(self.uri, create)
        self.experiment_id = find_experiment(self.client, self.uri, experiment, create)
        self._retries = self._new_queue()
        self._retries.deliver_stored()

    def _new_queue(self) -> RetryQueue:
        return RetryQueue(self.uri, self._probe, self._make, self.outbox)

    def _make(self, write: Write) -> None:
        WRITES[write.method](self.client, **write.arguments)

    def _send(self, what: str, method: str, **arguments: Any) -> None:
        self.send(Write(what, method, arguments))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("client", "_retries")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({"outbox": None, **state})  # studies of older versions have no outbox
        self._retries = self._new_queue()

    @cached_property
    def client(self) -> Any:
        """The `MlflowClient` of this process."""
        from mlflow.tracking import MlflowClient

        for name, level in _LOG_LEVELS.items():
            logging.getLogger(name).setLevel(level)
        uri = with_password(self.uri)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)

    def start_run(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, Any] | None = None, parent: str | None = None
    ) -> str:
        """Create a run with the status RUNNING. During an outage of the server, wait for the server.

        Args:
            name: name of the run.
            params: parameters. Values other than text are written as JSON.
            tags: tags, besides `source_tags()`. Values other than text are written as JSON.
            parent: id of the parent run.

        Returns:
            Id of the run.
        """
        all_tags = {**source_tags(), **(tags or {}), **({PARENT: parent} if parent else {})}
        texts = {key: _shorten(_text(value), _MAX_TAG_CHARS) for key, value in all_tags.items()}
        make = partial(self.client.create_run, self.experiment_id, run_name=name, tags=texts)
        patience = {"patience_s": NEW_TRIAL_PATIENCE_S} if parent else {}
        run_id = self._retries.ask(make, **patience).info.run_id
        pairs = [(_name(key), _shorten(_text(value), _MAX_PARAM_CHARS)) for key, value in params.items()]
        try:
            for first in range(0, len(pairs), _MAX_PARAMS):
                self._send("params", "params", run_id=run_id, params=dict(pairs[first : first + _MAX_PARAMS]))
        except BaseException:
            self.end_run(run_id, "FAILED")
            raise
        return run_id

    @contextmanager
    def run(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, Any] | None = None, parent: str | None = None
    ) -> Iterator[str]:
        """Context manager that starts a run, yields its id, and ends the run like `ending`.

        The arguments are the same as for `start_run`.
        """
        with self.ending(self.start_run(name, params, tags, parent)) as run_id:
            yield run_id

    @contextmanager
    def resumed(self, run_id: str) -> Iterator[str]:
        """Context manager that resumes a run, yields its id, and ends the run like `ending`.

        The run may have ended, or its process may have died.
        """
        self.resume_run(run_id)
        with self.ending(run_id):
            yield run_id

    @contextmanager
    def ending(self, run_id: str) -> Iterator[str]:
        """Context manager that yields the id of a run, and ends the run at the end of the block.

        A KeyboardInterrupt or SystemExit in the block sets the status KILLED. Any other error sets the status FAILED
        and the tag `failure`. Without an error, the status is FINISHED. In all cases, `flush` is called at the end.
        Errors are raised again.
        """
        try:
            yield run_id
        except (KeyboardInterrupt, SystemExit):
            self.end_run(run_id, "KILLED")
            raise
        except BaseException as error:
            try:
                self.set_tag(run_id, "failure", f"{type(error).__name__}: {error}")
            finally:
                self.end_run(run_id, "FAILED")
            raise
        else:
            self.end_run(run_id, "FINISHED")
        finally:
            self.flush()

    def flush(self) -> None:
        """Wait at most a few minutes until the server has received all queued writes.

        Call this at the end of a process.
        """
        self._retries.flush()

    def resume_run(self, run_id: str) -> None:
        """Set the status of an ended run to RUNNING, so that values can be written to the run again."""
        self._send(f"the restart of run {run_id}", "restart", run_id=run_id)

    def send(self, write: Write) -> None:
        """Send a write, or queue it during an outage of the server."""
        self._retries.send(write)

    def end_run(self, run_id: str, status: str) -> None:
        """End a run. A run that has already ended keeps its status.

        Raises:
            ValueError: `status` is not one of `END_STATES`.
        """
        if status not in END_STATES:
            raise ValueError(f"status: got {status!r}, allowed: {', '.join(END_STATES)}")
        self._send(f"the end of run {run_id}", "end", run_id=run_id, status=status)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to the curve of each metric.

        A value that is not finite adds no point. The tag `not_finite.<metric>` contains the last such value.

        Args:
            run_id: id of the run.
            metrics: dict from names to values.
            step: position on the curve, usually the epoch.
        """
        now = int(time.time() * 1000)
        values = {metric_key(key): float(value) for key, value in metrics.items()}
        points = [(key, value, now, int(step)) for key, value in values.items() if math.isfinite(value)]
        for first in range(0, len(points), _MAX_METRICS):
            self._send("metrics", "metrics", run_id=run_id, points=points[first : first + _MAX_METRICS])
        for key, value in values.items():
            if not math.isfinite(value):
                self.set_tag(run_id, f"not_finite.{key}", f"{value} at step {step}")

    def log_text(self, run_id: str, text: str, artifact_path: str) -> None:
        """Store `text` as the file `artifact_path` of the run."""
        self._send(artifact_path, "text", run_id=run_id, text=text, artifact_path=artifact_path)

    def log_file(self, run_id: str, path: str | Path, artifact_dir: str = "") -> None:
        """Store a copy of the file `path` in the folder `artifact_dir` of the run.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file to store with run {run_id}")
        absolute = str(Path(path).absolute())
        self._send(str(path), "file", run_id=run_id, path=absolute, artifact_dir=artifact_dir)

    def log_inputs(self, run_id: str, datasets: Sequence[Mapping[str, str]]) -> None:
        """Add splits of a dataset to the inputs of a run, as `dataset_inputs` returns them."""
        if datasets:
            self._send("datasets", "inputs", run_id=run_id, datasets=[dict(one) for one in datasets])

    def set_tag(self, run_id: str, key: str, value: Any) -> None:
        """Set a tag of a run. Long text is shortened."""
        text = _shorten(_text(value), _MAX_TAG_CHARS)
        self._send(f"tag {key}", "tag", run_id=run_id, key=_name(key), value=text)

    def note_result(self, run_id: str, text: str) -> None:
        """Put one paragraph with the result before the description of a run. It replaces an earlier result."""
        self._send("the result", "result", run_id=run_id, text=text)

    def run_info(self, run_id: str) -> RunInfo:
        """Read the name, status, parameters, last metrics and tags of a run."""
        return _run_info(self.client.get_run(run_id))

    def runs(self, parent: str) -> list[RunInfo]:
        """Read all child runs of the run `parent`, in the order in which they were started."""
        found: list[Any] = []
        token: str | None = ""
        while token is not None:
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`{PARENT}` = '{parent}'",
                order_by=["attributes.start_time ASC"],
                page_token=token or None,
            )
            found += page
            token = page.token or None
        return [_run_info(run) for run in found]

    def metric_history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """Return the curve of a metric as pairs (step, value), sorted by step.

        If a step was logged several times, the value that was logged last is used.
        """
        points = sorted(self.client.get_metric_history(run_id, metric_key(key)), key=lambda point: point.timestamp)
        return sorted({point.step: point.value for point in points}.items())

    def _probe(self) -> None:
        self.client.get_experiment(self.experiment_id)


def _run_info(run: Any) -> RunInfo:
    info, data = run.info, run.data
    return RunInfo(info.run_id, info.run_name, info.status, dict(data.params), dict(data.metrics), dict(data.tags))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def _name(key: str) -> str:
    # MLflow rejects brackets, which the name of a tag may contain, for example in the name of a space file.
    return re.sub(r"[^\w\-. /:]", "_", key)[:250]
