"""Every setting of EvForge: one tree of frozen dataclasses, checked when it is made.

A leaf is named `group.leaf` everywhere: the field, the YAML key, the command line's flag, the key of a search
space and the MLflow parameter. Leaf names are unique over all groups, so the flat `argparse.Namespace` that
`LightningDetectionModel` takes and the tree hold the same information.
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
        """Read a YAML file and replace single leaves.

        Args:
            path: file with any of the groups; defaults if None.
            overrides: `{"group.leaf": value}`, applied last.

        Raises:
            ValueError: a key that does not exist, a value of the wrong type or outside its range.
            FileNotFoundError: there is no such file.
        """
        values: dict[str, Any] = {}
        if path is not None:
            import yaml

            if not Path(path).is_file():
                raise FileNotFoundError(f"{path}: no such configuration file")
            try:
                values = _flatten(yaml.safe_load(Path(path).read_text()) or {}, str(path))
            except yaml.YAMLError as error:
                raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        return cls().with_overrides({**values, **(overrides or {})})

    def with_overrides(self, overrides: Mapping[str, Any]) -> "Config":
        """A copy in which `{"group.leaf": value}` are replaced; types are checked, strings converted."""
        from jsonargparse import ArgumentParser

        tree = self.to_dict()
        for key, value in overrides.items():
            group, _, leaf = key.partition(".")
            if leaf not in tree.get(group, {}):
                raise ValueError(f"{key}: unknown key, {_hint(key, self.to_flat())}")
            tree[group][leaf] = value
        parser = ArgumentParser(exit_on_error=False)
        for name, group_type in _group_types().items():
            parser.add_class_arguments(group_type, name)
        try:
            parsed = parser.instantiate_classes(parser.parse_object(tree))
        except ArgumentError as error:
            raise ValueError(_type_error(str(error), tree)) from None
        return Config(**{name: parsed[name] for name in tree})

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The tree as nested dicts of plain values."""
        return {group.name: asdict(getattr(self, group.name)) for group in fields(self)}

    def to_flat(self) -> dict[str, Any]:
        """`{"group.leaf": value}` of every leaf."""
        return {f"{group}.{leaf}": value for group, leaves in self.to_dict().items() for leaf, value in leaves.items()}

    def to_hparams(self) -> argparse.Namespace:
        """The flat namespace of leaf names that `LightningDetectionModel` takes."""
        return argparse.Namespace(**{key.partition(".")[2]: value for key, value in self.to_flat().items()})

    @classmethod
    def from_hparams(cls, hparams: argparse.Namespace | Mapping[str, Any]) -> "Config":
        """The tree of a flat namespace; missing leaves have their defaults."""
        values = dict(hparams) if isinstance(hparams, Mapping) else vars(hparams)
        groups = {
            name: group_type(**{leaf.name: values[leaf.name] for leaf in fields(group_type) if leaf.name in values})
            for name, group_type in _group_types().items()
        }
        return cls(**groups)

    def to_yaml(self) -> str:
        """Text that `load` reads back."""
        import yaml

        return yaml.safe_dump(json.loads(json.dumps(self.to_dict())), sort_keys=False)

    def fingerprint(self) -> str:
        """Hash of every leaf: equal only for equal configurations."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _type_error(message: str, tree: Mapping[str, Mapping[str, Any]]) -> str:
    """Convert a message of jsonargparse, several lines that begin with `Parser key "group.leaf"`, to one line."""
    found = re.search(r'key "(\w+)\.(\w+)"', message)
    if found is None:
        return " ".join(message.split())
    group, leaf = found.groups()
    leaf_type = {field.name: field.type for field in fields(_group_types()[group])}[leaf]
    return f"{group}.{leaf}: got {tree[group][leaf]!r}, allowed: {_readable(leaf_type)}"


def _readable(kind: Any) -> str:
    """Description of the values of a type for users."""
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
    groups = _group_types()
    if not isinstance(tree, dict) or not all(isinstance(leaves, dict) for leaves in tree.values()):
        raise ValueError(f"{source}: a configuration contains groups ({', '.join(groups)}) of `leaf: value` lines")
    flat = {f"{group}.{leaf}": value for group, leaves in tree.items() for leaf, value in leaves.items()}
    known = Config().to_flat()
    for key in flat:
        if key not in known:
            raise ValueError(f"{source}: unknown key {key}, {_hint(key, known)}")
    return flat


def _hint(key: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(key, known, n=1)
    group = [name for name in known if name.startswith(key.partition(".")[0] + ".")]
    return f"did you mean {close[0]}?" if close else "allowed: " + ", ".join(group or known)
