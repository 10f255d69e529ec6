"""All settings of EvForge as a tree of frozen dataclasses, which are checked when they are made.

A leaf is a single setting. It has the same name `group.leaf` as a field, in YAML files and search spaces, on the
command line and in MLflow. Leaf names are unique over all groups. The flat `argparse.Namespace` that
`LightningDetectionModel` takes therefore contains the same information as the tree.
"""

import argparse
import hashlib
import json
import re
from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from detector.config.checks import raise_all
from detector.config.groups import (
    AnchorConfig,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrackConfig,
    TrainConfig,
    TuneConfig,
)

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """The tree of all settings, immutable."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    track: TrackConfig = field(default_factory=TrackConfig)

    @classmethod
    def load(cls, path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> "Config":
        """Read settings from a YAML file, and replace some of them.

        Args:
            path: YAML file with some or all settings. Missing settings have their defaults. None for no file.
            overrides: `{"group.leaf": value}`, applied after the file.

        Raises:
            ValueError: the file is not YAML, a key does not exist, or a value has the wrong type or is not allowed.
            FileNotFoundError: the file does not exist.
        """
        values = {} if path is None else _read_file(path)
        return cls().with_overrides({**values, **(overrides or {})})

    def with_overrides(self, overrides: Mapping[str, Any]) -> "Config":
        """Return a copy with some leaves replaced. Types are checked, and strings are converted to the required types.

        Args:
            overrides: `{"group.leaf": value}`.

        Raises:
            ValueError: a key does not exist, or a value has the wrong type or is not allowed.
        """
        known, tree, mistakes = self.to_flat(), self.to_dict(), []
        for key, value in overrides.items():
            group, _, leaf = key.partition(".")
            if key in known:
                tree[group][leaf] = value
            else:
                mistakes.append(f"{key}: unknown key, {_hint(key, known)}")
        groups, more = _groups(tree, self.to_dict())
        raise_all(mistakes + more)
        return Config(**groups)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the tree as nested dicts `{"group": {"leaf": value}}`."""
        return {group.name: asdict(getattr(self, group.name)) for group in fields(self)}

    def to_flat(self) -> dict[str, Any]:
        """Return all leaves as one dict `{"group.leaf": value}`."""
        return {f"{group}.{leaf}": value for group, leaves in self.to_dict().items() for leaf, value in leaves.items()}

    def to_hparams(self) -> argparse.Namespace:
        """Return all leaves as a flat namespace without the group names, as `LightningDetectionModel` takes it."""
        return argparse.Namespace(**{key.partition(".")[2]: value for key, value in self.to_flat().items()})

    @classmethod
    def from_hparams(cls, hparams: argparse.Namespace | Mapping[str, Any]) -> "Config":
        """Create a `Config` from the values of leaves, by name without group. Missing leaves get their defaults."""
        values = dict(hparams) if isinstance(hparams, Mapping) else vars(hparams)
        groups = {
            name: group_type(**{leaf.name: values[leaf.name] for leaf in fields(group_type) if leaf.name in values})
            for name, group_type in _group_types().items()
        }
        return cls(**groups)

    def to_yaml(self) -> str:
        """Return the settings as YAML text, in the form that `load` reads."""
        import yaml

        return yaml.safe_dump(json.loads(json.dumps(self.to_dict())), sort_keys=False)

    def fingerprint(self) -> str:
        """Return a hash of all leaves as 16 hexadecimal digits. Different configurations have different hashes."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _read_file(path: str | Path) -> dict[str, Any]:
    """Read settings from a YAML file, as `{"group.leaf": value}`."""
    import yaml

    if Path(path).is_dir():
        raise ValueError(f"{path}: is a folder, allowed: a YAML file")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such configuration file")
    try:
        return _flatten(yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}, str(path))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not a text file, allowed: a YAML file") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def _groups(tree: dict[str, dict[str, Any]], base: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Convert values to their types, and create the groups.

    Args:
        tree: `{"group": {"leaf": value}}` of all leaves.
        base: the same with values that are allowed, which replace wrong ones until all mistakes are found.

    Returns:
        The groups by name, and the messages about all values that are not allowed.
    """
    from jsonargparse import ArgumentParser

    found, mistakes = {}, []
    for name, group_type in _group_types().items():
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(group_type, name)
        for _ in range(len(tree[name]) + 1):
            try:
                found[name] = parser.instantiate_classes(parser.parse_object({name: tree[name]}))[name]
                break
            except ArgumentError as error:
                message, leaf = _type_error(str(error), tree)
            except ValueError as error:  # of the checks of the group
                message, leaf = str(error), None
            mistakes.append(message)
            if leaf is None:
                break
            tree[name][leaf] = base[name][leaf]
    return found, mistakes


def _type_error(message: str, tree: Mapping[str, Mapping[str, Any]]) -> tuple[str, str | None]:
    """Convert an error message of jsonargparse to one line with the leaf, its value in `tree` and the allowed type.

    The original message has several lines and begins with `Parser key "group.leaf"`.

    Returns:
        The line, and the name of the leaf; None if the message does not name a leaf.
    """
    found = re.search(r'key "(\w+)\.(\w+)"', message)
    if found is None:
        return " ".join(message.split()), None
    group, leaf = found.groups()
    leaf_type = {field.name: field.type for field in fields(_group_types()[group])}[leaf]
    return f"{group}.{leaf}: got {tree[group][leaf]!r}, allowed: {_readable(leaf_type)}", leaf


def _readable(kind: Any) -> str:
    """Return a description of the values that the type `kind` allows, for error messages."""
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_readable, get_args(kind)))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}.get(
        kind, str(kind)
    )


def _group_types() -> dict[str, Any]:
    return {group.name: group.type for group in fields(Config)}


def _flatten(tree: Any, source: str) -> dict[str, Any]:
    """Return the settings of a file as `{"group.leaf": value}`; keys in the file may be nested or dotted."""
    if not isinstance(tree, dict):
        raise ValueError(
            f"{source}: a configuration contains groups ({', '.join(_group_types())}) of `leaf: value` lines"
        )
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= {f"{key}.{leaf}": inner for leaf, inner in value.items()} if isinstance(value, dict) else {key: value}
    known = Config().to_flat()
    raise_all([f"{source}: unknown key {key}, {_hint(str(key), known)}" for key in flat if key not in known])
    return flat


def _hint(key: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(key, known, n=1)
    group = [name for name in known if name.startswith(key.partition(".")[0] + ".")]
    return f"did you mean {close[0]}?" if close else "allowed: " + ", ".join(group or known)
