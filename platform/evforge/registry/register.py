"""Registration of exported models in MLflow, and checks of registered files."""

import importlib.metadata
import json
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from detector.config.class_names import metric_key
from detector.utils.checksum import sha256_of
from evforge.tracking.models import download
from evforge.tracking.tracker import Tracker

__all__ = ["REQUIRED_TAGS", "check_registered", "describe_version", "register"]

REQUIRED_TAGS = ("config_fingerprint", "data_fingerprint")
SHOWN = ("mean_ap", "mean_ap50", "mean_ap75", "mean_ap_small", "mean_ap_medium", "mean_ap_big")
"""Metrics that MLflow's page of a logged model shows."""

LONGEST_DESCRIPTION = 5000
"""Longest description of a version in MLflow's databases. Of these, only SQLite accepts a longer one."""

MODEL_DESCRIPTION = """Event-camera detectors trained by EvForge. Each version has a model card.
The alias `champion` is the best version on the test set, `candidate` the newest.

```sh
evforge predict RECORDING --model models:/{name}@champion --output video.mp4
evforge registry show --name {name}
```
"""
"""Description of a registered model as Markdown."""

EXAMPLE_SIZE = (32, 32)
"""Height and width of the input example, which MLflow stores as text."""

FRAMES = Array(Array(Array(Array(Array(DataType.double)))))  # (T, B, C, H, W); numbers in JSON are double
BOXES = {
    **dict.fromkeys(("clip", "stream", "t"), DataType.long),
    **dict.fromkeys(("x", "y", "w", "h", "score"), DataType.float),
    "class_id": DataType.long,
    "class": DataType.string,
}
SIGNATURE = ModelSignature(
    Schema([ColSpec(FRAMES, "frames", required=False), ColSpec(DataType.string, "recording", required=False)]),
    Schema([ColSpec(kind, name) for name, kind in BOXES.items()]),
)
"""The input of `pyfunc_model` is a table of clips: frames or paths of event files. The output is a table of boxes."""


def check_registered(tracker: Tracker, version: Any, folder: Path) -> dict[str, Any]:
    """Copy the files of a registered version from the store, and check that they are unchanged and pass `check_export`.

    Args:
        tracker: the store.
        version: the version as an entity of MLflow.
        folder: folder to copy the registered files to.

    Returns:
        The content of `info_ssd_jit.json`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file has changed, or `check_export` fails.
        OSError: the files cannot be read.
    """
    path = download(tracker, version, folder)
    for name, digest in json.loads(version.tags.get("files", "{}")).items():
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path / name}: no such file any longer")
        if sha256_of(path / name) != digest:
            raise ValueError(f"{path / name}: is not the file that was registered")
    from detector.export.check import check_export

    return check_export(path / "artifacts")


def register(
    tracker: Tracker,
    run_id: str,
    model_dir: Path,
    name: str,
    metrics: Mapping[str, float | None],
    protocol: Mapping[str, Any],
    card: str,
    tags: Mapping[str, Any],
) -> int:
    """Check an exported detector, store it in MLflow, and register it as a new version with the alias `candidate`.

    Args:
        tracker: the store.
        run_id: id of the MLflow run that trained the model.
        model_dir: folder with `model.ptjit` and `info_ssd_jit.json`.
        name: name of the model in the registry.
        metrics: test metrics, including `mean_ap` and `mean_ap50`.
        protocol: settings of the measurement (skipped start, box filters, empty frames, lowest score).
        card: the model card as Markdown.
        tags: tags of the version, at least the `REQUIRED_TAGS`: `config_fingerprint` (from `Config.fingerprint()`) and
            `data_fingerprint` (of the test split).

    Returns:
        Number of the new version.

    Raises:
        FileNotFoundError: a file of the export is missing.
        ValueError: the export fails its checks, a metric or tag is missing, or the name is not valid; then nothing is
            registered.
    """
    from detector.export.check import check_export

    _check_claims(name, metrics, tags)
    info = check_export(model_dir)
    logged, digests = _log_model(tracker, run_id, Path(model_dir), info)
    version_tags = {
        **{key: str(value) for key, value in tags.items()},
        **{metric_key(key): repr(float(value)) for key, value in metrics.items() if value is not None},
        "protocol": json.dumps(dict(protocol), sort_keys=True),
        "classes": json.dumps(info["classes"]),
        "run_id": run_id,
        "model_id": logged.model_id,
        "export_checks": "passed",
        "sha256": info["sha256"],
        "files": json.dumps(digests),
    }
    client = tracker.client
    _ensure_registered_model(client, name)
    # The source is a location of files. MLflow would look up `models:/<id>` in its process-wide store.
    source, text = logged.artifact_location, _description(card, logged.model_id)
    created = client.create_model_version(
        name, source, run_id, version_tags, description=text, model_id=logged.model_id
    )
    version = int(created.version)
    _describe(client, logged, run_id, metrics, card, {"name": name, "version": version})
    client.set_registered_model_alias(name, "candidate", str(version))
    return version


