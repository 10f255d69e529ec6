"""Dry run of a search: description of its trials, their resources and their cost. No trial is started."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from detector.config import Config
from evforge.anchors.candidates import anchors_of, coverage_of, list_name, training_boxes
from evforge.anchors.report import coverage_table
from evforge.cluster.session import Resources, local_resources, ray_session
from evforge.search.policies.tables import make_sampler
from evforge.search.trial_resources import concurrent_trials, final_trials, trial_count, trial_limits
from evforge.space.anchor_options import ANCHOR_LIST
from evforge.space.domains import Domain
from evforge.space.space import Space
from evforge.training.profiling import measure_rate

__all__ = ["describe_search", "search_facts"]

SHOWN_SAMPLES = 3
LONG = 20
"""If a value of a domain has more characters, each value of the domain is printed on a separate line."""


def describe_search(config: Config, space: Space) -> str:
    """Return a description of a search: space, first samples, trials, resources, cost, and coverage of the anchors.

    Args:
        config: checked settings of the study.
        space: search space that `resolve_lists` returned, in which all anchor lists are fitted.
    """
    count = trial_count(config, space)
    with _resources() as resources:
        sections = [
            _space_text(config, space),
            _samples_text(config, space),
            _trials_text(config, count),
            _resources_text(config, resources, count),
            _cost_text(_cost(config, resources, count)),
            _coverage_text(config, space),
        ]
    return "\n\n".join(sections)


def search_facts(config: Config, space: Space) -> dict[str, Any]:
    """Return what `describe_search` describes, as a dict of numbers, names and lists.

    The arguments are the same as for `describe_search`.
    """
    count = trial_count(config, space)
    with _resources() as resources:
        threads, limits = trial_limits(config, resources, count)
        return {
            "space": str(space.path),
            "domains": {key: asdict(domain) for key, domain in space.domains.items()},
            "constraints": [list(pair) for pair in space.constraints],
            "trials": count,
            "final_trials": final_trials(config, count),
            "searcher": config.tune.searcher,
            "scheduler": config.tune.scheduler,
            "metric": config.tune.metric,
            "per_trial": {**limits, "workers": config.train.workers, "threads": threads},
            "concurrent_trials": concurrent_trials(config, resources, count),
            "cpus": resources.cpus,
            "gpus": resources.gpus,
            "cost": _cost(config, resources, count),
            "training_boxes": len(training_boxes(config)),
        }


@contextmanager
def _resources() -> Iterator[Resources]:
    """Context manager that yields the available CPUs and GPUs.

    These are the resources of the Ray cluster at RAY_ADDRESS, or of this machine if RAY_ADDRESS is not set.
    """
    if "RAY_ADDRESS" in os.environ:
        with ray_session() as resources:
            yield resources
        return
    yield local_resources()


def _space_text(config: Config, space: Space) -> str:
    lines = [f"space: {space.path}, {_size(config, space)}"]
    width = max(map(len, space.domains))
    lines += [f"  {key:<{width}}  {_domain_text(domain)}" for key, domain in space.domains.items()]
    lines += [f"  {lower} <= {upper}" for lower, upper in space.constraints]
    return "\n".join(lines)


def _size(config: Config, space: Space) -> str:
    if config.tune.searcher == "grid":
        return f"{len(space.grid_samples(config))} combinations"
    counts = [_num_values(domain) for domain in space.domains.values()]
    listed = math.prod(count for count in counts if count is not None)
    if None in counts:
        return f"continuous: {counts.count(None)} ranges, {listed} combinations of the other keys' values"
    return f"{'at most ' if space.constraints else ''}{listed} combinations"


def _num_values(domain: Domain) -> int | None:
    """Return the number of values of a domain; None for a continuous range."""
    if domain.is_choice:
        return len(domain.options)
    return int(domain.high - domain.low) + 1 if domain.kind == "randint" else None


def _domain_text(domain: Domain) -> str:
    if domain.is_choice:
        values = [_value_text(option) for option in domain.options]
        separator = "\n      " if max(map(len, values)) > LONG else ", "
        return f"{domain.kind} of{separator.lstrip(',')}{separator.join(values)}"
    return f"{domain.kind} from {domain.low:g} to {domain.high:g}"


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return list_name(anchors_of(value)) if isinstance(value, str) and value.startswith("[[") else str(value)


def _samples_text(config: Config, space: Space) -> str:
    head, samples = "first samples:", make_sampler(config, space)
    if not isinstance(samples, list):
        head = f"examples of the first samples of {config.tune.searcher}:"
        samples = space.random_samples(config, config.tune.num_samples, config.tune.space_seed)
    texts = (
        ", ".join(f"{key} {_value_text(value)}" for key, value in sample.items()) for sample in samples[:SHOWN_SAMPLES]
    )
    return "\n".join([head, *(f"  {text}" for text in texts)])


def _trials_text(config: Config, count: int) -> str:
    settings, again = config.tune, final_trials(config, count)
    against = "" if settings.against == "none" else f", {settings.metric} against {settings.against}"
    text = f"trials: {count}, by {settings.searcher}{against}"
    if settings.scheduler == "asha":
        text += (
            f"; asha stops weak trials: 1 in {settings.reduction_factor} continues after {settings.grace_epochs} of "
            f"{_validations(config)} validations, then after {settings.reduction_factor} times as many, and so on"
        )
    if settings.scheduler == "pbt":
        text += (
            f"; pbt compares trials every {settings.grace_epochs} of {_validations(config)} validations: 1 in "
            f"{settings.reduction_factor} continues with the weights of a better trial and similar settings"
        )
    if again:
        further = settings.final_seeds - 1
        text += f"\n  then the best {again // further} again with {further} further seeds each: {again} more"
    return text


def _resources_text(config: Config, resources: Resources, count: int) -> str:
    threads, limits = trial_limits(config, resources, count)
    together = (
        f"{concurrent_trials(config, resources, count)} at a time, of {resources.cpus} CPUs and {resources.gpus} GPUs"
    )
    if config.train.workers > 1:
        each = f"1 {'GPU' if resources.use_gpu(config.train.use_gpu) else 'CPU'}"
        return (
            f"resources: {config.train.workers} workers of {each} per trial, each with {threads} threads; {together}\n"
            "  a trial reserves all workers together and no CPU before, so that trials cannot block each other"
        )
    gpus = f" and {limits['gpu']:g} GPU" if "gpu" in limits else ""
    return (
        f"resources: {limits['cpu']:g} CPU{gpus} and {threads} threads per trial; {together}\n"
        "  a trial reserves all its resources before it starts, so that trials cannot block each other"
    )


def _cost(config: Config, resources: Resources, count: int) -> dict[str, Any]:
    """Return the numbers of frames and steps of a search, and its hours if they can be measured on this machine."""
    train, val = _frames(config, "train"), _frames(config, "val")
    workers, epochs, validations = config.train.workers, config.train.max_epochs, _validations(config)
    per_trial = epochs * train + validations * val
    again = final_trials(config, count) * per_trial
    cost: dict[str, Any] = {
        "epochs": epochs,
        "steps_per_epoch": train // (config.data.num_tbins * config.data.batch_size * workers),
        "train_frames": train,
        "validations": validations,
        "val_frames": val,
        "frames_per_trial": per_trial,
        "most_frames": count * per_trial + again,
        "expected_frames": round(count * per_trial * _share_with_asha(config)) + again,
        "frames_per_s": None,
    }
    if not resources.grown:
        threads, _ = trial_limits(config, resources, count)
        cost["frames_per_s"] = rate = workers * measure_rate(config, threads, resources.use_gpu(config.train.use_gpu))
        together = rate * concurrent_trials(config, resources, count)
        cost["hours"] = [cost[name] / together / 3600 for name in ("expected_frames", "most_frames")]
    return cost


def _cost_text(cost: Mapping[str, Any]) -> str:
    expected, most = cost["expected_frames"], cost["most_frames"]
    lines = [
        f"cost: {cost['epochs']} epochs of {cost['steps_per_epoch']:,} steps ({cost['train_frames']:,} frames), "
        f"{cost['validations']} validations of {cost['val_frames']:,} frames: "
        f"{cost['frames_per_trial']:,} frames per trial",
        f"  at most {most:,} frames" + (f", about {expected:,} with asha" if expected < most else ""),
    ]
    if cost["frames_per_s"] is not None:
        hours = " to ".join(f"{value:.2g} h" for value in dict.fromkeys(cost["hours"]))
        rate = f"{cost['frames_per_s']:.0f} frames/s per trial"
        lines.append(f"  {hours} at {rate}, measured in a step with these settings")
    return "\n".join(lines)


def _frames(config: Config, mode: str) -> int:
    """Return the number of frames that a trial reads from a split in one epoch, after the limits in `config.train`.

    Args:
        config: settings of the study.
        mode: name of the split, "train" or "val".
    """
    from detector.data_factory import psee_data

    loader = psee_data(config.to_hparams(), mode)
    limit = config.train.limit_train_batches if mode == "train" else config.train.limit_val_batches
    steps = len(loader)
    if limit is not None:
        steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
    num_tbins, batch_size = loader.dataset.dataset.shape[:2]
    return steps * num_tbins * batch_size


def _validations(config: Config) -> int:
    return config.train.max_epochs // config.train.val_every


def _share_with_asha(config: Config) -> float:
    """Estimate which share of all validations remains if ASHA stops weak trials; 1 without ASHA.

    At each comparison of trials by ASHA, one in `tune.reduction_factor` trials is assumed to continue.
    """
    if config.tune.scheduler != "asha":
        return 1.0
    last, factor = _validations(config), config.tune.reduction_factor
    rung, reached, alive = min(config.tune.grace_epochs, last), 0.0, 1.0
    done = 0
    while done < last:
        reached += alive * (rung - done)
        done, rung, alive = rung, min(rung * factor, last), alive / factor
    return reached / last


def _coverage_text(config: Config, space: Space) -> str:
    if ANCHOR_LIST in space.domains:
        lists = [anchors_of(option) for option in space.domains[ANCHOR_LIST].options]
    else:
        lists = [config.anchors.anchor_list]
    labels, candidates = training_boxes(config), {list_name(anchors): anchors for anchors in lists}
    found = {name: coverage_of(labels, config, anchors) for name, anchors in candidates.items()}
    table = coverage_table(found, candidates, config).replace("\n", "\n  ")
    return f"anchors: coverage of {len(labels):,} training boxes\n  {table}"
