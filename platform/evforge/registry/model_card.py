"""The model card of a registered model, written as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.config import Config
from detector.evaluation.analysis.slices import SLICES
from evforge.display.tables import metric_text, range_text

__all__ = ["model_card"]

OVERALL = {
    "mean_ap": "mAP, IoU 0.50:0.95",
    "mean_ap50": "AP at IoU 0.50",
    "mean_ap75": "AP at IoU 0.75",
    "mean_ap_small": "AP of small boxes, below 32 x 32 px",
    "mean_ap_medium": "AP of medium boxes",
    "mean_ap_big": "AP of big boxes, above 96 x 96 px",
}
SLICE_METRICS = {"ap": "AP", "ap50": "AP50", "recall": "recall"}
WEAK = 0.5
"""The card lists a class or slice as a failure if its AP is below this share of the overall value."""


def model_card(
    name: str,
    config: Config,
    evaluation: Mapping[str, Any],
    run_id: str,
    speed: Mapping[str, Any],
    search: str | None = None,
    media: str = "",
) -> str:
    """Return the model card as Markdown. Paths in the settings are shortened to their last name.

    Args:
        name: name of the model in the registry.
        config: the resolved configuration of the training.
        evaluation: result of `Evaluation.to_dict`.
        run_id: id of the MLflow run that trained the model.
        speed: measured speed and conditions of this measurement, as texts by label.
        search: Markdown about the search that found the model; None if there was no search.
        media: Markdown with figures and videos of detections; empty without them.
    """
    config = _portable(config)
    classes, metrics = evaluation["classes"], evaluation["metrics"]
    sections = [
        f"# {name}",
        f"Detects {', '.join(classes)} in recordings of an event camera. A recurrent single-shot detector in "
        "TorchScript, which contains its recurrent state.",
        *([media] if media else []),
        "## How to run it",
        _how_to_run(name),
        "## Metrics",
        f"Measured on the {evaluation['split']} split. Compare them only with metrics by the same protocol on the "
        "same data.",
        _table(("", "value"), [(text, metric_text(metrics.get(key))) for key, text in OVERALL.items()]),
        "By class:",
        _table(("class", "AP 0.50:0.95"), [(key, metric_text(metrics[f"ap/{key}"])) for key in classes]),
        *_slices(evaluation),
        "## Protocol",
        _table(("rule", "value"), evaluation["protocol"].items()),
        "## Data",
        _table(
            ("", ""),
            [
                ("dataset", config.data.dataset_path),
                (f"fingerprint of its {evaluation['split']} split", evaluation["data_fingerprint"]),
                ("frame", f"{config.data.delta_t / 1000:g} ms, {config.data.preprocess}"),
                ("MLflow run", run_id),
            ],
        ),
        "## Speed",
        _table(("", ""), speed.items()),
        "## Search",
        search or "None: the model was trained with the settings below.",
        "## Known failures",
        "\n".join(f"- {line}" for line in _failures(evaluation)),
        "## Other ways to run it",
        _other_ways(name),
        "## Configuration",
        f"```yaml\n{config.to_yaml().strip()}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _slices(evaluation: Mapping[str, Any]) -> list[str]:
    """Format one table of metrics per quantity, such as box size, with one row per range of the quantity (slice).

    A quantity is left out if all boxes are in one slice.
    """
    tables = []
    for key, parts in evaluation["details"]["slices"].items():
        some = [part for part in parts if part["boxes"]]
        if len(some) > 1:
            rows = [
                (_range(part), f"{part['boxes']:,}", *(metric_text(part[name], 3) for name in SLICE_METRICS))
                for part in some
            ]
            tables += [f"By {SLICES[key].title}:", _table((SLICES[key].unit, "boxes", *SLICE_METRICS.values()), rows)]
    return tables


def _failures(evaluation: Mapping[str, Any]) -> list[str]:
    """List the weaknesses that the metrics show, and then the limits that every detector of this kind has."""
    metrics = evaluation["metrics"]
    groups = [(name, "AP", metrics[f"ap/{name}"], metrics["mean_ap"]) for name in evaluation["classes"]]
    groups += [
        (f"{SLICES[key].title}, {_range(part)} {SLICES[key].unit}", "AP50", part["ap50"], metrics["mean_ap50"])
        for key, parts in evaluation["details"]["slices"].items()
        for part in parts
    ]
    found = [
        f"{where}: {metric} {value:.3f}, overall {overall:.3f}"
        for where, metric, value, overall in groups
        if value is not None and value < WEAK * overall
    ]
    found += [f"{where}: not in the data, so not measured" for where, _, value, _ in groups if value is None]
    if evaluation["state_leak"]["passed"] is False:
        found.append("the detections in a stream depend on the other streams: the state leak check failed")
    return [
        *found,
        "objects that do not move cause no events: only the recurrent state keeps their boxes, and they fade",
        "other sensors, lenses, biases and times of day than those of the data were not tested",
    ]


def _range(part: Mapping[str, Any]) -> str:
    return range_text(part["start"], part["stop"])


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    return "\n".join([_row(head), _row(["---"] * len(head), ""), *map(_row, rows)])


def _row(cells: Sequence[Any], space: str = "&emsp;") -> str:
    """Format a row of a Markdown table.

    `space` is inserted before each cell except the first, because MLflow's page puts no space between columns and
    removes plain blanks.
    """
    first, *others = (str(cell).replace("|", "/") for cell in cells)
    return f"| {' | '.join([first, *(space + cell for cell in others)])} |"


def _portable(config: Config) -> Config:
    """Return a configuration without absolute paths and without the address of a database."""
    local = {
        key: Path(value).name for key, value in config.to_flat().items() if isinstance(value, str) and _is_path(value)
    }
    if not (config.track.tracking_uri or "").startswith("http"):
        local["track.tracking_uri"] = None  # type: ignore[assignment]
    return config.with_overrides(local)


def _is_path(text: str) -> bool:
    return Path(text).is_absolute() or text.startswith("~")


def _how_to_run(name: str) -> str:
    return f"""```python
import mlflow, pandas
mlflow.set_tracking_uri("sqlite:///mlflow.db")  # or the address of a server
model = mlflow.pyfunc.load_model("models:/{name}@champion")
boxes = model.predict(pandas.DataFrame({{"recording": ["drive.raw"]}}))
```

With EvForge, which also draws a video:

```sh
evforge predict RECORDING --model models:/{name}@champion --output boxes.npy video.mp4
```"""


def _other_ways(name: str) -> str:
    return f"""On frames (T, B, C, H, W): `model.predict({{"frames": frames}})`.

Without Python, in C++: load `artifacts/model.ptjit` with `torch::jit::load`; `artifacts/info_ssd_jit.json` describes
its input.

From a shell, where `clips.csv` has a column `recording` with one path per row:

```sh
mlflow models predict -m models:/{name}@champion -t csv -i clips.csv --env-manager local
```"""
