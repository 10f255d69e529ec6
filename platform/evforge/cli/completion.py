"""Completion of the `evforge` command in shells: verbs, flags, settings, choices, recipes and files."""

import argparse
from collections.abc import Callable, Mapping

from evforge.cli.docs import summary
from evforge.cli.parser import make_parser
from evforge.recipes import RECIPES

__all__ = ["completion_script"]


def completion_script(shell: str, verbs: Mapping[str, Callable]) -> str:
    """Return a script that completes the words of `evforge` commands.

    Args:
        shell: name of a shell, such as bash, zsh or fish.
        verbs: functions of the verbs by name.

    Raises:
        ModuleNotFoundError: the package shtab is not installed.
    """
    import shtab

    parser = argparse.ArgumentParser(prog="evforge", description="Event-camera object detection.")
    parser.add_argument("--version", action="store_true", help="show the version")
    parsers = parser.add_subparsers()
    for name, function in verbs.items():
        verb = make_parser(name, function, complete_config=_config())
        parsers.add_parser(name, help=summary(function), parents=[verb], conflict_handler="resolve")
    return shtab.complete(parser, shell=shell)


def _config() -> dict[str, object]:
    """Return how each shell completes `--config`: by the names of the recipes and by files."""
    names = " ".join(RECIPES)
    function = f'_evforge_config() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}'
    return {
        "bash": "_evforge_config",
        "zsh": f"{{compadd {names}; _files}}",
        "fish": f"{names} (__fish_complete_path)",
        "preamble": {"bash": function},
    }
