"""Runs, their parameters, metrics and files in MLflow.

Only this file, `registry` and `pyfunc_model` import mlflow, and only when they are used: the import takes seconds.
Everything goes through `MlflowClient` with an explicit run id. MLflow's fluent `start_run` keeps the run in the
process, and a trial that its scheduler stops would leave that run RUNNING for ever.
"""

import json
import logging
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from detector.config.class_names import metric_key
from evforge import one_line
from evforge.tracking.retry_queue import RetryQueue

__all__ = ["END_STATES", "RunInfo", "Tracker", "default_uri", "ui_command"]

END_STATES = ("FINISHED", "FAILED", "KILLED")

_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql")
_PARENT_TAG = "mlflow.parentRunId"
_MAX_PARAMS, _MAX_METRICS = 100, 1000  # in one request
_MAX_PARAM_CHARS, _MAX_TAG_CHARS = 6000, 5000

# Read by mlflow when it is imported or asked, so set before; what the user has set stays.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # its 7 keep a training waiting; `RetryQueue` retries too
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")  # or a working folder's uv.lock is copied into every model
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


@dataclass(frozen=True)
class RunInfo:
    """One run as plain values.

    Args:
        run_id: MLflow's id
        name: the run's name
        status: RUNNING or one of `END_STATES`
        params: parameters, as text
        metrics: last value of every metric
        tags: tags, MLflow's own among them
    """

    run_id: str
    name: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def default_uri() -> str:
    """Address of the SQLite database in the working folder."""
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def ui_command(uri: str | None = None, port: int = 5000) -> str:
    """One line for a shell that serves MLflow's pages at http://127.0.0.1:<port>, or opens a running server's pages."""
    uri = _checked_uri(uri)
    python = shlex.quote(sys.executable)
    if uri.startswith("http"):
        return f"{python} -m webbrowser -t {shlex.quote(uri)}"
    server = f"{python} -m mlflow server --workers 1 --host 127.0.0.1 --port {port}"
    # Without the first variable the server starts a second service for jobs, which nobody here uses.
    variables = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true"
    return f"{variables} {server} --backend-store-uri {shlex.quote(uri)}"


