"""Functions that write to an MLflow server. They take JSON values as arguments, so that a file can store the call."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["END_STATES", "NOTE", "PARENT", "PATH", "START", "WRITES"]

END_STATES = ("FINISHED", "FAILED", "KILLED")

NOTE = "mlflow.note.content"
"""Tag of a run with its description, Markdown that MLflow shows on the page of the run."""

RESULT = "**Result:**"
"""Start of the paragraph with the result in the description of a run."""

PARENT, RESUMED, PATH, START = "mlflow.parentRunId", "resumed_ms", "path", "start"
"""Tags of a run: id of its parent run, time in milliseconds at which it was last resumed, its folder, and a random text
that identifies the start of the run."""


def _params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])


def _metrics(client: Any, run_id: str, points: Sequence[tuple[str, float, int, int]]) -> None:
    """Write values of metrics. Each point is (name, value, time in milliseconds since 1970, step)."""
    from mlflow.entities import Metric

    client.log_batch(run_id, metrics=[Metric(*point) for point in points])


def _tag(client: Any, run_id: str, key: str, value: str) -> None:
    client.set_tag(run_id, key, value)


def _text(client: Any, run_id: str, text: str, artifact_path: str) -> None:
    client.log_text(run_id, text, artifact_path)


def _file(client: Any, run_id: str, path: str, artifact_dir: str) -> None:
    client.log_artifact(run_id, path, artifact_dir or None)


def _inputs(client: Any, run_id: str, datasets: Sequence[Mapping[str, str]]) -> None:
    """Add datasets to the inputs of a run. Each is a dict, see `datasets.dataset_inputs`."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found = []
    for one in datasets:
        values = {key: value for key, value in one.items() if key != "context"}
        found.append(DatasetInput(Dataset(**values), [InputTag("mlflow.data.context", one["context"])]))
    client.log_inputs(run_id, found)


def _result(client: Any, run_id: str, text: str) -> None:
    """Put a paragraph with the result before the description of a run. It replaces an earlier result."""
    before = client.get_run(run_id).data.tags.get(NOTE, "")
    if before.startswith(RESULT):
        before = before.partition("\n\n")[2]
    client.set_tag(run_id, NOTE, f"{RESULT} {text}\n\n{before}")


def _restart(client: Any, run_id: str) -> None:
    client.update_run(run_id, status="RUNNING")
    client.set_tag(run_id, RESUMED, str(int(time.time() * 1000)))


def _end(client: Any, run_id: str, status: str) -> None:
    """End a run. A run that has already ended keeps its status."""
    if client.get_run(run_id).info.status not in END_STATES:
        client.set_terminated(run_id, status)


def _end_dead(client: Any, run_id: str, died_ms: int) -> None:
    """Set the status KILLED for a run and its running children, unless the run was resumed after `died_ms`."""
    run = client.get_run(run_id)
    if int(run.data.tags.get(RESUMED, 0)) > died_ms:
        return
    found, children = [run], f"tags.`{PARENT}` = '{run_id}'"
    token: str | None = ""
    while token is not None:
        page = client.search_runs([run.info.experiment_id], children, page_token=token or None)
        found += page
        token = page.token or None
    for one in found:
        if one.info.status == "RUNNING":
            client.set_terminated(one.info.run_id, "KILLED")


def _remove(client: Any, experiment: str, start: str) -> None:
    """Delete the run with a certain value of the tag `START`, unless it has ended."""
    found = client.get_experiment_by_name(experiment)
    for run in client.search_runs([found.experiment_id], f"tags.{START} = '{start}'") if found else ():
        if run.info.status == "RUNNING":
            client.delete_run(run.info.run_id)


WRITES: Mapping[str, Callable[..., None]] = {
    "params": _params,
    "metrics": _metrics,
    "tag": _tag,
    "text": _text,
    "file": _file,
    "inputs": _inputs,
    "result": _result,
    "restart": _restart,
    "end": _end,
    "end_dead": _end_dead,
    "remove": _remove,
}
"""The functions by name. The first argument of each is an `MlflowClient`."""
