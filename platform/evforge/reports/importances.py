"""Which searched settings explain the differences between trials, with intervals."""

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from evforge.reports.study_data import Study, value_text
from evforge.space.domains import Domain

__all__ = ["LEAST_TRIALS", "Importance", "measure_importances"]

LEAST_TRIALS = 4
"""Least number of trials for which importances are computed."""
RESAMPLES, FEW_TREES = 20, 16
"""Bootstrap: number of resamples, and number of trees of each of their forests."""


class Importance(NamedTuple):
    """Share of the variation of the metric that a setting explains.

    Args:
        share: the share, from 0 to 1. The shares of all settings add up to 1.
        low: lower bound of the 90 % interval.
        high: upper bound of the 90 % interval.
    """

    share: float
    low: float
    high: float


def measure_importances(study: Study) -> dict[str, Importance]:
    """Compute with Optuna's fANOVA which share of the metric's variation each setting explains.

    The intervals are computed from bootstrap resamples of the trials. Optuna's default method, PED-ANOVA, uses only the
    best tenth of the trials. Of 24 trials, it would use two or three.

    Args:
        study: the study.

    Returns:
        Importances by key of the setting, the largest first; empty if there are too few trials.

    Raises:
        RuntimeError: all trials have the same value of the metric.
    """
    domains = {key: domain for key, domain in study.space.domains.items() if len(set(map(repr, domain.extremes))) > 1}
    complete = study.complete(domains)
    if len(complete) < LEAST_TRIALS or not domains:
        return {}
    columns = {
        key: [value_text(trial.values[key]) if domain.is_choice else trial.values[key] for trial, _ in complete]
        for key, domain in domains.items()
    }
    kinds = {key: _distribution(domain, columns[key]) for key, domain in domains.items()}
    rows = [{key: column[index] for key, column in columns.items()} for index in range(len(complete))]
    values = [value for _, value in complete]
    shares = _shares(rows, values, kinds)
    draw, resamples = random.Random(0), []
    for _ in range(RESAMPLES):
        chosen = draw.choices(range(len(rows)), k=len(rows))
        with suppress(RuntimeError):  # all trials of the resample have the same value
            resamples.append(_shares([rows[k] for k in chosen], [values[k] for k in chosen], kinds, FEW_TREES))
    return {key: _importance(share, [one[key] for one in resamples]) for key, share in shares.items()}


def _importance(share: float, resampled: Sequence[float]) -> Importance:
    low, high = np.quantile(resampled or [share], (0.05, 0.95))
    return Importance(share, min(share, float(low)), max(share, float(high)))


def _shares(
    rows: Sequence[dict[str, Any]], values: Sequence[float], kinds: Mapping[str, Any], trees: int = 64
) -> dict[str, float]:
    """Compute the share of each setting.

    Args:
        rows: sampled values of each trial by key of the setting.
        values: value of the metric of each trial.
        kinds: Optuna's distribution of each setting.
        trees: number of trees of the random forest.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()  # the direction does not change the shares
    for row, value in zip(rows, values, strict=True):
        study.add_trial(optuna.trial.create_trial(params=row, distributions=dict(kinds), value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(share) for key, share in found.items()}


def _distribution(domain: Domain, sampled: Sequence[Any]) -> Any:
    """Convert a domain to a distribution of Optuna.

    Args:
        domain: the domain of a setting.
        sampled: values of the trials. If the domain is a choice, these are the options of the distribution.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if domain.is_choice:
        return CategoricalDistribution(sorted(set(sampled)))
    if domain.kind == "randint":
        return IntDistribution(int(domain.low), int(domain.high))
    return FloatDistribution(domain.low, domain.high, log=domain.kind == "loguniform")