class Tracker:
    """Writes the runs of one experiment.

    Making one on the driver creates the database and the experiment, before trials start and would race for it. It
    can be pickled and used in any process: each opens its own connection. Writes to a run survive a server that is
    away for a while: they are kept, with one warning, and sent later, in their order; `flush` waits for that.

    Args:
        uri: database (`sqlite:///...`) or server (`http://...`); the one of `default_uri` if None.
        experiment: name of the experiment. On SQLite its files lie in `mlartifacts` beside the database.

    Attributes:
        uri: the address, made absolute, because workers run in other folders.
        experiment_id: MLflow's id of the experiment.

    Raises:
        ValueError: the address is that of no database or server, nothing answers there, or the experiment was deleted.
    """

    def __init__(self, uri: str | None, experiment: str) -> None:
        self.uri = _checked_uri(uri)
        self.experiment = experiment
        self._client: Any = None
        self._retries = RetryQueue(self.uri, self._probe)
        self.experiment_id = self._find_experiment()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None, "_retries": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._retries = RetryQueue(self.uri, self._probe)

    @property
    def client(self) -> Any:
        """The `MlflowClient` of this process."""
        if self._client is None:
            from mlflow.tracking import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.WARNING)  # news of tables and of finished uploads
            logging.getLogger("urllib3.connectionpool").setLevel(
                logging.ERROR
            )  # each try; `RetryQueue` tells of an outage
            logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # that uv's environments lack pip
            self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        return self._client

    def start_run(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, Any] | None = None, parent: str | None = None
    ) -> str:
        """Create a run that is RUNNING; a server that is away is waited for.

        Args:
            name: name of the run.
            params: parameters; whatever is not text is written as JSON.
            tags: tags.
            parent: id of the run that this one is shown under.

        Returns:
            The run's id.
        """
        from mlflow.entities import Param

        all_tags = {**(tags or {}), **({_PARENT_TAG: parent} if parent else {})}
        texts = {key: _shorten(_text(value), _MAX_TAG_CHARS) for key, value in all_tags.items()}
        make = partial(self.client.create_run, self.experiment_id, run_name=name, tags=texts)
        run_id = self._retries.ask(make).info.run_id
        entities = [Param(_name(key), _shorten(_text(value), _MAX_PARAM_CHARS)) for key, value in params.items()]
        try:
            for first in range(0, len(entities), _MAX_PARAMS):
                part = entities[first : first + _MAX_PARAMS]
                self._retries.send("parameters", partial(self.client.log_batch, run_id, params=part))
        except BaseException:
            self.end_run(run_id, "FAILED")
            raise
        return run_id

    @contextmanager
    def run(
        self, name: str, params: Mapping[str, Any], tags: Mapping[str, Any] | None = None, parent: str | None = None
    ) -> Iterator[str]:
        """`start_run` whose run ends with the block, however it ends.

        The run is KILLED by an interrupt or an exit, FAILED by an error (its text is the tag `failure`), and FINISHED
        otherwise. Exceptions go on. What a server that was away has not got by then is waited for.
        """
        with self._ending(self.start_run(name, params, tags, parent)) as run_id:
            yield run_id

    @contextmanager
    def resumed(self, run_id: str) -> Iterator[str]:
        """An ended run, or one whose process died, RUNNING again for the block; it ends as that of `run` does."""
        self.resume_run(run_id)
        with self._ending(run_id):
            yield run_id

    @contextmanager
    def _ending(self, run_id: str) -> Iterator[str]:
        try:
            yield run_id
        except (KeyboardInterrupt, SystemExit):
            self.end_run(run_id, "KILLED")
            raise
        except BaseException as error:
            self.set_tag(run_id, "failure", f"{type(error).__name__}: {error}")
            self.end_run(run_id, "FAILED")
            raise
        else:
            self.end_run(run_id, "FINISHED")
        finally:
            self.flush()

    def flush(self) -> None:
        """Wait for a server that is away until it has everything, minutes at most; before a process ends."""
        self._retries.flush()

    def resume_run(self, run_id: str) -> None:
        """Make an ended run RUNNING again, to go on writing to it."""
        self._retries.send(f"the restart of run {run_id}", partial(self.client.update_run, run_id, status="RUNNING"))

    def end_run(self, run_id: str, status: str) -> None:
        """End a run; a run that has ended already keeps its first ending.

        Raises:
            ValueError: `status` is not one of `END_STATES`.
        """
        if status not in END_STATES:
            raise ValueError(f"status: got {status!r}, allowed: {', '.join(END_STATES)}")

        def end() -> None:
            if self.client.get_run(run_id).info.status not in END_STATES:
                self.client.set_terminated(run_id, status)

        self._retries.send(f"the end of run {run_id}", end)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to the curve of each metric.

        A value that is not finite makes no point; the tag `not_finite.<metric>` tells of the last one.

        Args:
            run_id: the run.
            metrics: name -> value.
            step: position on the curve, usually the epoch.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = {metric_key(key): float(value) for key, value in metrics.items()}
        points = [Metric(key, value, now, int(step)) for key, value in values.items() if math.isfinite(value)]
        for first in range(0, len(points), _MAX_METRICS):
            part = points[first : first + _MAX_METRICS]
            self._retries.send("metrics", partial(self.client.log_batch, run_id, metrics=part))
        for key, value in values.items():
            if not math.isfinite(value):
                self.set_tag(run_id, f"not_finite.{key}", f"{value} at step {step}")

    def log_text(self, run_id: str, text: str, artifact_path: str) -> None:
        """Keep `text` as the run's file `artifact_path`."""
        self._retries.send(artifact_path, lambda: self.client.log_text(run_id, text, artifact_path))

    def log_file(self, run_id: str, path: str | Path, artifact_dir: str = "") -> None:
        """Keep a copy of the file `path` in the run's folder `artifact_dir`.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file to keep with run {run_id}")
        self._retries.send(str(path), lambda: self.client.log_artifact(run_id, str(path), artifact_dir or None))

    def log_figure(self, run_id: str, fig: Any, artifact_path: str) -> None:
        """Keep a Matplotlib figure as the run's picture `artifact_path` (`pr_curve.png`)."""
        self._retries.send(artifact_path, lambda: self.client.log_figure(run_id, fig, artifact_path))

    def set_tag(self, run_id: str, key: str, value: Any) -> None:
        """Set a tag of a run; long text is shortened."""
        text = _shorten(_text(value), _MAX_TAG_CHARS)
        self._retries.send(f"tag {key}", lambda: self.client.set_tag(run_id, _name(key), text))

    def run_info(self, run_id: str) -> RunInfo:
        """A run as it stands in the store."""
        return _run_info(self.client.get_run(run_id))

    def runs(self, parent: str) -> list[RunInfo]:
        """Child runs of `parent`, in the order in which they were started."""
        found: list[Any] = []
        token: str | None = ""
        while token is not None:
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`{_PARENT_TAG}` = '{parent}'",
                order_by=["attributes.start_time ASC"],
                page_token=token or None,
            )
            found += page
            token = page.token or None
        return [_run_info(run) for run in found]

    def metric_history(self, run_id: str, key: str) -> list[tuple[int, float]]:
        """The curve of a metric as (step, value) by step; of a step that was logged twice the later value counts."""
        points = sorted(self.client.get_metric_history(run_id, metric_key(key)), key=lambda point: point.timestamp)
        return sorted({point.step: point.value for point in points}.items())

    def _probe(self) -> None:
        self.client.get_experiment(self.experiment_id)

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        if self.uri.startswith("sqlite"):
            _sqlite_path(self.uri).parent.mkdir(parents=True, exist_ok=True)
        try:
            found = self.client.get_experiment_by_name(self.experiment)
            if found is None:
                return self._create_experiment()
        except MlflowException as error:
            raise ValueError(
                f"track.tracking_uri: got {self.uri!r}, which cannot be used ({_shorten(one_line(error), 300)}); "
                "allowed: a running server's http://..., or sqlite:///FILE"
            ) from None
        if found.lifecycle_stage == "deleted":
            raise ValueError(f"track.experiment: got {self.experiment!r}, which was deleted; allowed: another name")
        return found.experiment_id

    def _create_experiment(self) -> str:
        location = None
        if self.uri.startswith("sqlite"):
            location = (_sqlite_path(self.uri).parent / "mlartifacts").as_uri()
        from mlflow.exceptions import MlflowException

        try:
            return self.client.create_experiment(self.experiment, artifact_location=location)
        except MlflowException as error:  # another process may have been first
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self.client.get_experiment_by_name(self.experiment).experiment_id


def _checked_uri(uri: str | None) -> str:
    uri = uri or default_uri()
    scheme = re.match(r"([a-z]+)(\+[a-z0-9]+)?://", uri)
    if scheme is None or scheme[1] not in _SCHEMES or (scheme[1] == "sqlite" and not _sqlite_path(uri).name):
        raise ValueError(
            f"track.tracking_uri: got {uri!r}, allowed: sqlite:///FILE, a server's http(s)://..., or another database"
        )
    if scheme[1] != "sqlite":
        return uri
    return f"{uri.partition('///')[0]}///{_sqlite_path(uri)}"


def _sqlite_path(uri: str) -> Path:
    path = uri.partition("///")[2]
    return Path(path).absolute() if path and path != ":memory:" else Path()


def _run_info(run: Any) -> RunInfo:
    data = run.data
    return RunInfo(
        run.info.run_id, run.info.run_name, run.info.status, dict(data.params), dict(data.metrics), dict(data.tags)
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def _name(key: str) -> str:
    # The name of a space file can be part of a tag's; MLflow refuses brackets.
    return re.sub(r"[^\w\-. /:]", "_", key)[:250]
