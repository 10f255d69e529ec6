"""Command line of a verb, generated from the signature and docstring of its function.

Parameters before `*` are positional, parameters after it are flags. A flag may be written with `-` instead of `_`, a
`bool` flag has no value, and a flag for a list may be repeated. A parameter of type `Settings` adds `--config FILE`,
`--print_config` and one flag `--group.leaf VALUE` per leaf of the configuration. A parameter of type `LabelTiming` adds
one flag `--label_FIELD` per field of this class. A parameter of type `Command` receives all words after `--`.
"""

import argparse
import inspect
import re
import shlex
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, NewType, NoReturn, Union, get_args, get_origin

from detector.config import Config
from detector.config.extensions import TABLES
from detector.config.label_timing import LabelTiming
from evforge.recipes import find_config
from evforge.search.policies.tables import SAMPLERS, SCHEDULERS

__all__ = ["Command", "Settings", "argument_docs", "parse", "summary"]

Command = NewType("Command", list[str])
"""The words of another `evforge` command, given after `--`."""

LEAF_FLAG = re.compile(r"--([A-Za-z_]\w*\.[\w.]+)(?:=(.*))?", re.DOTALL)
DASHED_FLAG = re.compile(r"^--([a-z][a-z_]*-[a-z_-]*)(?==|$)")


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

    def words(self, group: str) -> list[str]:
        """Return words for a shell command that has the same `--config` and the same flags of one group."""
        flags = [f"--{key}={shlex.quote(text)}" for key, text in self.overrides.items() if key.startswith(f"{group}.")]
        return ([] if self.file is None else ["--config", shlex.quote(self.file)]) + flags

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


def parse(verb: str, function: Callable, arguments: Sequence[str]) -> dict[str, Any]:
    """Parse the command line of a verb.

    Args:
        verb: name of the verb, for the help text.
        function: function of the verb.
        arguments: words of the command line after the name of the verb.

    Returns:
        Keyword arguments for `function`.

    Raises:
        ValueError: an argument is missing, unknown or malformed.
        SystemExit: with `--help`, after the help was printed.
    """
    parameters = inspect.signature(function).parameters
    settings = next((name for name, p in parameters.items() if p.annotation is Settings), None)
    command = next((name for name, p in parameters.items() if p.annotation is Command), None)
    mark = list(arguments).index("--") if command and "--" in arguments else len(arguments)
    arguments, after = arguments[:mark], arguments[mark + 1 :]
    arguments = [DASHED_FLAG.sub(lambda flag: f"--{flag[1].replace('-', '_')}", text) for text in arguments]
    overrides, rest = _split(arguments) if settings else ({}, arguments)
    asked = {"-h", "--help"} & set(rest)
    parser = _make_parser(verb, function, settings, overrides if asked else {})
    values, unknown = parser.parse_known_args(rest)
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]}, {_hint(unknown[0], parser, settings is not None)}")
    found = vars(values)
    for name, parameter in parameters.items():
        if parameter.annotation is LabelTiming:
            found[name] = LabelTiming(**{field.name: found.pop(f"label_{field.name}") for field in fields(LabelTiming)})
    if settings:
        print_only = found.pop("print_config")
        found[settings] = Settings(found.pop("config"), overrides, print_only)
    if command:
        found[command] = Command(list(after))
    return found


