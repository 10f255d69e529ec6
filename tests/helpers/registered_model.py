"""Exported detectors with random weights, and their versions in a registry."""

import hashlib
import json
from pathlib import Path

from small_detector import export_small

from evforge.registry.register import register
from evforge.tracking.tracker import Tracker

NAME = "street"
PROTOCOL = {"skip_us": 500_000, "time_tol_us": 50_000, "min_box_diag": 30.0, "min_box_side": 10.0}
TAGS = {"config_fingerprint": "c0ffee", "data_fingerprint": "da7a"}


def export_cars(folder: Path) -> Path:
    """Export a detector of cars (id 3 of its label map) with random weights, for histograms of 120 x 160."""
    return export_small(folder, 120, 160, 0.0, ["car"], {1: "bus", 3: "car"})


def copy_export(export: Path, folder: Path, model: bytes | None = None, **info) -> Path:
    """A copy of an export with another model file (and its hash) or other settings."""
    folder.mkdir()
    model = (export / "model.ptjit").read_bytes() if model is None else model
    (folder / "model.ptjit").write_bytes(model)
    settings = json.loads((export / "info_ssd_jit.json").read_text())
    settings = {**settings, "sha256": hashlib.sha256(model).hexdigest(), **info}
    (folder / "info_ssd_jit.json").write_text(json.dumps(settings))
    return folder


def register_version(tracker: Tracker, export: Path, mean_ap: float = 0.5, protocol: dict = PROTOCOL, **tags) -> int:
    """Register an export with metrics."""
    run_id = tracker.start_run("trial", {"model.feature_base": 2})
    metrics = {"mean_ap": mean_ap, "mean_ap50": 0.75}
    return register(tracker, run_id, export, NAME, metrics, protocol, "# card", {**TAGS, **tags})


def bare_version(tracker: Tracker, name: str, **tags) -> int:
    """Create a version with these tags and without files."""
    client = tracker.client
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    tags = {"export_checks": "passed", "mean_ap50": "0.5", "protocol": "{}", "classes": "[]", **TAGS, **tags}
    return int(client.create_model_version(name, "file:///nowhere", tags=tags).version)
