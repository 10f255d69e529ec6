"""Command line of a verb, generated from the signature and docstring of its function.

Parameters before `*` are positional, parameters after it are flags. A flag may be written with `-` instead of `_`, a
`bool` flag has no value, and a flag for a list may be repeated. A parameter of type `Settings` adds the flags of the
settings; `Annotated[Settings, "data", "train"]` accepts only the flags of these groups. A parameter of type
`LabelTiming` adds one flag `--label_FIELD` per field of this class. A parameter of type `Command` receives all words
after `--`. All mistakes in a command line are reported at once.
"""

import argparse
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin

from detector.config import Config
from detector.config.checks import raise_all
from detector.config.label_timing import LabelTiming
from evforge.cli.docs import argument_docs, description
from evforge.cli.settings import GROUPS, Settings, add_settings

__all__ = ["Command", "make_parser", "parse"]

Command = NewType("Command", list[str])
"""The words of another `evforge` command, given after `--`."""

DASHED_FLAG = re.compile(r"^--([a-z][a-z_]*-[a-z_-]*)(?==|$)")


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
        SystemExit: with `--help`, after the help was printed. `--help all` also describes the settings that the verb
            does not use.
    """
    special = _special(function)
    mark = list(arguments).index("--") if special.command and "--" in arguments else len(arguments)
    words = [DASHED_FLAG.sub(lambda flag: f"--{flag[1].replace('-', '_')}", text) for text in arguments[:mark]]
    if {"-h", "--help"} & set(words):
        _print_help(verb, function, words)
    parser = make_parser(verb, function)
    found, mistakes = parser.read(words)
    overrides = {key: found.pop(key) for key in list(found) if "." in key}
    mistakes += [_unused(verb, key, special.groups) for key in overrides if key.partition(".")[0] not in special.groups]
    if mistakes:
        raise_all(mistakes + _wrong_settings(overrides))
    for name in special.timings:
        found[name] = LabelTiming(**{field.name: found.pop(f"label_{field.name}") for field in fields(LabelTiming)})
    if special.settings:
        print_only = found.pop("print_config")
        found[special.settings] = Settings(found.pop("config"), overrides, print_only)
    if special.command:
        found[special.command] = Command(list(arguments[mark + 1 :]))
    return found


def make_parser(
    verb: str,
    function: Callable,
    shown: Iterable[str] | None = None,
    given: Mapping[str, str] | None = None,
    complete_config: Any = "file",
) -> "_Parser":
    """Create the argparse parser of a verb.

    Args:
        verb: name of the verb.
        function: function of the verb.
        shown: groups of settings that the help describes; those that the verb uses if None.
        given: values of settings that the help shows beside the defaults, as `{"group.leaf": text}`.
        complete_config: how shells complete the value of `--config`, in the form of the package shtab.
    """
    special = _special(function)
    parser = _Parser(
        prog=f"evforge {verb}",
        description=description(function),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32),
        allow_abbrev=False,
        exit_on_error=False,
    )
    docs = argument_docs(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in special.timings:
            _add_timing(parser)
        elif name not in (special.settings, special.command):
            _add_argument(parser, parameter, docs.get(name, ""))
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    if special.command:
        parser.usage = f"{usage} [-- VERB ...]"
    if special.settings:
        parser.usage = f"{usage} [--config FILE] [--GROUP.SETTING VALUE ...]"
        add_settings(parser, special.groups if shown is None else shown, given or {}, complete_config)
        parser.epilog = "The settings have the same keys in a YAML file, nested or dotted, and in a search space."
        if shown is None and set(special.groups) != set(GROUPS):
            parser.epilog += f" {verb} uses only those above; `--help all` describes all."
    return parser


class _Parser(argparse.ArgumentParser):
    """Parser that collects mistakes instead of ending the program at the first one."""

    def read(self, words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Parse words, and return the values by name and the messages of all mistakes."""
        self._mistakes: list[str] = []
        words, wrong = list(words), []
        while True:
            try:
                values, unknown = self.parse_known_args(words)
                break
            except argparse.ArgumentError as error:
                wrong.append(_explained(error))
                place = next((place for place, word in enumerate(words) if _flag(word) == error.argument_name), None)
                if place is None:
                    return {}, wrong
                words = words[:place] + words[_end(words, place) :]  # the other words can be read
        heads = [word for place, word in enumerate(unknown) if place == 0 or not _is_value(unknown, place)]
        return vars(values), wrong + [f"unknown argument {word}, {self._hint(word)}" for word in heads] + self._mistakes

    def error(self, message: str) -> None:  # type: ignore[override]
        """Store the message about missing arguments."""
        self._mistakes.append(message)

    def _hint(self, argument: str) -> str:
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        name = argument.partition("=")[0]
        if not name.startswith("-"):
            takes_path = any(not action.option_strings for action in self._actions)
            return _place_of(argument, flags, takes_path)
        same_leaf = [flag for flag in flags if flag.partition(".")[2] == name.lstrip("-")]
        close = same_leaf or get_close_matches(name, flags, n=1)
        return f"did you mean {close[0]}?" if close else "see --help"


