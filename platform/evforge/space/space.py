"""Search spaces: YAML files with keys of the configuration. Samples are drawn at random, as a grid or by Optuna.

    tune: {num_samples: 6}                      # optional: settings of the study
    space:
      anchors.anchor_list: {choice: [PSEE_ANCHORS, [[1, 1], [2.5, 1]], {fit: 6}]}   # see evforge.space.anchor_options
      anchors.fg_iou_threshold: {uniform: [0.4, 0.6]}
      anchors.bg_iou_threshold: {uniform: [0.2, 0.5]}
      constraints: [anchors.bg_iou_threshold <= anchors.fg_iou_threshold]

A sample is a dict from searched keys to primitives, because Optuna's storage and tables accept only primitives. A
choice that is a list is stored as JSON text. `Space.overrides_of` converts a sample to configuration values.
"""

import itertools
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from detector.config import Config
from evforge.space.anchor_options import ANCHOR_LIST, expand_options, fit_count
from evforge.space.domains import Domain, parse_domain

__all__ = ["Space", "load_space", "space_text"]

Suggest = Callable[[str, Domain], Any]
FIXED_GROUPS = ("tune", "track")


@dataclass(frozen=True)
class Space:
    """A search space.

    Args:
        path: path of the YAML file, used in error messages
        settings: `{"group.leaf": value}` that the file sets for all trials
        domains: domain of each searched key
        constraints: pairs (a, b) of keys; the value of a must be at most the value of b
    """

    path: str
    settings: dict[str, Any]
    domains: dict[str, Domain]
    constraints: tuple[tuple[str, str], ...] = ()

    def overrides_of(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a sample to configuration values `{"group.leaf": value}` of the searched keys."""
        return {key: domain.value_of(sample[key]) for key, domain in self.domains.items()}

    def random_samples(self, config: Config, count: int, seed: int) -> list[dict[str, Any]]:
        """Draw independent samples.

        Args:
            config: base configuration, which contains the values of keys that are not searched.
            count: number of samples.
            seed: seed of the random numbers. Sample number i depends only on `seed` and i, not on `count`.
        """
        return [self._draw(config, _random_suggest(random.Random(f"{seed}-{index}"))) for index in range(count)]

    def grid_samples(self, config: Config) -> list[dict[str, Any]]:
        """Return all combinations of the options, except combinations that violate a constraint.

        The options of the last key change fastest.

        Raises:
            ValueError: a domain is a range and not a choice.
        """
        for key, domain in self.domains.items():
            if not domain.is_choice:
                raise ValueError(
                    f"{self.path}: space.{key}: got {domain.kind}, allowed with tune.searcher grid: choice or grid"
                )
        combinations = itertools.product(*(domain.options for domain in self.domains.values()))
        samples = [dict(zip(self.domains, options, strict=True)) for options in combinations]
        known = config.to_flat()
        return [
            sample
            for sample in samples
            if all(sample.get(low, known[low]) <= sample.get(high, known[high]) for low, high in self.constraints)
        ]

    def suggest(self, config: Config, trial: Any) -> dict[str, Any]:
        """Let an Optuna trial choose the value of one key after another (define-by-run), and return the sample."""

        def suggest(key: str, domain: Domain) -> Any:
            # Optuna rejects a parameter whose choices change. A choice limited by a constraint is a separate parameter.
            restricted = domain.is_choice and domain != self.domains[key]
            return domain.suggest(trial, f"{key} of {list(domain.options)}" if restricted else key)

        return self._draw(config, suggest)

    def draw_near(
        self, config: Config, sample: Mapping[str, Any], generator: random.Random, redrawn: float
    ) -> dict[str, Any]:
        """Draw a sample near `sample`.

        Args:
            config: base configuration, which contains the values of keys that are not searched.
            sample: the old sample.
            generator: source of random numbers.
            redrawn: probability, for each key, that the new value is random; otherwise it is near the old value.
        """

        def suggest(key: str, domain: Domain) -> Any:
            return domain.draw(generator) if generator.random() < redrawn else domain.draw_near(sample[key], generator)

        return self._draw(config, suggest)

    def check(self, config: Config, check_config: Callable[[Config], object] = lambda config: None) -> None:
        """Check that every option of a choice and both ends of every range give valid configurations.

        Args:
            config: base configuration.
            check_config: function that raises a ValueError for a configuration that cannot be trained.

        Raises:
            ValueError: a configuration or a domain is invalid; the message states the file, the key, and the accepted
                values.
        """
        if config.tune.searcher == "grid":
            self.grid_samples(config)
        for key, domain in self.domains.items():
            if domain.kind == "grid" and config.tune.searcher != "grid":
                raise ValueError(
                    f"{self.path}: space.{key}: got grid with tune.searcher {config.tune.searcher}, "
                    "allowed: choice, or tune.searcher grid"
                )
        samples = {}
        for index, (key, domain) in enumerate(self.domains.items()):
            for option in domain.extremes:
                sample = self._draw(config, _extreme_suggest(random.Random(index), key, option))
                samples[json.dumps(sample)] = sample
        for sample in samples.values():
            try:
                check_config(config.with_overrides(self.overrides_of(sample)))
            except ValueError as error:
                drawn = ", ".join(f"{key} {value}" for key, value in sample.items())
                raise ValueError(f"{self.path}: a sample ({drawn}) is not a valid configuration: {error}") from None

    def _draw(self, config: Config, suggest: Suggest) -> dict[str, Any]:
        """Draw a sample that meets the constraints.

        The larger key of each constraint is drawn first. Its value limits the domain of the smaller key.

        Args:
            config: base configuration, which contains the values of keys that are not searched.
            suggest: function that gets a key and its limited domain, and returns a value.
        """
        bounds, known = self._bounds(config), config.to_flat()
        sample: dict[str, Any] = {}
        for key in self._order():
            uppers = [sample.get(upper, known[upper]) for lower, upper in self.constraints if lower == key]
            sample[key] = suggest(key, self.domains[key].within(bounds.get(key), min(uppers, default=None)))
        return {key: sample[key] for key in self.domains}

    def _order(self) -> list[str]:
        """Sort the searched keys: in each constraint `a <= b`, b comes before a.

        Raises:
            ValueError: the constraints form a cycle.
        """
        graph: dict[str, list[str]] = {key: [] for key in self.domains}
        for lower, upper in self.constraints:
            if lower in graph and upper in graph:
                graph[lower].append(upper)
        try:
            return list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise ValueError(f"{self.path}: constraints form a cycle: {' <= '.join(error.args[1])}") from None

    def _bounds(self, config: Config) -> dict[str, float]:
        """Compute the smallest usable value of each searched key that is part of a constraint.

        In a constraint `a <= b`, a value of b is usable only if it is at least the smallest usable value of a.

        Raises:
            ValueError: a constraint cannot be met.
        """
        known = config.to_flat()
        bounds: dict[str, float] = {}
        constrained = set(itertools.chain.from_iterable(self.constraints))
        for key in reversed(self._order()):
            if key in constrained:
                lowers = [bounds.get(lower, known[lower]) for lower, upper in self.constraints if upper == key]
                at_least = max(lowers, default=-math.inf)
                smallest = self.domains[key].smallest(at_least)
                if smallest is None:
                    raise ValueError(f"{self.path}: space.{key}: the constraints need a value of at least {at_least}")
                bounds[key] = smallest
        for lower, upper in self.constraints:
            if upper not in self.domains and bounds[lower] > known[upper]:
                raise ValueError(
                    f"{self.path}: constraint {lower} <= {upper} cannot be met: {lower} is at least "
                    f"{bounds[lower]}, {upper} is {known[upper]}"
                )
        return bounds


def load_space(path: str | Path) -> Space:
    """Read a search space from a YAML file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a key, domain or constraint is invalid; the message states what is accepted.
    """
    import yaml

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such search space; see tune_spaces/ for examples")
    try:
        tree = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("space"), dict) or not tree["space"]:
        raise ValueError(f"{path}: a search space contains `space:` with lines `group.leaf: {{domain: values}}`")
    entries = dict(tree.pop("space"))
    constraints = entries.pop("constraints", None) or []
    if not entries:
        raise ValueError(f"{path}: space: got no keys, allowed: at least one `group.leaf: {{domain: values}}`")
    domains = {key: _load_domain(str(path), key, entry) for key, entry in entries.items()}
    lists = domains[ANCHOR_LIST].options if ANCHOR_LIST in domains else ()
    if "anchors.base_size" in domains and any(map(fit_count, lists)):
        raise ValueError(
            f"{path}: space.anchors.base_size: cannot be searched with fitted anchors, which are relative to it"
        )
    pairs = tuple(_load_constraint(str(path), text, domains) for text in constraints)
    return Space(str(path), _load_settings(str(path), tree), domains, pairs)


def space_text(source: str | Path, space: Space) -> str:
    """Return the text of a search space file, with the anchor lists of `space` in place of those in the file.

    Args:
        source: file from which the space was loaded.
        space: the loaded space, in which anchor lists were fitted or dropped.
    """
    import yaml

    text = Path(source).read_text()
    tree, domain = yaml.safe_load(text), space.domains.get(ANCHOR_LIST)
    if domain is not None and domain != load_space(source).domains[ANCHOR_LIST]:
        tree["space"][ANCHOR_LIST] = {domain.kind: [domain.value_of(option) for option in domain.options]}
        text = yaml.safe_dump(tree, sort_keys=False)
    return text


def _load_domain(path: str, key: str, entry: Any) -> Domain:
    _require_key(f"{path}: space", key)
    if key.partition(".")[0] in FIXED_GROUPS:
        raise ValueError(f"{path}: space.{key}: cannot be searched, as {' and '.join(FIXED_GROUPS)} apply to the study")
    try:
        return parse_domain(expand_options(entry) if key == ANCHOR_LIST else entry)
    except ValueError as error:
        raise ValueError(f"{path}: space.{key}: {error}") from None


def _load_constraint(path: str, text: Any, domains: Mapping[str, Domain]) -> tuple[str, str]:
    lower, separator, upper = (part.strip() for part in str(text).partition("<="))
    if not separator or not lower or not upper:
        raise ValueError(f"{path}: space.constraints: got {text!r}, allowed: `group.leaf <= group.leaf`")
    known = Config().to_flat()
    for key in (lower, upper):
        _require_key(f"{path}: space.constraints", key)
        numeric = domains[key].is_numeric if key in domains else isinstance(known[key], int | float)
        if not numeric:
            raise ValueError(f"{path}: space.constraints: got {text!r}, but {key} is not a number")
    if lower not in domains and upper not in domains:
        raise ValueError(f"{path}: space.constraints: got {text!r}, but neither key is searched")
    return lower, upper


def _load_settings(path: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for group, leaves in tree.items():
        if not isinstance(leaves, dict):
            raise ValueError(f"{path}: {group}: got {leaves!r}, allowed: space, or a group of `leaf: value` lines")
        settings.update({f"{group}.{leaf}": value for leaf, value in leaves.items()})
    for key in settings:
        _require_key(path, key)
    return settings


def _require_key(where: str, key: str) -> None:
    known = Config().to_flat()
    if key not in known:
        close = get_close_matches(key, known, n=1)
        group = [name for name in known if name.startswith(key.partition(".")[0] + ".")]
        hint = f"did you mean {close[0]}?" if close else "allowed: " + ", ".join(group or known)
        raise ValueError(f"{where}: unknown key {key}, {hint}")


def _random_suggest(generator: random.Random) -> Suggest:
    return lambda _, domain: domain.draw(generator)


def _extreme_suggest(generator: random.Random, fixed_key: str, fixed_option: Any) -> Suggest:
    def suggest(key: str, domain: Domain) -> Any:
        if key == fixed_key and domain.contains(fixed_option):
            return fixed_option
        return generator.choice(domain.extremes)

    return suggest
