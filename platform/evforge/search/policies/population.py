"""Population-based training: weak trials continue from the checkpoints of strong trials.

The new settings of a weak trial are similar to the settings of the strong trial.
"""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining

from detector.config import Config
from evforge.cluster.ray_compat import last_population_checkpoint
from evforge.space.space import Space

__all__ = ["MUTABLE", "Population", "population"]

MUTABLE = (
    "anchors.fg_iou_threshold",
    "anchors.bg_iou_threshold",
    "anchors.allow_low_quality_matches",
    "loss.focal_alpha",
    "loss.focal_gamma",
    "loss.loc_beta",
    "loss.loc_weight",
    "optim.lr",
    "optim.weight_decay",
    "optim.gradient_clip",
)
"""Settings that may change during a training, because weights trained with other values remain usable."""

REDRAWN = 0.25
"""Probability that a new value is drawn at random instead of near the old value."""


def population(config: Config, space: Space) -> "Population":
    """Create the scheduler for population-based training from the settings of the study.

    Raises:
        ValueError: a searched key cannot change during a training, or another setting does not allow population-based
            training.
    """
    settings, validations = config.tune, config.train.max_epochs // config.train.val_every
    for key in space.domains:
        if key not in MUTABLE:
            raise ValueError(
                f"{space.path}: space.{key}: cannot be searched with tune.scheduler pbt, whose trials continue with "
                f"the weights of other trials, allowed: {', '.join(MUTABLE)}"
            )
    for name, value, ok, allowed in (
        ("tune.searcher", settings.searcher, settings.searcher == "random", "random"),
        ("tune.num_samples", settings.num_samples, settings.num_samples > 1, "at least 2"),
        ("tune.final_seeds", settings.final_seeds, settings.final_seeds == 1, "1"),
        ("train.workers", config.train.workers, config.train.workers == 1, "1"),
        ("tune.grace_epochs", settings.grace_epochs, settings.grace_epochs < validations, f"below {validations}"),
    ):
        if not ok:
            raise ValueError(f"{name}: got {value!r}, allowed with tune.scheduler pbt: {allowed}")
    return Population(config, space)


class Population(PopulationBasedTraining):
    """Ray Tune's scheduler for population-based training, with new settings drawn from a search space.

    The new settings meet the constraints of the search space.

    Args:
        config: settings of the study.
        space: space of the settings that change during a training.
    """

    def __init__(self, config: Config, space: Space) -> None:
        settings = config.tune
        super().__init__(
            time_attr="epoch",
            metric=settings.metric,
            mode=settings.mode,
            perturbation_interval=settings.grace_epochs * config.train.val_every,
            quantile_fraction=1 / settings.reduction_factor,
            custom_explore_fn=partial(_explore, space, config, random.Random(settings.space_seed)),
            log_config=False,
        )
        self._last_epoch = config.train.max_epochs // config.train.val_every * config.train.val_every

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict) -> str:
        """Let Ray Tune compare the trials after a validation. After the last epoch, the trials are not compared.

        If a trial continued from an earlier checkpoint after its last epoch, it would never end.
        """
        if result.get("epoch", 0) >= self._last_epoch:
            return self.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)

    def wanted(self, trials: list[Trial]) -> Iterator[Path]:
        """Yield the checkpoint folders that must not be deleted.

        For each trial, these are the checkpoint from which the trial resumes, and the one that other trials may load.
        """
        for trial in trials:
            if trial.checkpoint is not None:
                yield Path(trial.checkpoint.path)
            found = last_population_checkpoint(self, trial)
            if found is not None:
                yield found


def _explore(space: Space, config: Config, generator: random.Random, drawn: dict[str, Any]) -> dict[str, Any]:
    return {**drawn, "sample": space.draw_near(config, drawn["sample"], generator, REDRAWN)}