def describe_version(tracker: Tracker, name: str, version: int, card: str) -> None:
    """Replace the model card of a registered version.

    Args:
        tracker: the store.
        name: name of the model in the registry.
        version: number of the version.
        card: the model card as Markdown.
    """
    client = tracker.client
    model_id = client.get_model_version(name, str(version)).tags["model_id"]
    client.update_model_version(name, str(version), _description(card, model_id))
    client.set_logged_model_tags(model_id, {"mlflow.note.content": card})


def _description(card: str, model_id: str) -> str:
    """Return the description of a version: its card, shortened if necessary."""
    return _shortened(card, f"The rest of this card is on the page of the logged model {model_id}.")


def _shortened(card: str, end: str) -> str:
    """Return the first sections of a model card that fit into a description, and `end` if a section is missing."""
    if len(card) <= LONGEST_DESCRIPTION:
        return card
    room = LONGEST_DESCRIPTION - len(end) - 3
    first = card[:room].rpartition("\n## ")[0] or card[:room]
    return f"{first.rstrip()}\n\n{end}\n"


def _check_claims(name: str, metrics: Mapping[str, float | None], tags: Mapping[str, Any]) -> None:
    for key in ("mean_ap", "mean_ap50"):
        value = metrics.get(key)
        if value is None or not math.isfinite(value):
            raise ValueError(f"metrics: got {key} = {value}, allowed: a finite number")
    for key in REQUIRED_TAGS:
        if not tags.get(key):
            raise ValueError(f"tags: {key} is missing, got: {', '.join(tags) or 'none'}")
    if not name.strip() or set(name) & set("/:"):
        raise ValueError(f"track.registered_model_name: got {name!r}, allowed: text without / and :")


def _log_model(tracker: Tracker, run_id: str, model_dir: Path, info: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """Store an export as a logged model of MLflow. Return the logged model, and the SHA-256 of each file by path."""
    client = tracker.client
    run = tracker.run_info(run_id)
    experiment = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment, name="detector", source_run_id=run_id, params=run.params)
    status = LoggedModelStatus.FAILED
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            _save_pyfunc(path, model_dir, info, run_id, logged)
            digests = {
                file.relative_to(path).as_posix(): sha256_of(file) for file in sorted(path.rglob("*")) if file.is_file()
            }
            client.log_model_artifacts(logged.model_id, str(path))
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, status)
    return logged, digests


def _describe(
    client: Any, logged: Any, run_id: str, metrics: Mapping[str, float | None], card: str, link: Mapping[str, Any]
) -> None:
    """Set what MLflow's page of a logged model shows: the model card, the metrics, and the registered version.

    Args:
        client: `MlflowClient` of the store.
        logged: the logged model as an entity of MLflow.
        run_id: id of the MLflow run that trained the model.
        metrics: test metrics by name.
        card: the model card as Markdown.
        link: `name` and `version` of the registered version.
    """
    # MLflow sets the link `mlflow.modelVersions` on a server, but not in a database.
    client.set_logged_model_tags(
        logged.model_id, {"mlflow.modelVersions": json.dumps([link]), "mlflow.note.content": card}
    )
    now = int(time.time() * 1000)
    shown = {key: value for key, value in metrics.items() if key in SHOWN and value is not None}
    points = [Metric(f"test_{key}", value, now, 0, model_id=logged.model_id) for key, value in shown.items()]
    client.log_batch(run_id, metrics=points)


def _save_pyfunc(path: Path, model_dir: Path, info: Mapping[str, Any], run_id: str, logged: Any) -> None:
    from detector.export.form import INFO_NAME, MODEL_NAME

    mlflow.pyfunc.save_model(
        path=str(path),
        mlflow_model=Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id),
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts={"ptjit": str(model_dir / MODEL_NAME), "info": str(model_dir / INFO_NAME)},
        signature=SIGNATURE,
        input_example={"frames": np.zeros((1, 1, int(info["in_channels"]), *EXAMPLE_SIZE), np.float32)},
        # Without this list MLflow takes ten seconds to infer it. The suffix of a local build (+cpu) is not installable.
        pip_requirements=[
            f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in ("mlflow", "torch", "numpy")
        ],
    )


def _ensure_registered_model(client: Any, name: str) -> None:
    try:
        client.create_registered_model(name, description=MODEL_DESCRIPTION.format(name=name))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
