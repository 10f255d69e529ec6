"""Settings on the command line: `--config FILE`, `--print_config`, and one flag `--group.leaf VALUE` per leaf."""

import argparse
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from detector.config import Config
from detector.config.credentials import USERNAME, split_password
from detector.config.extensions import TABLES, Table
from evforge.cli.docs import argument_docs, summary
from evforge.recipes import find_config
from evforge.search.policies.tables import SAMPLERS, SCHEDULERS

__all__ = ["GROUPS", "Settings", "add_settings"]

GROUPS = tuple(group.name for group in fields(Config))
"""Names of all groups of settings."""


@dataclass(frozen=True)
class Settings:
    """The part of a command line that sets the configuration.

    Args:
        file: YAML file, or the name of a recipe
        overrides: values of the flags, as `{"group.leaf": text}`
        print_only: whether to print the resolved configuration and stop
    """

    file: str | None = None
    overrides: dict[str, str] = field(default_factory=dict)
    print_only: bool = False

    def words(self, *groups: str) -> list[str]:
        """Return words for a shell command that has the same `--config` and the same flags of some groups.

        Passwords are removed from addresses. The user sets them as environment variables, such as
        MLFLOW_TRACKING_PASSWORD.
        """
        kept = {key: _without_password(text) for key, text in self.overrides.items() if key.partition(".")[0] in groups}
        flags = [f"--{key}={shlex.quote(text)}" for key, text in kept.items()]
        return ([] if self.file is None else ["--config", shlex.quote(self.file)]) + flags

    def check(self) -> None:
        """Check the file, if there is one, without the flags.

        Raises:
            ValueError: the file has an unknown key or a value that is not allowed.
            FileNotFoundError: the file does not exist.
        """
        if self.file is not None:
            Config.load(find_config(self.file))

    def resolve(self, base: Config | None = None, between: Mapping[str, Any] | None = None) -> Config:
        """Build the configuration: load the file or start from `base`, then apply `between`, and then the flags.

        Args:
            base: configuration to start from if there is no file; the defaults if None.
            between: `{"group.leaf": value}`; the flags replace these values.

        Raises:
            ValueError: an unknown key or a value that is not allowed.
            FileNotFoundError: the file does not exist.
            SystemExit: with `--print_config`, after the configuration was printed.
        """
        start = Config() if base is None else base
        if self.file is not None:
            start = Config.load(find_config(self.file))
        config = start.with_overrides({**(between or {}), **self.overrides})
        if self.print_only:
            print(config.to_yaml(), end="")
            sys.exit(0)
        return config


def _without_password(text: str) -> str:
    """Remove the password from the value of a flag if it is an address with a password."""
    address, removed = split_password(text) if "//" in text else (text, {})
    return address if removed.keys() - {USERNAME} else text


class _Open(tuple[str, ...]):
    """Names that a shell completes. `Config` decides which values are allowed."""

    def __contains__(self, value: object) -> bool:
        return True


def add_settings(
    parser: argparse.ArgumentParser, shown: Iterable[str], given: Mapping[str, str], complete_config: Any = "file"
) -> None:
    """Add `--config`, `--print_config` and the flags of all settings to a parser.

    Args:
        parser: parser of a verb.
        shown: names of the groups that the help describes.
        given: values that the help shows beside the defaults, as `{"group.leaf": text}`.
        complete_config: how shells complete the value of `--config`, in the form of the package shtab.
    """
    config = parser.add_argument("--config", metavar="FILE", help="YAML file with settings, or the name of a recipe")
    config.complete = complete_config  # type: ignore[attr-defined]
    parser.add_argument("--print_config", action="store_true", help="print the resolved settings and stop")
    defaults, now = Config().to_flat(), Config().with_overrides(given).to_flat() if given else {}
    for group in fields(Config):
        section = parser.add_argument_group(f"{group.name}: {summary(group.type).rstrip('.')}")
        docs = argument_docs(group.type)
        for leaf in fields(group.type):  # type: ignore[arg-type]
            key = f"{group.name}.{leaf.name}"
            text = argparse.SUPPRESS
            if group.name in shown:
                default = "none" if defaults[key] in (None, "", []) else defaults[key]
                changed = f", given: {now[key]}" if key in given else ""
                allowed = _allowed(key, leaf, now.get(key, defaults[key]))
                text = f"{docs[leaf.name]}{allowed} (default: {default}{changed})".replace("%", "%%")
            names = _Open(_names(key, leaf.type))
            flag = section.add_argument(
                f"--{key}",
                dest=key,
                default=argparse.SUPPRESS,
                metavar=_metavar(leaf.type),
                choices=names or None,
                help=text,
            )
            if leaf.type in (str, str | None) and not names:
                flag.complete = "file"  # type: ignore[attr-defined]


def _names(key: str, kind: Any) -> list[str]:
    """Return the names that are allowed as values of a setting; empty if they are not a short list."""
    tables = _tables()
    if key in tables:
        return [*tables[key].extra, *tables[key]]
    if get_origin(kind) in (UnionType, Union):
        return [name for part in get_args(kind) for name in _names("", part)]
    if get_origin(kind) is Literal:
        return [str(name) for name in get_args(kind)]
    return ["true", "false"] if kind is bool else []


def _tables() -> dict[str, Table]:
    return {**TABLES, SAMPLERS.key: SAMPLERS, SCHEDULERS.key: SCHEDULERS}


def _metavar(kind: Any) -> str:
    """Return the kind of the values of a setting, as the help shows it."""
    if get_origin(kind) in (UnionType, Union):
        parts = [_metavar(part) for part in get_args(kind) if part is not NoneType]
        return "X" if parts == ["N", "X"] else "|".join(parts)
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    return {bool: "true|false", int: "N", float: "X", str: "TEXT"}.get(kind, "LIST")


def _allowed(key: str, leaf: Any, value: Any) -> str:
    """Return the part of the help text that describes the allowed values of a setting.

    Args:
        key: `group.leaf` of the setting.
        leaf: dataclass field of the setting.
        value: current value. If it is an import path, the text includes it.

    Returns:
        The text, beginning with ";". Empty if the metavar of the flag shows what is allowed.
    """
    tables = _tables()
    if key in tables:
        if value not in tables[key] and value not in tables[key].extra:
            tables[key][value]  # this look-up adds an import path to the allowed names
        return f"; allowed: {tables[key].allowed}"
    return f"; {leaf.metadata['range']}" if "range" in leaf.metadata else ""
