"""The Markdown page that goes with a registered model."""

from collections.abc import Mapping
from typing import Any

from detector.config import Config

__all__ = ["model_card"]

OVERALL = ("mean_ap", "mean_ap50", "mean_ap75", "mean_ap_small", "mean_ap_medium", "mean_ap_big")


def model_card(
    name: str,
    config: Config,
    metrics: Mapping[str, float],
    protocol: Mapping[str, Any],
    data_fingerprint: str,
    run_id: str,
) -> str:
    """What a stranger must know about a model, as Markdown.

    Args:
        name: name in the registry.
        config: the resolved configuration it was trained with.
        metrics: test metrics: `mean_ap`, ..., and `mean_ap_<class>`.
        protocol: how they were measured.
        data_fingerprint: fingerprint of the test set.
        run_id: the run that trained it.
    """
    by_class = {key: metrics[key] for key in metrics if key.startswith("mean_ap_") and key not in OVERALL}
    sections = [
        f"# {name}",
        "Recurrent single-shot detector for event cameras, exported to TorchScript.",
        "## Data",
        _table(
            ("", ""),
            {
                "dataset": config.data.dataset_path,
                "test set fingerprint": data_fingerprint,
                "frame": f"{config.data.delta_t} us, {config.data.preprocess}",
                "MLflow run": run_id,
            },
        ),
        "## Test metrics",
        _table(("metric", "value"), {key: f"{metrics[key]:.4f}" for key in OVERALL if key in metrics}),
        "## AP by class",
        _table(
            ("class", "AP 0.50:0.95"), {key.removeprefix("mean_ap_"): f"{value:.4f}" for key, value in by_class.items()}
        ),
        "## Protocol",
        "Numbers compare only with numbers under the same protocol on the same test set.",
        _table(("setting", "value"), protocol),
        "## How to run it",
        _how_to_run(name),
        "## Configuration",
        f"```yaml\n{config.to_yaml().strip()}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _table(head: tuple[str, str], rows: Mapping[str, Any]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join(lines + [f"| {key} | {value} |" for key, value in rows.items()])


def _how_to_run(name: str) -> str:
    return f"""Without Python, in C++: load `artifacts/model.ptjit` with `torch::jit::load`; how its input is made
stands in `artifacts/info_ssd_jit.json`. In Python:

```python
import mlflow
import numpy as np

mlflow.set_tracking_uri("sqlite:///mlflow.db")  # or the server's address
model = mlflow.pyfunc.load_model("models:/{name}@champion")
frames = np.zeros((10, 1, 2, 240, 304), np.float32)  # (T, B, C, H, W)
rows = model.predict(frames)  # (M, 8): time step, stream, x, y, width, height, score, class id
```"""
