"""Detectors between which neither mAP nor cost decides: of all trials those that no other beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evforge.display.tables import text_table

__all__ = ["Candidate", "front", "front_table", "front_yaml"]


@dataclass(frozen=True)
class Candidate:
    """A trial at its best validation.

    Args:
        name: the trial's
        value: the metric
        cost: what it is weighed against; less is better
        epoch: of the validation
        run_id: the MLflow run
        checkpoint: the checkpoint's folder
        sample: its settings, `{"group.leaf": value}`
    """

    name: str
    value: float
    cost: float
    epoch: int
    run_id: str
    checkpoint: Path
    sample: dict[str, Any]


def front(candidates: Sequence[Candidate], mode: str) -> list[Candidate]:
    """Those that no other beats in metric and cost, cheapest first; of equals the first.

    Args:
        candidates: trials.
        mode: "max" or "min": whether more or less of the metric is better.
    """
    sign = 1 if mode == "max" else -1
    found: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (one.cost, -sign * one.value)):
        if not found or sign * candidate.value > sign * found[-1].value:
            found.append(candidate)
    return found


def front_table(found: Sequence[Candidate], metric: str, cost: str) -> str:
    """The front as aligned text."""
    head = ("trial", metric, cost, "epoch", "settings")
    lines = [
        (one.name, f"{one.value:.4f}", _number(one.cost), str(one.epoch), ", ".join(_settings(one))) for one in found
    ]
    return text_table([head, *lines], numbers=range(1, 4))


def front_yaml(found: Sequence[Candidate], metric: str, cost: str) -> str:
    """The front as YAML; the settings of each are keys of `best.yaml`."""
    import yaml

    rows = [
        {
            "trial": one.name,
            metric: one.value,
            cost: one.cost,
            "epoch": one.epoch,
            "run_id": one.run_id,
            "checkpoint": str(one.checkpoint),
            "settings": one.sample,
        }
        for one in found
    ]
    return yaml.safe_dump(rows, sort_keys=False)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"


def _settings(candidate: Candidate) -> list[str]:
    def text(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return [f"{key} {text(value)}" for key, value in candidate.sample.items()]
