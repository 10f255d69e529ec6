"""Exported models in MLflow's registry, and the gate between `candidate` and `champion`."""

import hashlib
import json
import math
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlab.model_card import model_card
from evlab.tracking import Tracker

__all__ = [
    "REQUIRED_TAGS",
    "PromotionResult",
    "check_export",
    "data_fingerprint",
    "model_card",
    "promote",
    "register",
]

REQUIRED_TAGS = ("config_fingerprint", "data_fingerprint")


@dataclass(frozen=True)
class PromotionResult:
    """What the gate decided.

    Args:
        promoted: whether `champion` is now this version
        reason: one line that says why
    """

    promoted: bool
    reason: str


def check_export(model_dir: Path) -> dict[str, Any]:
    """Check an exported detector: its files belong together and the cases of `detector.jitting_test` pass.

    Args:
        model_dir: folder with `model.ptjit` and `info_ssd_jit.json`.

    Returns:
        The content of `info_ssd_jit.json`.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the files do not belong together, or a case failed.
    """
    from detector.jitting import INFO_NAME, MODEL_NAME

    model, info_file = Path(model_dir) / MODEL_NAME, Path(model_dir) / INFO_NAME
    for path in (model, info_file):
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such file; an exported model is a folder with {MODEL_NAME}, {INFO_NAME}"
            )
    try:
        info = json.loads(info_file.read_text())
    except ValueError as error:
        raise ValueError(f"{info_file}: not JSON: {error}") from None
    with model.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if info.get("sha256") != digest:
        raise ValueError(
            f"{info_file}: sha256 is {info.get('sha256')!r}, but {MODEL_NAME} has {digest!r}: export again"
        )
    _run_cases(model)
    return info


def register(
    tracker: Tracker,
    run_id: str,
    model_dir: Path,
    name: str,
    metrics: Mapping[str, float],
    protocol: Mapping[str, Any],
    card: str,
    tags: Mapping[str, Any],
) -> int:
    """Check an exported detector, keep it with its run and register it as the newest version, alias `candidate`.

    Args:
        tracker: the store.
        run_id: the run that trained the model.
        model_dir: folder with `model.ptjit` and `info_ssd_jit.json`.
        name: name in the registry.
        metrics: test metrics, `mean_ap` and `mean_ap50` among them.
        protocol: how they were measured (skipped start, box filters, tolerance, score floor).
        card: the model card, Markdown.
        tags: further tags; `REQUIRED_TAGS` must be there: `Config.fingerprint()`, and `data_fingerprint` of the
            test split.

    Returns:
        The version's number.

    Raises:
        FileNotFoundError: a file of the export is missing.
        ValueError: the export fails its checks, a metric or tag is missing, or the name is none; nothing was
            registered.
    """
    _check_claims(name, metrics, tags)
    info = check_export(model_dir)
    logged = _log_model(tracker, run_id, Path(model_dir), info)
    version_tags = {
        **{key: str(value) for key, value in tags.items()},
        **{key: repr(float(value)) for key, value in metrics.items()},
        "protocol": json.dumps(dict(protocol), sort_keys=True),
        "classes": json.dumps(info["classes"]),
        "run_id": run_id,
        "model_id": logged.model_id,
        "export_checks": "passed",
        "sha256": info["sha256"],
    }
    client = tracker.client
    _ensure_registered_model(client, name)
    # The files' place, not `models:/<id>`: MLflow would look that up in the process-wide store instead of this one.
    place = logged.artifact_location
    version = int(
        client.create_model_version(
            name, place, run_id=run_id, tags=version_tags, description=card, model_id=logged.model_id
        ).version
    )
    # The link from the model's page to its version; a server sets it, a database does not.
    client.set_logged_model_tags(
        logged.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": version}])}
    )
    client.set_registered_model_alias(name, "candidate", str(version))
    return version


def promote(tracker: Tracker, name: str, version: int | str) -> PromotionResult:
    """Make a version the `champion` if it beats the present one on the same test set by the same protocol.

    The first version passes when its export checks passed.

    Args:
        tracker: the store.
        name: name in the registry.
        version: the version to promote.

    Raises:
        ValueError: there is no such version.
    """
    new = _version_tags(tracker.client, name, version)
    if new.get("export_checks") != "passed":
        return PromotionResult(False, f"version {version} was registered without the export checks")
    champion = tracker.client.get_registered_model(name).aliases.get("champion")
    if champion is not None and int(champion) == int(version):
        return PromotionResult(False, f"version {version} is the champion already")
    reason = "it is the first champion"
    if champion is not None:
        old = _version_tags(tracker.client, name, champion)
        refusal = _incomparable(new, old, int(champion))
        if refusal:
            return PromotionResult(False, refusal)
        ours, theirs = float(new["mean_ap"]), float(old["mean_ap"])
        if ours <= theirs:
            return PromotionResult(False, f"mAP {ours:.4f} is not above the {theirs:.4f} of champion {champion}")
        reason = f"mAP {ours:.4f} is above the {theirs:.4f} of version {champion}"
    tracker.client.set_registered_model_alias(name, "champion", str(version))
    return PromotionResult(True, reason)


