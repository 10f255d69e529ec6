"""Pareto front of a search: the trials that no other trial dominates in metric and cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evforge.display.tables import text_table

__all__ = ["Candidate", "front", "front_table", "front_yaml"]


@dataclass(frozen=True)
class Candidate:
    """A trial with the values of its best validation.

    Args:
        name: name of the trial
        value: value of the metric
        cost: value of the cost; less is better
        epoch: epoch of the validation
        run_id: id of the MLflow run
        checkpoint: folder of the checkpoint
        sample: settings that the search chose for the trial, `{"group.leaf": value}`
        schedule: settings of the training by epoch: each pair contains the epoch from which settings were used, and
            these settings; several pairs only if a scheduler changed the settings during the training
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
    """Return the candidates that no other candidate dominates in metric and cost, in order of increasing cost.

    Of candidates with equal metric and cost, only the first is returned.

    Args:
        candidates: the trials to compare.
        mode: "max" if a larger metric is better, "min" if a smaller metric is better.
    """
    sign = 1 if mode == "max" else -1
    found: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (one.cost, -sign * one.value)):
        if not found or sign * candidate.value > sign * found[-1].value:
            found.append(candidate)
    return found


def front_table(found: Sequence[Candidate], metric: str, cost: str) -> str:
    """Format the Pareto front as a text table, one row per trial.

    Args:
        found: the trials on the Pareto front.
        metric: name of the metric, for the header.
        cost: name of the cost, for the header.
    """
    head = ("trial", metric, cost, "epoch", "settings")
    lines = [(one.name, f"{one.value:.4f}", _cost(one.cost), str(one.epoch), _settings(one)) for one in found]
    return text_table([head, *lines], numbers=range(1, 4))


def front_yaml(found: Sequence[Candidate], metric: str, cost: str) -> str:
    """Format the Pareto front as YAML, one entry per trial. The settings of a trial have keys such as `optim.lr`.

    Args:
        found: the trials on the Pareto front.
        metric: name of the metric, used as a key.
        cost: name of the cost, used as a key.
    """
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