@dataclass(frozen=True)
class _Special:
    """Names of the parameters of a verb that are not plain arguments, and the groups of settings that it uses."""

    settings: str | None
    groups: tuple[str, ...]
    command: str | None
    timings: tuple[str, ...]


def _special(function: Callable) -> _Special:
    settings, command = None, None
    groups: tuple[str, ...] = ()
    timings: tuple[str, ...] = ()
    for name, parameter in inspect.signature(function).parameters.items():
        kind, *used = [parameter.annotation]
        if get_origin(kind) is Annotated:
            kind, *used = get_args(kind)
        if kind is Settings:
            settings, groups = name, tuple(used) or GROUPS
        elif kind is Command:
            command = name
        elif kind is LabelTiming:
            timings = (*timings, name)
    return _Special(settings, groups, command, timings)


def _print_help(verb: str, function: Callable, words: Sequence[str]) -> None:
    others = [word for word in words if word not in ("-h", "--help")]
    given, _ = make_parser(verb, function).read(others)
    overrides = {key: value for key, value in given.items() if "." in key}
    make_parser(verb, function, GROUPS if "all" in others else None, overrides).print_help()
    raise SystemExit(0)


def _add_argument(parser: _Parser, parameter: inspect.Parameter, text: str) -> None:
    required = parameter.default is inspect.Parameter.empty
    default = None if required else parameter.default
    options: dict[str, Any] = {"help": text.replace("%", "%%"), "default": default, **_reader(parameter.annotation)}
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        if default is not None and default is not False:
            options["help"] += f" (default: {default})"
        if options.get("nargs") == "+":
            options["action"] = "extend"  # the flag may be repeated
        action = parser.add_argument(f"--{parameter.name}", required=required, **options)
    else:
        options.pop("metavar", None)  # a positional argument is shown by its name
        if not required:
            options["nargs"] = "*" if "nargs" in options else "?"
        action = parser.add_argument(parameter.name, **options)
    if action.type is str:
        action.complete = "file"  # type: ignore[attr-defined]  # in shells, by the package shtab


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
    if get_origin(annotation) in (UnionType, Union):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is list:
        return {**_reader(get_args(annotation)[0]), "nargs": "+"}
    if get_origin(annotation) is Literal:
        return {"choices": get_args(annotation)}
    return {"type": annotation, "metavar": {int: "N", float: "X"}.get(annotation, "TEXT")}


def _explained(error: argparse.ArgumentError) -> str:
    """Convert the message of argparse about an argument: what was given, and what is allowed."""
    text = error.message
    if choice := re.match(r"invalid choice: (.*) \(choose from (.*)\)", text):
        text = f"got {choice[1]}, allowed: {choice[2].replace(chr(39), '')}"
    elif value := re.match(r"invalid (\w+) value: (.*)", text):
        text = f"got {value[2]}, allowed: {'a whole number' if value[1] == 'int' else 'a number'}"
    elif text.startswith("expected"):
        text = "expects a value" if "one" in text else text
    return f"{error.argument_name}: {text}"


def _flag(word: str) -> str:
    return word.partition("=")[0]


def _is_value(words: Sequence[str], place: int) -> bool:
    """Return whether a word is the value of the flag before it."""
    return words[place - 1].startswith("--") and "=" not in words[place - 1] and not words[place].startswith("--")


def _end(words: Sequence[str], place: int) -> int:
    """Return the place after a flag and its value."""
    return place + 1 + (place + 1 < len(words) and _is_value(words, place + 1))


def _place_of(word: str, flags: Sequence[str], takes_path: bool) -> str:
    """Return the hint for a positional word that the verb does not take.

    Args:
        word: the word.
        flags: all flags of the verb.
        takes_path: whether the verb has positional arguments.
    """
    path = Path(word)
    if path.suffix in (".yaml", ".yml") and "--config" in flags:
        return f"did you mean --config {word}?"
    if "--data.dataset_path" in flags and (path.is_dir() or not takes_path):
        return f"did you mean --data.dataset_path {word}?"
    return "see --help"


def _unused(verb: str, key: str, groups: Sequence[str]) -> str:
    used = f"settings of {', '.join(groups)}" if groups else "none"
    return f"--{key}: {verb} does not use this setting, allowed: {used}"


def _wrong_settings(overrides: Mapping[str, str]) -> list[str]:
    """Return the messages of wrong values of settings."""
    try:
        Config().with_overrides(overrides)
    except ValueError as error:
        return str(error).splitlines()
    return []
