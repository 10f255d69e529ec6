"""The Markdown page that goes with a registered model."""

from collections.abc import Mapping, Sequence
from typing import Any

from detector.config import Config
from evforge.display.tables import figure_text

__all__ = ["model_card"]

OVERALL = {
    "mean_ap": "mAP, IoU 0.50:0.95",
    "mean_ap50": "AP at IoU 0.50",
    "mean_ap75": "AP at IoU 0.75",
    "mean_ap_small": "AP of small boxes, below 32 x 32 px",
    "mean_ap_medium": "AP of medium boxes",
    "mean_ap_big": "AP of big boxes, above 96 x 96 px",
}
FIGURES = {"ap": "AP", "ap50": "AP50", "recall": "recall"}
WEAK = 0.5
"""What reaches less than this share of the overall figure is listed among the failures."""


def model_card(
    name: str,
    config: Config,
    evaluation: Mapping[str, Any],
    run_id: str,
    speed: Mapping[str, Any],
    search: str | None = None,
) -> str:
    """What a stranger must know about a model, as Markdown.

    Args:
        name: name in the registry.
        config: the resolved configuration it was trained with.
        evaluation: what `Evaluation.to_dict` gives.
        run_id: the run that trained it.
        speed: what was measured, and how, by what it is called.
        search: Markdown on the search that found it; None if there was none.
    """
    classes, metrics = evaluation["classes"], evaluation["metrics"]
    sections = [
        f"# {name}",
        f"Finds {', '.join(classes)} in the recordings of an event camera. A recurrent single-shot detector, as "
        "TorchScript, with its memory inside.",
        "## Figures",
        f"On the {evaluation['split']} split. They compare only with figures by the same protocol on the same data.",
        _table(("", "value"), {text: figure_text(metrics.get(key)) for key, text in OVERALL.items()}),
        "By class:",
        _table(("class", "AP 0.50:0.95"), {key: figure_text(metrics[f"ap/{key}"]) for key in classes}),
        *_slices(evaluation),
        "## Protocol",
        _table(("rule", "value"), evaluation["protocol"]),
        "## Data",
        _table(("", ""), _data(config, evaluation, run_id)),
        "## Speed",
        _table(("", ""), speed),
        "## What it was searched over",
        search or "Nothing: it was trained with the settings below.",
        "## Known failures",
        "\n".join(f"- {line}" for line in _failures(evaluation)),
        "## How to run it",
        _how_to_run(name),
        "## Configuration",
        f"```yaml\n{config.to_yaml().strip()}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _data(config: Config, evaluation: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    return {
        "dataset": config.data.dataset_path,
        f"fingerprint of its {evaluation['split']} split": evaluation["data_fingerprint"],
        "frame": f"{config.data.delta_t / 1000:g} ms, {config.data.preprocess}",
        "MLflow run": run_id,
    }


def _slices(evaluation: Mapping[str, Any]) -> list[str]:
    """Tables by what a box is like, where there is something to tell apart."""
    from detector.evaluation.analysis.slices import SLICES

    tables = []
    for key, parts in evaluation["details"]["slices"].items():
        some = [part for part in parts if part["boxes"]]
        if len(some) > 1:
            rows = [(_range(part), f"{part['boxes']:,}", *(figure_text(part[k], 3) for k in FIGURES)) for part in some]
            tables += [f"By {SLICES[key].title}:", _rows((SLICES[key].unit, "boxes", *FIGURES.values()), rows)]
    return tables


def _failures(evaluation: Mapping[str, Any]) -> list[str]:
    """What the figures warn of, then what is true of every detector of this kind."""
    from detector.evaluation.analysis.slices import SLICES

    metrics, details = evaluation["metrics"], evaluation["details"]
    of_class = {name: metrics[f"ap/{name}"] for name in evaluation["classes"]}
    overall, overall50 = metrics["mean_ap"], metrics["mean_ap50"]
    found = [
        f"{name}: AP {value:.3f}, mAP is {overall:.3f}"
        for name, value in of_class.items()
        if value is not None and value < WEAK * overall
    ]
    found += [f"{name}: not in the data, so nothing is known" for name, value in of_class.items() if value is None]
    for key, parts in details["slices"].items():
        what = SLICES[key]
        for part in parts:
            where = f"{what.title}, {_range(part)} {what.unit}"
            if not part["boxes"]:
                found.append(f"{where}: not in the data, so nothing is known")
            elif part["ap50"] is not None and part["ap50"] < WEAK * overall50:
                found.append(f"{where}: AP50 {part['ap50']:.3f} of {part['boxes']:,} boxes, overall {overall50:.3f}")
    leak = evaluation["state_leak"]
    if leak["passed"] is False:
        found.append("a stream's detections depend on the streams beside it: the state-leak check failed")
    return [
        *found,
        "objects that do not move make no events: a box is then carried by memory alone, and fades",
        "other sensors, lenses, biases and times of day than the data's were not tried",
    ]


def _range(part: Mapping[str, Any]) -> str:
    if part["start"] is None:
        return f"below {part['stop']:g}"
    return f"from {part['start']:g}" if part["stop"] is None else f"{part['start']:g} to {part['stop']:g}"


def _table(head: tuple[str, str], rows: Mapping[str, Any]) -> str:
    return _rows(head, list(rows.items()))


def _rows(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    return "\n".join([_row(head), _row(["---"] * len(head), ""), *map(_row, rows)])


def _row(cells: Sequence[Any], space: str = "&emsp;") -> str:
    """A line of a table; MLflow's page sets no space between columns, and takes plain blanks away."""
    first, *others = (str(cell).replace("|", "/") for cell in cells)
    return f"| {' | '.join([first, *(space + cell for cell in others)])} |"


def _how_to_run(name: str) -> str:
    return f"""On a recording, to boxes and a film:

```sh
evforge predict RECORDING --model models:/{name}@champion --output boxes.npy film.mp4
```

Without Python, in C++: load `artifacts/model.ptjit` with `torch::jit::load`; how its input is made stands in
`artifacts/info_ssd_jit.json`. By MLflow, on recordings or on frames (T, B, C, H, W):

```python
import mlflow
import pandas as pd

mlflow.set_tracking_uri("sqlite:///mlflow.db")  # or the server's address
model = mlflow.pyfunc.load_model("models:/{name}@champion")
boxes = model.predict(pd.DataFrame({{"recording": ["drive.raw"]}}))
boxes = model.predict({{"frames": frames}})
```

From a shell, where `clips.csv` has a column `recording` with a path a row:

```sh
mlflow models predict -m models:/{name}@champion -t csv -i clips.csv --env-manager local
```"""