def data_fingerprint(split: Path) -> str:
    """Hash of a dataset's split: equal for equal recordings, preprocessing and labels.

    What made a tensor file stands in its attributes, the source's hash included; a file that lacks it is read whole.

    Args:
        split: folder with `X.h5` and `X_bbox.npy`.

    Raises:
        FileNotFoundError: there is no tensor file in it.
    """
    import h5py

    tensors = sorted(Path(split).glob("*.h5"))
    if not tensors:
        raise FileNotFoundError(f"{split}: no tensor file (X.h5) in this folder; `evlab build` makes them")
    digest = hashlib.sha256()
    for path in tensors:
        with h5py.File(path) as file:
            data = file["data"]
            made = {key: str(value) for key, value in data.attrs.items()}
            digest.update(json.dumps([path.name, data.shape, str(data.dtype), made], sort_keys=True).encode())
            if "sha256" not in made:
                for frame in data:
                    digest.update(frame.tobytes())
        labels = path.with_name(f"{path.stem}_bbox.npy")
        digest.update(labels.read_bytes() if labels.is_file() else b"no labels")
    return digest.hexdigest()[:16]


def _check_claims(name: str, metrics: Mapping[str, float], tags: Mapping[str, Any]) -> None:
    for key in ("mean_ap", "mean_ap50"):
        if not math.isfinite(metrics.get(key, math.nan)):
            raise ValueError(f"metrics: got {key} = {metrics.get(key)}, allowed: a finite number")
    for key in REQUIRED_TAGS:
        if not tags.get(key):
            raise ValueError(f"tags: {key} is missing, got: {', '.join(tags) or 'none'}")
    if not name.strip() or set(name) & set("/:"):
        raise ValueError(f"track.registered_model_name: got {name!r}, allowed: text without / and :")


def _run_cases(model: Path) -> None:
    from detector.jitting_test import TESTCASES

    for name, case in TESTCASES.items():
        try:
            case(str(model), 120, 160)
        except Exception as error:  # the cases assert, and a broken file raises whatever TorchScript raises
            reason = _one_line(error)[:300] or type(error).__name__
            raise ValueError(f"{model}: the check '{name}' failed: {reason}") from error


def _log_model(tracker: Tracker, run_id: str, model_dir: Path, info: Mapping[str, Any]) -> Any:
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    client = tracker.client
    run = tracker.run_info(run_id)
    experiment = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment, name="detector", source_run_id=run_id, params=run.params)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _save_pyfunc(Path(folder) / "model", model_dir, info, run_id, logged)
            client.log_model_artifacts(logged.model_id, str(Path(folder) / "model"))
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    except BaseException:
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    return logged


def _save_pyfunc(path: Path, model_dir: Path, info: Mapping[str, Any], run_id: str, logged: Any) -> None:
    import mlflow
    import numpy as np
    import torch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    from detector.jitting import INFO_NAME, MODEL_NAME

    frames = TensorSpec(np.dtype(np.float32), (-1, -1, int(info["in_channels"]), -1, -1))
    boxes = TensorSpec(np.dtype(np.float32), (-1, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no input example: the signature is given
        mlflow.pyfunc.save_model(
            path=str(path),
            mlflow_model=Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"ptjit": str(model_dir / MODEL_NAME), "info": str(model_dir / INFO_NAME)},
            signature=ModelSignature(Schema([frames]), Schema([boxes])),
            # Given, or MLflow spends ten seconds on finding out; a local build's suffix (+cpu) is not installable.
            pip_requirements=[
                f"{package.__name__}=={package.__version__.partition('+')[0]}" for package in (mlflow, torch, np)
            ],
        )


def _ensure_registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Event-camera detectors made by EvLab.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version_tags(client: Any, name: str, version: int | str) -> dict[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_model_version(name, str(version)).tags)
    except MlflowException as error:
        raise ValueError(f"version: got {version!r} of model {name!r}: {_one_line(error)}") from None


def _incomparable(new: Mapping[str, str], old: Mapping[str, str], champion: int) -> str:
    ours, theirs = json.loads(new["protocol"]), json.loads(old["protocol"])
    keys = [key for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]
    if keys:
        listed = ", ".join(f"{key} {ours.get(key)} against {theirs.get(key)}" for key in keys)
        return f"its protocol is not that of champion {champion}: {listed}"
    if new["classes"] != old["classes"]:
        return f"it detects {new['classes']}, champion {champion} {old['classes']}"
    if new["data_fingerprint"] != old["data_fingerprint"]:
        return f"it was tested on another test set than champion {champion}"
    return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