def summary(thing: Any) -> str:
    """Return the first line of the docstring of `thing`."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def argument_docs(thing: Any) -> dict[str, str]:
    """Return a dict from the names of arguments to descriptions, read from the Google-style docstring of `thing`."""
    section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)*)", inspect.getdoc(thing) or "", re.MULTILINE)
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _make_parser(verb: str, function: Callable, settings: str | None, overrides: Mapping[str, str]) -> _Parser:
    description = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0]
    parser = _Parser(
        prog=f"evforge {verb}",
        description=description,
        epilog=_leaf_help(overrides) if settings else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    docs = argument_docs(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name == settings:
            parser.add_argument("--config", metavar="FILE", help="YAML file with settings, or the name of a recipe")
            parser.add_argument("--print_config", action="store_true", help="print the resolved settings and stop")
        elif parameter.annotation is LabelTiming:
            _add_timing(parser)
        elif parameter.annotation is not Command:
            _add_argument(parser, parameter, docs.get(name, ""))
    if any(parameter.annotation is Command for parameter in inspect.signature(function).parameters.values()):
        parser.usage = parser.format_usage().removeprefix("usage: ").rstrip() + " [-- VERB ...]"
    return parser


def _add_argument(parser: _Parser, parameter: inspect.Parameter, text: str) -> None:
    required = parameter.default is inspect.Parameter.empty
    default = None if required else parameter.default
    options: dict[str, Any] = {"help": text.replace("%", "%%"), "default": default, **_reader(parameter.annotation)}
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        if default is not None and default is not False:
            options["help"] += f" (default: {default})"
        if options.get("nargs") == "+":
            options["action"] = "extend"  # the flag may be repeated
        parser.add_argument(f"--{parameter.name}", required=required, **options)
    else:
        if not required and "nargs" not in options:
            options["nargs"] = "?"
        parser.add_argument(parameter.name, **options)


def _add_timing(parser: _Parser) -> None:
    docs = argument_docs(LabelTiming)
    for entry in fields(LabelTiming):
        text = docs[entry.name] + (f" (default: {entry.default})" if entry.default is not None else "")
        reader = _reader(entry.type)
        parser.add_argument(f"--label_{entry.name}", help=text.replace("%", "%%"), default=entry.default, **reader)


def _reader(annotation: Any) -> dict[str, Any]:
    """Return the keyword arguments of argparse's `add_argument` for a parameter with this type annotation.

    Allowed types are `str`, `int`, `float`, `bool`, `Literal`, lists of these, and each of them with `| None`.
    """
    if annotation is bool:
        return {"action": "store_true"}
    if get_origin(annotation) in (types.UnionType, Union):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is list:
        return {**_reader(get_args(annotation)[0]), "nargs": "+"}
    if get_origin(annotation) is Literal:
        return {"choices": get_args(annotation)}
    return {"type": annotation, "metavar": {int: "N", float: "X"}.get(annotation, "TEXT")}


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split a command line into a dict `{"group.leaf": value}` from the flags of settings, and the other words."""
    overrides: dict[str, str] = {}
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        flag = LEAF_FLAG.fullmatch(argument)
        if flag is None:
            rest.append(argument)
            continue
        value = flag[2] if flag[2] is not None else next(waiting, None)
        if value is None or (flag[2] is None and value.startswith("--")):
            raise ValueError(f"--{flag[1]}: expects a value")
        overrides[flag[1]] = value
    return overrides, rest


def _hint(argument: str, parser: argparse.ArgumentParser, with_leaves: bool) -> str:
    flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    name = argument.partition("=")[0]
    if with_leaves:
        leaves = Config().to_flat()
        same_leaf = [f"--{key}" for key in leaves if key.partition(".")[2] == name.lstrip("-")]
        if same_leaf:
            return f"did you mean {same_leaf[0]}?"
        flags += [f"--{key}" for key in leaves]
    close = get_close_matches(name, flags, n=1)
    return f"did you mean {close[0]}?" if close else "see --help"


def _leaf_help(overrides: Mapping[str, str]) -> str:
    """Return the help text of all settings: description, allowed values, default, and the given value if any.

    Args:
        overrides: values given on the command line, as `{"group.leaf": text}`.
    """
    defaults, now, lines = Config().to_flat(), Config().with_overrides(overrides).to_flat(), []
    for group in fields(Config):
        lines += ["", f"{group.name}: {summary(group.type)}"]
        docs = argument_docs(group.type)
        for leaf in fields(group.type):  # type: ignore[arg-type]
            key = f"{group.name}.{leaf.name}"
            default = "none" if defaults[key] in (None, "", []) else defaults[key]
            given = f", given: {now[key]}" if key in overrides else ""
            lines.append(f"  --{key:<36} {docs[leaf.name]}{_allowed(key, leaf, now[key])} (default: {default}{given})")
    return "settings, as flags or as `group: {leaf: value}` in the file:\n" + "\n".join(lines)


def _allowed(key: str, leaf: Any, value: Any) -> str:
    """Return the part of the help text that describes the allowed values of a setting.

    Args:
        key: `group.leaf` of the setting.
        leaf: dataclass field of the setting.
        value: current value. If it is an import path, the text includes it.

    Returns:
        The text, beginning with ";". Empty if all values of the field's type are allowed.
    """
    tables = {**TABLES, SAMPLERS.key: SAMPLERS, SCHEDULERS.key: SCHEDULERS}
    if key in tables:
        if value not in tables[key] and value not in tables[key].extra:
            tables[key][value]  # this look-up adds an import path to the allowed names
        return f"; allowed: {tables[key].allowed}"
    if get_origin(leaf.type) is Literal:
        return f"; allowed: {', '.join(map(str, get_args(leaf.type)))}"
    return f"; {leaf.metadata['range']}" if "range" in leaf.metadata else ""
