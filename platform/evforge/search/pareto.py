"""The Pareto front of metric and cost: the trials that no other trial beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evforge.display.tables import text_table

__all__ = ["Candidate", "front", "front_table", "front_yaml"]


@dataclass(frozen=True)
class Candidate:
    """A trial at its best validation.

    Args:
        name: name of the trial
        value: value of the metric
        cost: value of the cost; less is better
        epoch: epoch of the validation
        run_id: id of the MLflow run
        checkpoint: folder of the checkpoint
        sample: settings of the trial, `{"group.leaf": value}`
        schedule: (first epoch, sample) of all settings that the weights were trained with
    """

    name: str
    value: float
    cost: float
    epoch: int
    run_id: str
    checkpoint: Path
    sample: dict[str, Any]
    schedule: tuple[tuple[int, dict[str, Any]], ...] = ()


def front(candidates: Sequence[Candidate], mode: str) -> list[Candidate]:
    """The candidates that no other beats in metric and cost, cheapest first; the first of equals.

    Args:
        candidates: trials.
        mode: "max" if a larger metric is better, "min" if a smaller one is.
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
    lines = [(one.name, f"{one.value:.4f}", _cost(one.cost), str(one.epoch), _settings(one)) for one in found]
    return text_table([head, *lines], numbers=range(1, 4))


def front_yaml(found: Sequence[Candidate], metric: str, cost: str) -> str:
    """The front as YAML; the settings of each trial have the keys of `best.yaml`."""
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


def _cost(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"


def _settings(one: Candidate) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in one.sample.items()
    )
